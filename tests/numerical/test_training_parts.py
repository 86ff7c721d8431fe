"""Small parts of training: how a failure spreads, which GPUs a build runs on, what a frozen layer becomes."""

import pytest
import torch
from torch import nn

from bnn.device import runs_on
from bnn.layers.convert import convert
from bnn.training.trainer import spread_failure


def test_a_finite_loss_passes_unchanged_and_another_spoils_every_gradient():
    weight = torch.tensor([1.5, -2.0], requires_grad=True)
    loss = (weight**2).sum()
    assert torch.equal(spread_failure(loss), loss)
    spread_failure(loss).backward()
    assert torch.equal(weight.grad, 2 * weight.detach())
    # an infinite loss with finite gradients: they would be averaged as if nothing had happened
    other = torch.tensor([3e38], requires_grad=True)
    infinite = (other * 2).sum()
    (plain,) = torch.autograd.grad(infinite, other, retain_graph=True)
    assert torch.isfinite(plain).all()
    assert torch.isinf(infinite)
    spread_failure(infinite).backward()
    assert torch.isnan(other.grad).all()


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["sm_80", "sm_86", "sm_90"], (8, 9), True),
        (["sm_80", "sm_90a"], (9, 0), True),
        (["sm_86"], (8, 0), False),
        (["sm_75", "sm_80"], (7, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),
        (["sm_80", "compute_90"], (7, 0), False),
    ],
)
def test_which_gpus_a_build_runs_on(architectures, capability, runs):
    assert runs_on(architectures, *capability) is runs


def test_a_frozen_layer_stays_frozen():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    twin = convert(module)
    assert not any(parameter.requires_grad for parameter in twin[0].parameters())
    assert all(parameter.requires_grad for parameter in twin[2].parameters())
