"""A conventional state_dict as the means of the Bayesian twin."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bnn
from bnn.layers.pretrained import load_conventional


class Tagger(nn.Module):
    """Layers, Bayesian parameters, a norm with buffers, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(7, 4), nn.LSTM(4, 6, batch_first=True)
        self.attention, self.norm = nn.MultiheadAttention(6, 2, batch_first=True), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 6)
        self.again = self.head

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(self.embed(x))[0]
        y = self.norm(self.attention(y, y, y)[0][:, 0])
        return self.again(self.head(y))


def random_state() -> tuple[Tagger, dict[str, Tensor]]:
    model = Tagger().eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    return model, dict(model.state_dict())


def test_the_twin_of_a_fresh_network_computes_what_the_weights_come_from() -> None:
    model, tensors = random_state()
    twin = bnn.convert(Tagger()).eval()
    rho = {name: value.clone() for name, value in twin.state_dict().items() if name.endswith("rho")}
    load_conventional(twin, tensors)
    x = torch.randint(0, 7, (3, 5))
    with torch.no_grad(), bnn.mean_only(twin):
        torch.testing.assert_close(twin(x), model(x))
    assert rho
    assert all(torch.equal(twin.state_dict()[name], value) for name, value in rho.items())


def test_one_name_of_a_shared_tensor_is_enough() -> None:
    _, tensors = random_state()
    twin = bnn.convert(Tagger())
    load_conventional(twin, {name: value for name, value in tensors.items() if not name.startswith("again")})
    assert torch.equal(twin.again.mu, tensors["head.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("lstm.weight_hh_l0"), "missing: lstm.weight_hh_l0"),
        (lambda t: t.update(other=torch.zeros(1)), "not in the model: other"),
        (lambda t: t.update({"head.bias": torch.zeros(5)}), r"head.bias: its shape is \(5,\), the model's \(6,\)"),
        (lambda t: t.update({"norm.weight": torch.ones(6).long()}), "norm.weight: it is of torch.int64"),
        (lambda t: t.update({"embed.weight": torch.full((7, 4), torch.nan)}), "embed.weight: not all"),
        (lambda t: t.update({"again.weight": torch.zeros(6, 6)}), "head.weight and again.weight"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(change, message: str) -> None:
    _, tensors = random_state()
    twin = bnn.convert(Tagger())
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    change(tensors)
    with pytest.raises(bnn.UserError, match=message):
        load_conventional(twin, tensors)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
