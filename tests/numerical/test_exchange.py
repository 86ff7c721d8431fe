"""Gradient blocks on a stand-in for two ranks: which parameters share a message, when it leaves, what comes back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.engine import Engine, SingleEngine
from bnn.exchange import Companions, GradientExchange, assign
from bnn.models.build import build_model


class HalvingEngine(Engine):
    """Two ranks of which the other one's gradients are all zero: the mean is half of this rank's."""

    name = "halving"
    size = 2

    def __init__(self, compare: bool = True) -> None:
        self.log: list[str] = []
        self.sent: dict[str, Tensor] = {}
        self.compare = compare

    def start_average(self, tensor: Tensor, name: str) -> Any:
        self.log.append(f"start {name}")
        self.sent[name] = tensor.clone()
        return name

    def finish_average(self, handle: Any, tensor: Tensor) -> None:
        assert not self.compare or torch.equal(tensor, self.sent[handle])  # nobody touched it meanwhile
        tensor.div_(2)

    def broadcast_(self, tensors: Any, label: str) -> None:
        raise NotImplementedError

    def gather(self, value: Any, label: str) -> list[Any]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def names(blocks: list[list[tuple[str, nn.Parameter]]]) -> list[list[str]]:
    return [[name for name, _ in block] for block in blocks]


def parameters(*sizes: int) -> list[tuple[str, nn.Parameter]]:
    return [(f"p{index}", nn.Parameter(torch.zeros(size))) for index, size in enumerate(sizes)]


def test_a_block_ends_with_the_parameter_that_fills_it() -> None:
    found = parameters(5, 1, 2, 3, 10)  # float32: 20, 4, 8, 12, 40 bytes, taken from the last
    assert names(assign(found, 20)) == [["p4"], ["p3", "p2"], ["p1", "p0"]]
    assert names(assign(found, 21)) == [["p4"], ["p3", "p2", "p1"], ["p0"]]
    assert names(assign(found, 0)) == [["p4"], ["p3"], ["p2"], ["p1"], ["p0"]]
    assert names(assign(found, 1e9)) == [["p4", "p3", "p2", "p1", "p0"]]
    found[1][1].requires_grad_(False)
    assert names(assign(found, 0)) == [["p4"], ["p3"], ["p2"], ["p0"]]
    assert assign([], 0) == []


def test_a_block_holds_one_data_type() -> None:
    found = parameters(1, 1, 1)
    found[1] = ("double", nn.Parameter(torch.zeros(1, dtype=torch.float64)))
    assert names(assign(found, 1e9)) == [["p2"], ["double"], ["p0"]]


def network(kind: str) -> nn.Module:
    torch.manual_seed(3)
    model = build_model("resnet18", kind, input_shape=(3, 16, 16), classes=10, width=0.125)
    return model.to(memory_format=torch.channels_last)


def backward(model: nn.Module) -> None:
    torch.manual_seed(4)
    images = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    functional.cross_entropy(model(images), torch.tensor([1, 2])).backward()


@pytest.mark.parametrize("kind", ["bnn", "cnn"])
@pytest.mark.parametrize("block_mb", [0, 0.1, 1000])
def test_every_gradient_is_averaged_in_place_and_lies_as_its_parameter(kind: str, block_mb: float) -> None:
    model = network(kind)
    backward(model)
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    engine = HalvingEngine()
    exchange = GradientExchange(engine, model.named_parameters(), block_mb)
    trainable = sum(parameter.numel() for parameter in model.parameters())
    for _ in range(2):  # a second step finds everything as the first did
        model.zero_grad(set_to_none=True)
        backward(model)
        exchange.wait()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name] / 2)
            assert parameter.grad.stride() == parameter.stride(), name
        assert sum(sent.numel() for sent in engine.sent.values()) == trainable
    assert exchange.bytes_per_step == 4 * trainable
    assert exchange.messages_per_step == len(engine.log) / 2 == len(engine.sent)
    if block_mb != 0.1:
        assert exchange.messages_per_step == (len(expected) if block_mb == 0 else 1)
    assert any(parameter.dim() == 4 and not parameter.is_contiguous() for parameter in model.parameters())
    buffers = {block.buffer.untyped_storage().data_ptr() for block in exchange.blocks}
    assert {p.grad.untyped_storage().data_ptr() for p in model.parameters()} == buffers


def test_blocks_leave_while_the_backward_pass_goes_on() -> None:
    """Each layer's input gradient is computed after its parameters' block, if full, has left."""
    model = nn.Sequential(*[nn.Linear(4, 4, bias=False) for _ in range(4)])
    engine = HalvingEngine()
    exchange = GradientExchange(engine, model.named_parameters(), 2 * 64 / 2**20)  # two layers per block
    for index, layer in enumerate(model):
        layer.register_full_backward_pre_hook(lambda *_, index=index: engine.log.append(f"layer {index}"))
    model(torch.ones(2, 4, requires_grad=True)).sum().backward()
    assert engine.log == ["layer 3", "layer 2", "start gradients.0", "layer 1", "layer 0", "start gradients.1"]
    exchange.wait()


def test_blocks_leave_in_the_same_order_whichever_fills_first() -> None:
    class Backwards(nn.Module):
        """Uses its layers in the reverse of their order."""

        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(self.last(self.first(x)))

    model, engine = Backwards(), HalvingEngine()
    exchange = GradientExchange(engine, model.named_parameters(), 0)
    model(torch.ones(2, 3)).sum().backward()
    exchange.wait()
    assert engine.log == [f"start gradients.{index}" for index in range(4)]


def test_what_the_backward_pass_does_not_reach_hinders_nothing() -> None:
    used, unused, frozen = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2).requires_grad_(False)
    model, engine = nn.ModuleList([unused, used, frozen]), HalvingEngine()
    exchange = GradientExchange(engine, model.named_parameters(), 1)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        used(torch.ones(1, 3)).sum().backward()
        exchange.wait()
        torch.testing.assert_close(used.weight.grad, torch.full((2, 3), 0.5))
        assert unused.weight.grad is None
        assert frozen.weight.grad is None
        assert {name: sent.numel() for name, sent in engine.sent.items()} == {"gradients.0": 16}


def test_what_one_step_reaches_and_the_next_does_not_has_no_old_gradient() -> None:
    always, sometimes = nn.Linear(3, 2), nn.Linear(3, 2)
    exchange = GradientExchange(HalvingEngine(), nn.ModuleList([always, sometimes]).named_parameters(), 1)
    for layers in ([always, sometimes], [always]):
        for layer in (always, sometimes):
            layer.zero_grad(set_to_none=True)
        sum(layer(torch.ones(1, 3)).sum() for layer in layers).backward()
        exchange.wait()
        assert (sometimes.weight.grad is not None) == (sometimes in layers)
        torch.testing.assert_close(always.weight.grad, torch.full((2, 3), 0.5))


def test_what_only_another_rank_reaches_gets_its_gradient() -> None:
    class OtherRankEngine(HalvingEngine):
        def finish_average(self, handle: Any, tensor: Tensor) -> None:
            tensor.add_(1).div_(2)

    layer = nn.Linear(2, 1)
    exchange = GradientExchange(OtherRankEngine(), layer.named_parameters(), 0)
    layer.bias.sum().backward()
    exchange.wait()
    torch.testing.assert_close(layer.weight.grad, torch.full((1, 2), 0.5))
    torch.testing.assert_close(layer.bias.grad, torch.ones(1))


def test_a_second_backward_pass_before_the_exchange_is_refused() -> None:
    layer = nn.Linear(2, 1)
    GradientExchange(HalvingEngine(), layer.named_parameters(), 0)
    layer(torch.ones(1, 2)).sum().backward()
    with pytest.raises(RuntimeError, match=r"parameter (weight|bias): a second gradient"):
        layer(torch.ones(1, 2)).sum().backward()


def test_one_rank_exchanges_and_copies_nothing() -> None:
    layer = nn.Linear(2, 1)
    exchange = GradientExchange(SingleEngine(), layer.named_parameters(), 16)
    layer(torch.ones(1, 2)).sum().backward()
    exchange.wait()
    assert (exchange.messages_per_step, exchange.bytes_per_step, exchange.blocks) == (0, 0, [])
    assert layer.weight.grad is not None


def doubled(parameter: nn.Parameter, gradient: Tensor, to: Tensor) -> None:
    """A companion that is told from its gradient, and lies as it."""
    assert gradient.stride() == to.stride() == parameter.stride()
    torch.mul(gradient, 2, out=to)


@pytest.mark.parametrize("block_mb", [0, 0.1, 1000])
def test_companions_travel_with_their_gradients(block_mb: float) -> None:
    model = network("cnn")
    backward(model)
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    paired = frozenset(parameter for parameter in model.parameters() if parameter.dim() > 1)
    engine = HalvingEngine()
    exchange = GradientExchange(engine, model.named_parameters(), block_mb, Companions(paired, doubled))
    assert exchange.companions.keys() == paired
    sizes = [p.numel() * (2 if p in paired else 1) for p in model.parameters()]
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        backward(model)
        exchange.wait()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name] / 2)
            if parameter in paired:
                torch.testing.assert_close(exchange.companions[parameter], expected[name])
        assert sum(sent.numel() for sent in engine.sent.values()) == sum(sizes)
    assert exchange.bytes_per_step == 4 * sum(sizes)
    if block_mb != 0.1:
        assert exchange.messages_per_step == (len(expected) if block_mb == 0 else 1)


def test_a_companion_counts_in_its_block() -> None:
    found = parameters(5, 1, 2, 3, 10)
    paired = Companions(frozenset({found[2][1], found[3][1]}))  # 20, 4, 16, 24, 40 bytes, taken from the last
    assert names(assign(found, 24, paired)) == [["p4"], ["p3"], ["p2", "p1", "p0"]]


def test_a_companion_of_what_the_backward_pass_does_not_reach_is_zero() -> None:
    always, sometimes = nn.Linear(3, 2), nn.Linear(3, 2)
    model = nn.ModuleList([always, sometimes])
    companions = Companions(frozenset(model.parameters()), doubled)
    exchange = GradientExchange(HalvingEngine(), model.named_parameters(), 1, companions)
    for layers in ([always, sometimes], [always]):
        model.zero_grad(set_to_none=True)
        sum(layer(torch.ones(1, 3)).sum() for layer in layers).backward()
        exchange.wait()
        assert bool(exchange.companions[sometimes.weight].any()) == (sometimes in layers)
        torch.testing.assert_close(exchange.companions[always.weight], torch.ones(2, 3))
