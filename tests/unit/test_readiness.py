"""What is refused before the first job of a campaign starts."""

import sys
from pathlib import Path

import pytest
import yaml

from campaign.plan.campaign import load_campaign
from campaign.run.readiness import EXECUTOR, executor_refusal, unusual
from campaign.site.site import load_site

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.parent for path in ROOT.glob("profiles/*/site.yaml"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_every_profile_names_the_executor_of_its_sites_scheduler(profile: Path) -> None:
    options = yaml.safe_load((profile / "config.yaml").read_text())
    asked = options["executor"], options["batch-script-scheduler"]
    assert executor_refusal(load_site(profile), *asked) == ""
    assert options["keep-incomplete"] is True, "else Snakemake deletes the record of a job that fails or is refused"


@pytest.mark.parametrize("asked", [("local", ""), (EXECUTOR, "none"), ("slurm", "")])
def test_another_executor_is_refused_in_one_line_that_names_the_profile(asked: tuple[str, str]) -> None:
    why = executor_refusal(load_site(ROOT / "profiles" / "slurm"), *asked)
    assert why.startswith(str(ROOT / "profiles" / "slurm" / "config.yaml"))
    assert "\n" not in why
    assert f"{EXECUTOR}-scheduler: slurm, not by executor: {asked[0]}" in why


@pytest.mark.parametrize(
    ("profile", "forced", "jobs", "said"),
    [
        ("dgx", False, sys.maxsize, []),
        ("dgx", True, sys.maxsize, ["--force"]),
        ("dgx", False, 4, ["--jobs 4"]),
        ("theta", False, 4, []),  # as many as the user wants at once
    ],
)
def test_options_that_do_not_do_here_what_they_do_elsewhere_are_said(
    profile: str, forced: bool, jobs: int, said: list[str]
) -> None:
    campaign = load_campaign(ROOT / "config.yaml", load_site(ROOT / "profiles" / profile))
    lines = unusual(forced, jobs, campaign)
    assert [line[: len(start)] for line, start in zip(lines, said, strict=True)] == said
