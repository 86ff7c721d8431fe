"""The sections `infer` and `prune` of a study: what is asked of the posteriors that its cells save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnn.errors import UserError
from campaign.ask.datasets import called
from campaign.names.cell import Cell, selects
from campaign.names.commands import INFER, PRUNE

COMMANDS = (INFER, PRUNE)  # of bnn, and the sections' names
FIT = "fit"  # the temperature that suits some images best


@dataclass(frozen=True)
class Sweep:
    """One way to prune: what a pruned weight is, where thresholds are taken, and what is removed."""

    semantics: str
    scope: str = "global"
    by: str = "weight"

    @property
    def word(self) -> str:
        """As one path component."""
        return f"{self.semantics}-{self.scope}-{self.by}"


@dataclass(frozen=True)
class Conditions:
    """How images are predicted: shifted (KIND:SEVERITY of `bnn infer --shift`) or not, and at which temperature.

    The temperature is a number or `fit`, as `bnn infer --temperature` takes it; None: 1. `members` are the posteriors
    that are mixed; 0: there is one.
    """

    shift: str | None = None
    temperature: str | None = None
    members: int = 0

    @property
    def word(self) -> str:
        """As one path component; empty for images as they are at temperature 1, by one posterior."""
        words = [f"ensemble-{self.members}"] if self.members else []
        words += [self.shift.replace(":", "-")] if self.shift else []
        return "_".join([*words, f"temperature-{self.temperature}"] if self.temperature else words)


AS_THEY_ARE = Conditions()


@dataclass(frozen=True)
class OtherImages:
    """Another data set, whose images the uncertainty is to tell from the held-out ones; all of its split where None."""

    dataset: str
    dataset_options: dict[str, Any]
    images: int | None = None

    @property
    def data(self) -> tuple[str, dict[str, Any]]:
        return self.dataset, self.dataset_options


@dataclass(frozen=True)
class AfterSection:
    """One section. `images` are all of the test split where None, `where` names the cells by values of the study's

    axes (all of them without it), `threads` is the site's cores where None. `percent` and `sweeps` are of pruning only,
    `kinds` and what follows of inference: `shift` and `temperature` ask for predictions besides those of the images as
    they are at temperature 1, `ensemble` for those of so many repeats' posteriors mixed, under each of these.
    """

    command: str
    origin: str
    draws: int
    images: int | None = None
    threads: int | None = None
    where: dict[str, list[Any]] | None = None
    percent: tuple[float, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    kinds: tuple[str, ...] = ("bnn",)
    shift: tuple[str, ...] = ()
    temperature: str | None = None
    temperature_images: int | None = None
    temperature_split: str | None = None
    ood: OtherImages | None = None
    ensemble: int = 0

    def selects(self, cell: Cell) -> bool:
        """Whether it asks for this cell of its study."""
        return cell.kind in self.kinds and selects(self.where or {}, cell.facts())

    def conditions(self, members: int = 0) -> list[Conditions]:
        """All under which it asks for predictions of so many; the first is as the images are, at temperature 1."""
        temperatures = (None, self.temperature) if self.temperature else (None,)
        return [
            Conditions(shift, temperature, members) for shift in (None, *self.shift) for temperature in temperatures
        ]


def parse_section(command: str, values: dict[str, Any] | None, study: str) -> AfterSection | None:
    """The section `command` of the study with origin `study`, None without one; its schema has been checked.

    Raises UserError when two sweeps are the same, for a temperature that is none, for images to fit a temperature that
    is not fitted or of which none is left, and for another data set that does not exist.
    """
    if values is None:
        return None
    origin = f"{study}.{command}"
    given = dict(values)
    sweeps = tuple(Sweep(**sweep) for sweep in given.pop("sweeps", ()))
    for index, sweep in enumerate(sweeps):
        if sweep in sweeps[:index]:
            raise UserError(f"{origin}.sweeps[{index}]: {sweep.word} is listed twice")
    for key in ("percent", "kinds", "shift"):
        if key in given:
            given[key] = tuple(given[key])
    if "temperature" in given:
        given["temperature"] = _temperature(given["temperature"], f"{origin}.temperature")
    for key in ("temperature_images", "temperature_split"):
        if key in given and given.get("temperature") != FIT:
            raise UserError(f"{origin}.{key}: there is no temperature: {FIT} that it is of")
    if given.get("temperature_split") == "test" and "images" not in given:
        raise UserError(f"{origin}.temperature_split: test images that are not predicted; say by images how many are")
    if ood := given.pop("ood", None):
        given["ood"] = OtherImages(**({"dataset_options": {}} | ood))
        called(given["ood"].dataset, given["ood"].dataset_options, f"{origin}.ood")
    return AfterSection(command, origin, sweeps=sweeps, **given)


def _temperature(value: str | float, origin: str) -> str:
    """As the command is told it: `fit`, or a number above 0 and not 1, which is what all images are predicted at."""
    if value == FIT:
        return FIT
    if value == 1:
        raise UserError(f"{origin}: at temperature 1 everything is predicted anyway; give another one, or {FIT}")
    return f"{float(value):g}"
