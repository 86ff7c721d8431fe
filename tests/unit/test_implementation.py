"""Which CNN baseline cnn-best becomes, and what a run's rows name."""

import sys
from types import ModuleType

import pytest
from torch import nn

from bnn.engine import SingleEngine
from bnn.errors import UserError
from bnn.settings import TrainSettings
from bnn.training.choice import choose
from bnn.training.implementation import implementation_of, with_kernels

BEST = TrainSettings(kind="cnn", baseline="cnn-best")


class OtherRank(SingleEngine):
    """A rank whose times nobody asks for: rank 0's come back."""

    def gather(self, value, label):
        return [{"cnn-compiled": 1.0, "cnn-kernels": 2.0}, value]


def timer(**seconds):
    """Seconds by baseline (- for _); a baseline without an entry cannot run here."""

    def seconds_of(settings):
        name = settings.baseline.replace("-", "_")
        if name not in seconds:
            raise UserError(f"{settings.baseline}: not here")
        return seconds[name]

    return seconds_of


@pytest.mark.parametrize(
    ("seconds", "chosen", "tried"),
    [
        ({"cnn_compiled": 2.0, "cnn_kernels": 1.0}, "cnn-kernels", {"cnn-compiled", "cnn-kernels"}),
        ({"cnn_compiled": 1.0, "cnn_kernels": 2.0}, "cnn-compiled", {"cnn-compiled", "cnn-kernels"}),
        ({"cnn_compiled": 2.0, "cnn": 1.0}, "cnn", {"cnn-compiled", "cnn"}),  # no kernels
        ({"cnn": 2.0, "cnn_kernels": 1.0}, "cnn-kernels", {"cnn", "cnn-kernels"}),  # no compiler
        ({"cnn": 1.0}, "cnn", {"cnn"}),
    ],
)
def test_the_fastest_that_works_is_chosen(seconds, chosen, tried):
    choice = choose(BEST, SingleEngine(), timer(**seconds), None)
    assert choice.settings == BEST.model_copy(update={"baseline": chosen})
    assert set(choice.seconds) == tried


def test_rank_0_decides_for_all():
    choice = choose(BEST, OtherRank(), timer(cnn_compiled=2.0, cnn_kernels=1.0), None)
    assert choice.settings.baseline == "cnn-compiled"


def test_kernels_are_not_tried_where_they_do_not_fit():
    settings = TrainSettings(kind="cnn", baseline="cnn-best", precision="float64")
    choice = choose(settings, SingleEngine(), timer(cnn_compiled=3.0, cnn=2.0, cnn_kernels=1.0), None)
    assert choice.settings.baseline == "cnn"


def test_a_resumed_run_keeps_its_baseline_and_other_runs_try_nothing():
    assert choose(BEST, SingleEngine(), timer(), "cnn-compiled").settings.baseline == "cnn-compiled"
    for settings in (TrainSettings(kind="cnn"), TrainSettings(kind="bnn", baseline="cnn-best")):
        assert choose(settings, SingleEngine(), timer(), "cnn").settings is settings


@pytest.fixture
def kernels(monkeypatch):
    """Puts modules with these contents in the kernels' place; None: as if they could not be imported."""

    def put(name, **content):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module if content else None)

    return put


def test_rows_name_flipout_by_whether_its_kernels_run(kernels):
    flipout, reference = TrainSettings(), TrainSettings(estimator="flipout-reference")
    for used, name in ((True, "bnn-flipout"), (False, "bnn-flipout-torch")):
        kernels("bnn.layers.flipout_fast", kernels_used=lambda model, used=used: used)
        assert implementation_of(flipout, nn.Identity()) == name
        assert implementation_of(reference, nn.Identity()) == "bnn-flipout-reference"
        assert implementation_of(BEST, nn.Identity()) == "cnn-best"
    kernels("bnn.layers.flipout_fast")
    assert implementation_of(flipout, nn.Identity()) == "bnn-flipout-torch"


def test_a_baseline_without_its_kernels_is_a_users_error(kernels):
    kernels("bnn.layers.kernel_conv", use_kernels=nn.Sequential)
    assert isinstance(with_kernels(nn.Identity()), nn.Sequential)
    kernels("bnn.layers.kernel_conv")
    with pytest.raises(UserError, match="baseline cnn-kernels: the kernels cannot be loaded"):
        with_kernels(nn.Identity())
