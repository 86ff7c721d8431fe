"""No text from outside runs in a job's script, whatever a site, a campaign or the environment hold."""

import copy
import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment

from bnn.errors import UserError
from campaign.io.schema import SCHEMAS, check
from campaign.names.layout import Layout
from campaign.render.scripts import TEMPLATES, Place, render_jobs
from campaign.render.shelltext import comment, directive, name_only, plain, printed, quoted
from campaign.site.site import SCRIPT_NAMES, parse_site
from tests.support.campaigns import CAMPAIGN, SITE, campaign, changed, site
from tests.support.messages import one_line

HOSTILE = [
    "'; touch CANARY; '", '"; touch CANARY; "', "$(touch CANARY)", "`touch CANARY`", "\ntouch CANARY\n",
    "\r\ntouch CANARY",
    "x\u2028touch CANARY", "x\x85touch CANARY", "x\x0btouch CANARY\x0c", "-touch CANARY", "#\ntouch CANARY #",
    "a && touch CANARY",
    "a\\\ntouch CANARY", "${x:-$(touch CANARY)}", "<(touch CANARY)", "\\'; touch CANARY; \\'", "!touch",
    "é\n#SBATCH --hold", "x\n#BATCH_SCRIPT --pack /x --nodes 1 --minutes 1",
    "x\n#PBS -h", "x\n#COBALT -h", "{{ 1 }}", "&lt;\"&", "proj1\ntouch CANARY #",
]  # fmt: skip
TEXT = st.sampled_from(HOSTILE) | st.text(max_size=8) | st.builds(lambda a, b: a + b, *[st.sampled_from(HOSTILE)] * 2)
SCHEDULED = {
    "queues": [{"name": "debug", "max_nodes": 8, "max_minutes": 60}], "walltimes": [{"minutes": 30}], "packing": {},
}  # fmt: skip
# Every place of a site file that holds text.
PLACES = [
    "site/title", "site/node_label", "site/name", "site/mpi_library", "site/locks",
    "site/hardware/gpu", "site/hardware/cpu",
    "site/hardware/interconnect", "site/scheduler/account", "site/scheduler/select", "site/scheduler/options/0",
    "site/scheduler/queues/0/name", "site/launcher/options/0", "site/environment/modules/0",
    "site/environment/prepare/0", "site/environment/variables/X", "site/profiler/library",
    "site/profiler/environment/Y", "site/grid/tiny/studies/speed/description",
]  # fmt: skip
NAMES = ["site/environment/variables", "site/profiler/environment"]  # whose keys are text, too


def full_site(kind):
    """A site that uses every key with text."""
    scheduler = {"kind": kind} | (SCHEDULED if kind != "none" else {})
    if kind == "pbs":
        scheduler["select"] = "system=x"
    values = changed(SITE, "site/scheduler", scheduler)
    if kind == "cobalt":
        values["site"]["launcher"]["kind"] = "aprun"
    environment = {"modules": ["gcc/12"], "prepare": ["/dev/null"], "variables": {"X": "x"}}
    for key, value in [
        ("environment", environment), ("profiler", {"kind": "site", "library": "/opt/l.so", "environment": {"Y": "y"}}),
    ]:  # fmt: skip
        values["site"][key] = value
    values["site"]["grid"] = {"tiny": {"studies": {"speed": {}}}}
    return values


def put(values, path, value):
    """As `changed`, with lists and missing sections made where the path needs them."""
    values = copy.deepcopy(values)
    place, parts = values, path.split("/")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(place, list):
            index = int(part)
            if len(place) <= index:
                place.append({})
            if following is None:
                place[index] = value
            else:
                place = place[index]
        elif following is None:
            place[part] = value
        else:
            place = place.setdefault(part, [] if following.isdigit() else {})
    return values


def texts_in(schema, path=()):
    """Places of a schema whose values may be text, as paths with 0 for items and * for any key."""
    if "$ref" in schema:
        schema = ROOT_SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for key, inner in schema.get("properties", {}).items():
        yield from texts_in(inner, (*path, key))
    for word, inner in (("0", schema.get("items")), ("*", schema.get("additionalProperties"))):
        if isinstance(inner, dict):
            yield from texts_in(inner, (*path, word))
    kinds = schema.get("type", [])
    if "string" in ([kinds] if isinstance(kinds, str) else kinds) and "enum" not in schema:
        yield "/".join(path)


def load_schema():
    return yaml.safe_load((SCHEMAS / "site.schema.yaml").read_text())


ROOT_SCHEMA = load_schema()
# Checked by other means than their text: they name nothing that a script holds, or must be one of a list.
NUMBERS_OF_JOBS = ("site/scheduler/walltimes/0/where", "minutes", "max_minutes")


def test_every_text_of_a_site_file_is_tried():
    found = {path for path in texts_in(ROOT_SCHEMA) if not any(part in path for part in NUMBERS_OF_JOBS)}
    tried = {re.sub(r"/(X|Y)$", "/*", path) for path in PLACES if "/grid/" not in path}
    assert found <= tried


def commands_run(folder, texts):
    """Run scripts in a folder whose programs do nothing, and say what was left that they should not leave."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("bnn", "mpiexec", "aprun", "srun", "python", "modulecmd"):
        (programs / name).write_text("#!/bin/bash\nexit 0\n")
        (programs / name).chmod(0o755)
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "BASH_FUNC_module%%": "() { :; }", "HOSTNAME": "h",
    }  # fmt: skip
    for text in texts:
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr
        subprocess.run(
            ["bash"], input=text, text=True, capture_output=True, cwd=folder, env=environment, timeout=30, check=False
        )
    return [path for path in folder.rglob("*CANARY*") if path.is_file() and path.name == "CANARY"]


def directives(text, mark):
    """The lines that a scheduler reads: those with its mark in the block of comments at the top, and anywhere else."""
    return [line for line in re.split(r"\r\n|[\n\r\v\f\x85\u2028\u2029]", text) if line.startswith(mark)]


MARKS = {"none": "#NONE", "slurm": "#SBATCH", "pbs": "#PBS", "cobalt": "#COBALT"}


def rendered(values, folder, campaign_values=CAMPAIGN):
    found = campaign(campaign_values, site(values))
    layout = Layout(folder / "results", "toy")
    render_jobs(found, layout, Place(folder, folder / "bin", folder / "data"))
    scripts = sorted(layout.jobs.glob("*.sh"))
    kinds = {re.sub(r"\d+", "0", path.name): path for path in scripts}
    return [path.read_text() for path in kinds.values()][:3]


SLOW = settings(max_examples=15, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", MARKS)
def test_no_text_of_a_site_file_runs_or_adds_a_directive(kind, monkeypatch):
    monkeypatch.delenv("CAMPAIGN_ACCOUNT", raising=False)
    base = changed(CAMPAIGN, "nodes", [1])
    with tempfile.TemporaryDirectory() as name:
        expected = len(directives(rendered(full_site(kind), Path(name), base)[0], MARKS[kind]))

    @SLOW
    @given(st.sampled_from(PLACES), TEXT)
    def check_one(path, text):
        values = put(full_site(kind), path, text)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                texts = rendered(values, folder, base)
            except UserError as error:
                one_line(error)
                return
            assert commands_run(folder, texts) == []
            more = path in ("site/scheduler/account", "site/scheduler/options/0") and kind != "none"
            assert len(directives(texts[0], MARKS[kind])) == expected + more
            assert all(len(directives(text, "#BATCH_SCRIPT")) <= 1 for text in texts)

    check_one()


FREE = [
    "site/title", "site/launcher/options/0", "site/environment/modules/0", "site/environment/variables/X",
    "site/profiler/environment/Y", "site/grid/tiny/studies/speed/description",
]  # fmt: skip


@pytest.mark.parametrize("kind", MARKS)
def test_every_hostile_text_is_a_word_in_every_place_that_takes_any(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("CAMPAIGN_ACCOUNT", raising=False)
    (tmp_path / "plain").mkdir()
    base = changed(CAMPAIGN, "nodes", [1])
    expected = len(directives(rendered(full_site(kind), tmp_path / "plain", base)[0], MARKS[kind]))
    for index, text in enumerate(HOSTILE):
        values = full_site(kind)
        for path in FREE:
            values = put(values, path, text)
        folder = tmp_path / str(index)
        folder.mkdir()
        texts = rendered(values, folder, base)
        assert commands_run(folder, texts[:1]) == []
        assert len(directives(texts[0], MARKS[kind])) == expected


@SLOW
@given(st.sampled_from(NAMES), TEXT.filter(lambda text: not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text)))
def test_a_variables_name_is_a_name(path, text):
    values = full_site("slurm")
    section = values
    for part in path.split("/"):
        section = section[part]
    section[text] = "x"
    with pytest.raises(UserError):
        parse_site(values, "site.yaml")


@SLOW
@given(TEXT)
def test_no_text_of_a_campaign_file_runs(text):
    study = CAMPAIGN["studies"]["speed"]
    for values in (
        CAMPAIGN | {"name": text},
        CAMPAIGN | {"studies": {text: study}},
        CAMPAIGN | {"variants": {text: {}}, "studies": {"speed": study | {"variants": [text]}}},
        CAMPAIGN | {"studies": {"speed": study | {"models": [text]}}},
        CAMPAIGN | {"studies": {"speed": study | {"dataset": text, "dataset_options": {}}}},
        CAMPAIGN | {"studies": {"speed": study | {"description": text or "x"}}},
        CAMPAIGN | {"studies": {"speed": study | {"dataset_options": {"size": 64, text: text}}}},
    ):
        with tempfile.TemporaryDirectory() as name:
            try:
                texts = rendered(full_site("slurm"), Path(name), changed(values, "nodes", [1]))
            except UserError as error:
                one_line(error)
                continue
            assert commands_run(Path(name), texts) == []


@SLOW
@given(TEXT.filter(lambda text: text and "\0" not in text and not re.search("[\ud800-\udfff]", text)))
def test_an_account_of_the_environment_is_checked_as_the_files(text):
    before = os.environ.get("CAMPAIGN_ACCOUNT")
    os.environ["CAMPAIGN_ACCOUNT"] = text
    try:
        found = parse_site(full_site("slurm"), "site.yaml")
    except UserError as error:
        one_line(error)
        del os.environ["CAMPAIGN_ACCOUNT"]
        with pytest.raises(UserError):
            parse_site(put(full_site("slurm"), "site/scheduler/account", text), "site.yaml")
    else:
        assert found.scheduler.account == text
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text)
    finally:
        os.environ.pop("CAMPAIGN_ACCOUNT", None)
        if before is not None:
            os.environ["CAMPAIGN_ACCOUNT"] = before


@pytest.mark.parametrize("account", ["proj1\ntouch ran #", "proj1\n", " proj1", "a b", "-x", "a;b", "proj\u2028"])
def test_an_account_with_a_line_break_is_refused_in_one_line(account, monkeypatch):
    monkeypatch.setenv("CAMPAIGN_ACCOUNT", account)
    with pytest.raises(UserError, match=r"^environment variable CAMPAIGN_ACCOUNT: .* is not a name") as error:
        parse_site(full_site("pbs"), "site.yaml")
    assert len(str(error.value).splitlines()) == 1
    assert parse_site(full_site("none"), "site.yaml").scheduler.account == "", "without a scheduler none is read"


@pytest.mark.parametrize("folder", ["/d\ntouch x", "/d\udcff", "/d\x1b[0m"])
def test_a_data_folder_that_cannot_be_printed_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BNN_DATA_DIR", folder)
    with pytest.raises(UserError, match=r"^environment variable BNN_DATA_DIR: "):
        Place.here(Layout(tmp_path, "toy"))


def template(text):
    return Environment(loader=DictLoader({"x": text}), autoescape=True, finalize=printed).get_template("x")


@pytest.mark.parametrize("text", ["{{ x }}", "{{ x ~ 'a' }}", "{{ 'a' if x else 'b' }}", "{{ x | upper }}"])
def test_a_template_that_forgets_a_filter_fails(text):
    with pytest.raises(TypeError, match="without a filter"):
        template(text).render(x="text")


def test_no_template_calls_anything_safe_by_itself():
    """`| safe` and autoescape blocks would go round the check."""
    for file in TEMPLATES.rglob("*.sh.j2"):
        assert not re.search(r"\|\s*safe\b|autoescape", file.read_text()), file


def test_filters_say_what_they_let_through():
    assert quoted(["a b", "c'd", ""]) == "'a b' 'c'\"'\"'d' ''"
    assert comment("a\nb\u2028c") == "a b c"
    assert plain("a-b_c.d/e:f=g,h@i%j+k")
    assert directive("--x='a b'")
    assert name_only("A_1")
    for check_text, wrong in [(plain, "a b"), (plain, "$x"), (plain, "a\n"), (directive, "a\nb"), (name_only, "A\n"),
                              (name_only, "1A"), (quoted, "a\0b"), (quoted, "\ud800")]:  # fmt: skip
        with pytest.raises(UserError):
            check_text(wrong)


def test_variables_of_the_scripts_themselves_cannot_be_set():
    text = "\n".join(file.read_text() for file in TEMPLATES.rglob("*.sh.j2") if file.name != "pack.sh.j2")
    found = set(re.findall(r"^\s*(?:for |local )?([a-z_]+)(?:=|\+=| in )", text, re.MULTILINE))
    found |= set(re.findall(r"\b([a-z_]+)=\$\(", text)) | {"said"}
    assert found <= SCRIPT_NAMES
    for word in ("log", "status", "UID"):
        with pytest.raises(UserError, match=rf"site.environment.variables.{word}: a variable of the job's script"):
            site(changed(SITE, "site/environment", {"variables": {word: "x"}}))


def test_whole_numbers_are_written_whole():
    with pytest.raises(UserError, match=r"walltimes\[0\].minutes: expected integer or string, not 480.0"):
        check(put(full_site("slurm"), "site/scheduler/walltimes/0/minutes", 480.0), "site", "site.yaml")
