"""A site's own directives: what the product sets itself is refused however it is spelt, everything else passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.site.directives import COBALT, DIALECTS, PBS, SLURM, check_options
from tests.support.messages import one_line

WHERE = "site.yaml: site.scheduler.options"
PASSING = {
    "slurm": [
        "--constraint=knl", "-C knl", "--clusters=beta", "-M beta", "--qos=high", "-q high", "--mem=0", "--gres=gpu:8",
        "--mail-type=END --mail-user=a@b", "--gpus=4", "-G 4", "--export=NONE", "--comment='two words'",
        "--nodelist n1", "--clusters all2,small",
        "--switches=1@10", "--reservation=r", "--begin=now+1hour", "-x n[1-3]", "--wait-all-nodes=1",
        "--hint=nomultithread",
        "--no-kill", "-L matlab", "--exclude=n1", "--mem 4G --qos x", "--dependency=singleton",
    ],
    "pbs": [
        "-l filesystems=home:eagle", "-lfilesystems=home", "-P project", "-W group_list=g", "-k doe", "-m abe -M a@b",
        "-V", "-v A=1,B=2", "-p 10", "-a 1200", "-W umask=022", "-l software=x",
    ],
    "cobalt": ["--attrs mcdram=cache:numa=quad", "--attrs=ssds=required", "-M a@b", "--env A=1:B=2",
               "--dependencies 1:2"],
}  # fmt: skip
REFUSED = {
    "slurm": [
        ("--job-name=mine", "names jobs"), ("-J mine", "names jobs"), ("-Jmine", "names jobs"),
        ("--job=x", "names jobs"),
        ("--output=/tmp/x", "output"), ("-o x", "output"), ("-e x", "output"), ("--err x", "output"),
        ("--array=1-9", "one script"), ("-a 1-9", "one script"), ("--nodes=4", "nodes"), ("-N4", "nodes"),
        ("--ntasks-per-node=2", "nodes"), ("-n 2", "nodes"), ("--time=1:00", "walltimes"), ("-t 5", "walltimes"),
        ("--partition debug", "queues"), ("-p debug", "queues"), ("--account=a", "scheduler.account"),
        ("-A a", "account"), ("--requeue", "again by itself"), ("--parsable", "id"), ("-W", "id"), ("--wait", "id"),
        ("--test-only", "id"),
        ("-Q", "id"), ("--chdir=/x", "folder"), ("-D /x", "folder"), ("--wrap=ls", "script"), ("-H", "held"),
        ("--hold", "held"), ("--exclusive=user", "nodes to itself"), ("-s", "nodes to itself"),
        ("--signal=USR1", "told"),
        ("--clusters=all", "one cluster"), ("--clusters ALL", "one cluster"), ("--clus all", "one cluster"),
        ("-M all", "one cluster"), ("-Mall", "one cluster"), ("-vM beta,all --qos x", "one cluster"),
        ("--mem=4G -J x", "names jobs"), ("-vHC knl", "held"), ("--qos high --output=x", "output"),
    ],
    "pbs": [
        ("-N x", "names jobs"), ("-Nx", "names jobs"), ("-o x", "output"), ("-e x", "output"), ("-j oe", "output"),
        ("-k oe", "output"), ("-R oe", "output"), ("-J 1-9", "one script"), ("-q debug", "queues"), ("-A a", "account"),
        ("-l select=4", "select"), ("-lselect=4:ncpus=2", "select"), ("-l walltime=1:00:00", "walltimes"),
        ("-l filesystems=home,walltime=1", "walltimes"), ("-l place=free", "itself"), ("-l nodes=2:ppn=4", "nodes"),
        ("-W block=true", "id"), ("-Wgroup_list=g,block=true", "id"), ("-W sandbox=PRIVATE", "folder"), ("-I", "id"),
        ("-X", "id"), ("-z", "id"), ("-r y", "again"), ("-h", "held"), ("-S /bin/csh", "script"), ("-Vh", "held"),
        ("-V -N x", "names jobs"),
    ],
    "cobalt": [
        ("-O x", "output"), ("-o x", "output"), ("-e x", "output"), ("--debuglog=x", "output"), ("-n 4", "nodes"),
        ("-t 10", "walltimes"), ("-q x", "queues"), ("-A x", "account"), ("--proj=x", "account"),
        ("--cwd /x", "folder"),
        ("--jobname=x", "names jobs"), ("-h", "held"), ("--held", "held"), ("--mode script", "script"), ("-I", "id"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "entry"), [(kind, entry) for kind, listed in PASSING.items() for entry in listed])
def test_what_is_the_sites_to_set_passes(kind, entry):
    check_options(kind, (entry,), WHERE)


@pytest.mark.parametrize(
    ("kind", "entry", "reason"), [(kind, *pair) for kind, listed in REFUSED.items() for pair in listed]
)
def test_what_the_product_sets_is_refused_by_key_with_what_to_use(kind, entry, reason):
    with pytest.raises(UserError, match=reason) as error:
        check_options(kind, (entry,), WHERE)
    assert str(error.value).startswith(f"{WHERE}[0]: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "entry",
    ["--mem=1\n#SBATCH --hold", "--mem=1\r--hold", "--mem=1\u2028x", "a b", "'--mem=1", "--mem=1 # --x", "-", "#", " "],
)
def test_what_is_not_one_line_of_options_is_refused(entry):
    with pytest.raises(UserError, match=r"options\[1\]: ") as error:
        check_options("slurm", ("--qos=x", entry), WHERE)
    assert len(str(error.value).splitlines()) == 1


def test_a_machine_without_a_scheduler_has_no_directives():
    with pytest.raises(UserError, match="kind none has no directives"):
        check_options("none", ("--mem=1",), WHERE)


def spellings(dialect):
    """Ways to write one refused option that getopt_long takes for it, beside others that are the site's."""
    short = {name: letter for letter, name in dialect.short.items()}

    def write(name, length, value, before, after, style):
        letter = short.get(name)
        if letter and style:
            takes = letter in dialect.values
            word = f"-{letter}{value}" if takes and style == 1 else f"-{letter} {value}" if takes else f"-{letter}"
        else:
            part = name[: max(length, 1)]
            if part in dialect.passing:
                part = name
            word = f"--{part}={value}" if style == 1 else f"--{part} {value}" if style == 2 else f"--{part}"
        return " ".join(filter(None, [before, word, after]))

    others = st.sampled_from(["", "--comment=x", "--comment 'a b'", "-v", "--verbose"])
    return st.builds(
        write, st.sampled_from(sorted(dialect.refused)), st.integers(1, 20), st.sampled_from(["x", "1", "a=b", "/d/e"]),
        others, others, st.integers(0, 2),
    )  # fmt: skip


@given(spellings(SLURM))
def test_any_spelling_of_slurms_is_refused(entry):
    with pytest.raises(UserError, match="is not the site's to set"):
        check_options("slurm", (entry,), WHERE)


@given(spellings(COBALT))
def test_any_spelling_of_cobalts_is_refused(entry):
    with pytest.raises(UserError, match="is not the site's to set"):
        check_options("cobalt", (entry,), WHERE)


@given(st.sampled_from(sorted(PBS.refused)), st.sampled_from(["", " "]), st.sampled_from(["x", "1-9"]), st.booleans())
def test_any_spelling_of_pbss_is_refused(letter, gap, value, behind):
    entry = f"-{'V' if behind else ''}{letter}" + (gap + value if letter in PBS.values else "")
    with pytest.raises(UserError, match="is not the site's to set"):
        check_options("pbs", (entry,), WHERE)


@given(st.sampled_from(sorted(DIALECTS)), st.text(max_size=12))
def test_any_text_passes_as_one_plain_line_or_is_refused_in_one(kind, text):
    try:
        check_options(kind, (text,), WHERE)
    except UserError as error:
        one_line(error)
    else:
        assert text.isascii()
        assert text.isprintable()
        assert text.lstrip().startswith(("-", "'", '"', "\\"))
