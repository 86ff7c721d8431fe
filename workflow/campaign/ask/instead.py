"""Another data set in a study's place where its own, of the user's, has not been prepared on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bnn.errors import UserError
from campaign.ask.datasets import called, is_prepared


def choose(values: dict[str, Any], origin: str, data_dir: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    """A campaign's content without keys `instead`; by study, a line for each that takes the data set given there.

    `origin` is the file and key path before its keys. Raises UserError for a data set that does not exist, and for one
    that is prepared and not the one that is meant: nothing is put in the place of that. Raises it, too, where what the
    study asks of predictions is changed and it asks for none. Mistakes are named also where nothing is replaced.
    """
    studies, said = {}, {}
    for name, given in values["studies"].items():
        study = {key: value for key, value in given.items() if key != "instead"}
        other = given.get("instead")
        where = f"{origin}studies.{name}"
        taken = _checked(study, other, f"{where}.instead") if other is not None else ""
        if taken and not is_prepared(study["dataset"], study.get("dataset_options", {}), where, data_dir):
            meant = called(study["dataset"], study.get("dataset_options", {}), where)
            study |= {"dataset": other["dataset"], "dataset_options": other.get("dataset_options", {})}
            study["settings"] = study.get("settings", {}) | other.get("settings", {})
            if asked := other.get("infer"):
                left_out = {key for key, value in asked.items() if value is None}
                study["infer"] = {key: value for key, value in (study["infer"] | asked).items() if key not in left_out}
            said[name] = f"{name}: {taken} in place of {meant}, which is not prepared here (bnn data prepare)"
        studies[name] = study
    return values | {"studies": studies}, said


def _checked(study: dict[str, Any], other: dict[str, Any], origin: str) -> str:
    """What the other data set is called. Raises UserError as `choose`."""
    if infer := other.get("infer"):
        if "infer" not in study:
            raise UserError(f"{origin}.infer: the study asks for no predictions")
        if ood := infer.get("ood"):
            called(ood["dataset"], ood.get("dataset_options", {}), f"{origin}.infer.ood")
    return called(other["dataset"], other.get("dataset_options", {}), origin)
