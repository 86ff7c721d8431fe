"""A percent sign in a log's path: what the script says and what the executor reads back is the same file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from campaign.render.scripts import TEMPLATES, _template
from snakemake_executor_plugin_batch_script.schedulers.slurm import Slurm


@pytest.mark.parametrize("path", ["/r/logs/mine%3Atiny.log", "/r/%j/100%%.log", "/r/plain.log", "/r/%"])
def test_the_log_is_the_file_that_the_script_means(path: str, tmp_path: Path) -> None:
    scheduler = _template("job").environment.from_string((TEMPLATES / "scheduler" / "slurm.sh.j2").read_text())
    text = scheduler.module.directives(  # type: ignore[attr-defined]
        SimpleNamespace(scheduler=SimpleNamespace(account="", options=[])),
        SimpleNamespace(nodes=1, clock="00:10:00", queue="q"),
        SimpleNamespace(per_machine=1, threads=1),
        Path(path),
        0,
    )
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\n{text}")
    assert f"#SBATCH --output={path.replace('%', '%%')}\n" in text
    assert Slurm().log(script, "12") == Slurm().log(script, None) == Path(path)
