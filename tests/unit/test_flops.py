"""FLOPs: formulae against torch's own count, the models' known costs, the paper's "FLOP rates" to the last digit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from bnn import kernels
from bnn.bench.implementations import BEST, OURS, PEERS
from bnn.errors import UserError
from bnn.flops.formulae import (
    FORMS,
    IMPLEMENTATIONS,
    OPTIMIZERS,
    form_of,
    implementation_flops,
    network_flops,
    paper_flop_rate,
    step_flops,
)
from bnn.flops.peak import CONVOLUTIONS, GEMM_SIZES, Peak, gemm_peak
from bnn.layers.convert import convert
from bnn.layers.kernel_conv import use_kernels
from bnn.models.architectures import ARCHITECTURES, PAPER_INPUT, resolve
from bnn.models.build import build_model
from bnn.models.describe import INPUT_SHAPES, describe
from bnn.models.ops import Conv
from campaign.results.report import published
from tests.support.count_flops import OPERATOR_FLOPS, count_flops

ESTIMATORS = [
    ("cnn", ""),
    ("bnn", "flipout-reference"),
    ("bnn", "reparameterization"),
    ("bnn", "local-reparameterization"),
]


@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize(("kind", "estimator"), ESTIMATORS)
def test_formulae_are_what_torch_counts(model: str, kind: str, estimator: str) -> None:
    images = 2
    shape = PAPER_INPUT[model]
    description = describe(model, kind, shape)
    network = build_model(model, kind, input_shape=shape, classes=10, estimator=estimator or "flipout")
    counted = count_flops(network, torch.rand(images, *shape))
    stated = implementation_flops(description, f"bnn-{estimator}" if estimator else "cnn")
    assert stated is not None
    assert counted.forward == images * stated.forward
    assert counted.backward == images * stated.backward
    assert counted.total_per_image == stated.total


@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["bnn", "cnn"])
def test_formulae_are_what_is_counted_of_the_kernels(model: str, kind: str) -> None:
    if not kernels.available():
        pytest.skip("the kernels are not built, or too narrow to be used here")
    if not torch._C._dispatch_has_kernel_for_dispatch_key("bnn_kernels::conv", "CPU"):
        pytest.xfail("the kernels' operators are registered for every key, so that torch's counter does not see them")
    images, shape = 2, INPUT_SHAPES[model]
    network = build_model(model, kind, input_shape=shape, classes=10).to(memory_format=torch.channels_last)
    if kind == "cnn":
        network = use_kernels(network)
    counted = count_flops(network, torch.rand(images, *shape))
    stated = implementation_flops(describe(model, kind, shape), "bnn-flipout" if kind == "bnn" else "cnn-kernels")
    assert stated is not None
    assert (counted.forward, counted.backward) == (images * stated.forward, images * stated.backward)
    ours = any(name.startswith("bnn_kernels") for name in counted.operations)
    assert ours is (model != "fc" and (kind, model) != ("cnn", "conv")), "fc has no convolution, conv no small map"


def test_operators_of_the_kernels_cost_what_the_formulae_of_a_layer_say() -> None:
    (row,) = [row for row in describe("resnet18", "bnn").rows if row.module == "conv2_1"]  # stride 2: 16x16 from 32x32
    images, x, mu, y = 3, (3, 64, 32, 32), (128, 64, 3, 3), (3, 128, 16, 16)
    flipout, plain = FORMS["per-example"], FORMS["conventional"]
    for form, signs in ((flipout, (3, 64)), (plain, None)):
        delta, rest = (mu if signs else None), (signs, signs)
        made = [
            OPERATOR_FLOPS["conv"](x, mu, delta, *rest, None, (2, 2), (1, 1), (1, 1), out_shape=y),
            OPERATOR_FLOPS["conv_input_gradient"](y, mu, delta, *rest, (32, 32), (2, 2), (1, 1), (1, 1), out_shape=x),
            OPERATOR_FLOPS["conv_weight_gradient"](x, y, *rest, (3, 3), (2, 2), (1, 1), (1, 1), out_shape=(mu, mu)),
        ]
        passes = (form.forward, form.input_gradient, form.weight_gradient)
        assert made == [images * one.flops(row, padding=True) for one in passes]


@pytest.mark.parametrize("model", ["resnet18", "conv"])
def test_a_gradient_of_the_images_is_that_of_the_layers_that_read_them(model: str) -> None:
    shape = PAPER_INPUT[model]
    network = build_model(model, "cnn", input_shape=shape, classes=10, width=0.25)
    first = describe(model, "cnn", shape, width=0.25).rows[1].macs
    images = torch.rand(2, *shape)
    without = count_flops(network, images).backward
    assert count_flops(network, images.requires_grad_()).backward == without + 2 * 2 * first


@pytest.mark.parametrize(("model", "million"), [("vgg16", 228), ("resnet18", 258)])
def test_the_models_cost_what_is_known(model: str, million: int) -> None:
    conventional = network_flops(describe(model, "cnn"), "conventional")
    assert round(conventional.forward / 2e6) == million
    # three passes, but for the input gradient of the images' layer
    assert conventional.total == 3 * conventional.forward - 2 * describe(model, "cnn").rows[1].macs
    assert network_flops(describe(model, "bnn"), "two-convolutions").total == 2 * conventional.total


def test_per_example_weights_cost_one_convolution_and_what_forms_them() -> None:
    description = describe("vgg16", "bnn")
    conventional, ours = (network_flops(description, form) for form in ("conventional", "per-example"))
    weights = description.kernel_weights
    first = next(row for row in description.rows if row.kernel_weights)
    assert ours.forward - conventional.forward == 2 * weights
    assert ours.input_gradient - conventional.input_gradient == 2 * (weights - first.kernel_weights)
    assert ours.weight_gradient - conventional.weight_gradient == 3 * weights
    assert ours.total < 1.06 * conventional.total


def test_a_layer_may_have_a_form_of_its_own() -> None:
    description = describe("vgg16", "bnn")
    row = next(row for row in description.rows if row.module == "conv5_2")
    mixed = network_flops(description, "per-example", {"conv5_2": "two-convolutions-one-gradient"})
    whole = network_flops(description, "per-example")
    assert mixed.forward - whole.forward == 2 * row.macs - 2 * row.kernel_weights
    assert mixed.weight_gradient == whole.weight_gradient


def test_dense_layers_form_no_weights() -> None:
    description = describe("fc", "bnn", (1, 28, 28))
    assert implementation_flops(description, "bnn-flipout") == network_flops(description, "two-convolutions")
    forced = {row.module: "per-example" for row in description.rows if row.kernel_weights}
    assert implementation_flops(description, "bnn-flipout", forced) == network_flops(description, "per-example")


def test_taps_on_padding_are_what_a_convolution_of_ones_does_not_see() -> None:
    for model, shape in INPUT_SHAPES.items():
        for row, node in zip(describe(model, "cnn", shape).rows, resolve(model, shape, 10), strict=True):
            if not isinstance(node.op, Conv):
                assert row.padding_macs == 0
                continue
            channels, *size = node.in_shapes[0]
            ones, kernel = torch.ones(1, 1, *size), torch.ones(1, 1, node.op.kernel, node.op.kernel)
            seen = functional.conv2d(ones, kernel, stride=node.op.stride, padding=node.op.padding).sum().item()
            assert row.macs - row.padding_macs == seen * channels * node.op.channels


def test_an_implementation_is_known_however_it_is_compiled() -> None:
    names = (
        "cnn-compiled",
        "cnn-plain-compiled",
        "bnn-flipout-torch-bfloat16",
        "bnn-flipout-reference-compiled-bfloat16",
    )
    assert [form_of(name) for name in names] == ["conventional"] * 2 + ["two-convolutions"] * 2
    assert {form_of(name) for name in (*OURS, BEST, *PEERS)} <= set(FORMS)


def test_slips_are_named() -> None:
    description = describe("fc", "bnn", (1, 28, 28))
    with pytest.raises(UserError, match="form winograd: unknown"):
        network_flops(description, "winograd")
    with pytest.raises(UserError, match="model fc has no layer conv1 with a kernel"):
        network_flops(description, "per-example", {"conv1": "per-example"})
    assert implementation_flops(description, "somebody-elses") is None
    assert set(IMPLEMENTATIONS.values()) <= set(FORMS)


@pytest.mark.parametrize(("model", "kind"), published.FLOP_RATE)
def test_the_papers_flop_rates_to_the_last_printed_digit(model: str, kind: str) -> None:
    rate = paper_flop_rate(describe(model, kind))
    assert f"{rate / 1e6:.2f}" == f"{published.FLOP_RATE[model, kind]:.2f}"


def test_the_papers_flop_rates_know_no_convolution() -> None:
    """An image four times as large costs four times as much; the paper's count stays."""
    small, large = (describe("resnet18", "bnn", (3, side, side)) for side in (32, 64))
    assert paper_flop_rate(small) == paper_flop_rate(large)
    assert network_flops(large, "conventional").forward > 3.9 * network_flops(small, "conventional").forward


def test_what_a_step_costs_whatever_its_batch() -> None:
    cnn, bnn = (describe("fc", kind, (1, 28, 28)) for kind in ("cnn", "bnn"))
    assert step_flops(cnn, bayesian=False, optimizer="rmsprop") == OPTIMIZERS["rmsprop"] * cnn.trainable
    extra = step_flops(bnn, bayesian=True) - OPTIMIZERS["adam"] * bnn.trainable
    assert extra == 29 * bnn.kernel_weights


class Own(nn.Module):
    """A user's network: attention, which no formula here knows, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.project = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x) + self.project(x)
        return self.head(y)


@pytest.mark.parametrize("estimator", [None, "flipout-reference"])
def test_a_users_model_is_counted_and_left_as_it_was(estimator: str | None) -> None:
    module = Own()
    network = convert(module, estimator) if estimator else module
    before = {name: value.clone() for name, value in network.state_dict().items()}
    counted = count_flops(network, torch.rand(5, 8))
    factor = 2 if estimator else 1
    forward = 2 * 5 * (8 * 8 + 8 * 3) * factor
    # the head's input gradient and both weight gradients
    assert (counted.forward, counted.backward) == (forward, forward + 2 * 5 * 8 * 3 * factor)
    assert sum(counted.operations.values()) == counted.forward + counted.backward
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_peak_is_the_larger_of_both_and_leaves_torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnn.flops.peak.GEMM_SIZES", (64, 128))
    monkeypatch.setattr("bnn.flops.peak.CONVOLUTIONS", ((2, 8, 8),))
    threads = torch.get_num_threads()
    peak = gemm_peak(1, 0.05)
    assert torch.get_num_threads() == threads
    assert peak.threads == 1
    assert peak.gemm_size in (64, 128)
    assert 0 < min(peak.gemm, peak.convolution) <= peak.flops_per_second
    assert peak.record()["source"] == peak.source
    assert (min(GEMM_SIZES), max(GEMM_SIZES)) == (512, 4096)
    assert CONVOLUTIONS


def test_the_source_of_a_peak_is_named() -> None:
    assert Peak(2, 5.0, 1024, 4.0, "x").source == "matrix product of 1024x1024"
    assert Peak(2, 4.0, 1024, 5.0, "32x64x32x32, 3x3").source == "convolution of 32x64x32x32, 3x3"


def test_formulae_need_no_torch() -> None:
    code = "import sys, bnn.flops.formulae; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
