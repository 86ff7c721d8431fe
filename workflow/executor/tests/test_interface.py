"""The interface's own tests of an executor, with scripts in place of their rules' commands."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from snakemake.common.tests import TestWorkflowsLocalStorageBase
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_batch_script import ExecutorSettings

COMMANDS = {
    "test1.out": "touch test1.out",
    "test2.out": "cp test1.out test2.out",
    "test3.out": "cp test2.out test3.out",
    "somedir1.out": "mkdir -p res && touch res/somedir1.out",
    "subdir.out": "mkdir -p res/somedir2 && touch res/somedir2/subdir.out",
}


def with_scripts(folder: Path) -> None:
    """Rewrite a test's Snakefile: each rule names a script that does what its command does."""
    lines = []
    for line in (folder / "Snakefile").read_text().splitlines():
        if line.startswith("rule all"):
            lines += [line, "    localrule: True"]
        elif line.strip() == "resources:":
            lines.append('    resources: mem="5MB", batch_script=script_of("test3.out")')
        elif line.strip() == 'mem="5MB"':
            continue
        elif line.startswith("rule "):
            output = {"a": "test1.out", "b": "test2.out", "d": "res/{somewildcard}.out"}.get(line.split()[1][:-1])
            lines.append(line)
            if output:
                lines.append(f'    resources: batch_script=script_of("{output}")')
        else:
            lines.append(line)
    head = (
        "from pathlib import Path\n\ndef script_of(output):\n"
        "    return lambda wildcards: f'jobs/{Path(output.format(**wildcards)).name}.sh'\n\n"
    )
    (folder / "Snakefile").write_text(head + "\n".join(lines) + "\n")
    (folder / "jobs").mkdir()
    for output, command in COMMANDS.items():
        (folder / "jobs" / f"{output}.sh").write_text(f"{command}\n")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Snakemake, run in this process, changes the folder and takes signals."""
    folder, handler = Path.cwd(), signal.getsignal(signal.SIGTERM)
    yield
    os.chdir(folder)
    signal.signal(signal.SIGTERM, handler)


class TestScripts(TestWorkflowsLocalStorageBase):
    __test__ = True
    test_group_workflow = None  # see below

    def get_executor(self) -> str:
        return "batch-script"

    def get_executor_settings(self) -> ExecutorSettings:
        return ExecutorSettings(scheduler="none", retries=0, poll=0.2)

    def _copy_test_files(self, test_path: Path, tmp_path: Path) -> None:
        shutil.copytree(test_path, tmp_path)
        with_scripts(tmp_path)

    @pytest.fixture(autouse=True)
    def look(self, tmp_path: Path) -> Iterator[None]:
        """All that the workflow promises is there at the end."""
        yield
        if self.expect_exception is None:
            made = {str(path.relative_to(tmp_path / "simple")) for path in (tmp_path / "simple").rglob("*.out")}
            assert made == {"test1.out", "test2.out", "test3.out", "res/somedir1.out", "res/somedir2/subdir.out"}


class TestGroups(TestScripts):
    """A group of jobs is refused."""

    expect_exception = WorkflowError
    test_simple_workflow = None
    test_group_workflow = TestWorkflowsLocalStorageBase.test_group_workflow
