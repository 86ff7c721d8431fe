"""Noise with KL, and the chain rule, against float64; no finite value makes an infinite one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.support.kernels import OPS, need_kernels, threads

need_kernels()

FLOOR = -87.0  # the kernels' sigma goes no lower than exp(-87), near the smallest normal float32
RHO = torch.cat(
    [torch.linspace(-100, 50, 6001), torch.linspace(-2, 2, 2001), torch.tensor([-87.0, -0.0, 0.0, 1e-30, -1e-30])]
)
PRIORS = [1e-3, 0.1, 1.0, 3.7, 1e3]
SEED = 5


def sigma_of(rho: Tensor) -> Tensor:
    """softplus in float64, without its switch to the identity at 20."""
    return torch.log1p(torch.exp(-rho.abs())) + rho.clamp(min=0)


def kl_terms(mu: Tensor, rho: Tensor, prior: float) -> tuple[Tensor, Tensor]:
    """Each weight's KL in float64, and the sum of the sizes of what it is made of."""
    mu, sigma = mu.double(), sigma_of(rho.double().clamp(min=FLOOR))
    square, logarithm = (sigma.square() + mu.square()) / (2 * prior**2), math.log(prior) - sigma.log()
    return square + logarithm - 0.5, square + sigma.log().abs() + abs(math.log(prior)) + 0.5


def test_sigma_times_noise() -> None:
    rho = RHO
    eps = OPS.normal(SEED, len(rho)).double()
    delta, _ = OPS.perturb(torch.zeros_like(rho), rho, SEED, 1.0)
    right = sigma_of(rho.double().clamp(min=FLOOR)) * eps
    normal = right.abs() > 1.2e-38  # below, float32 has fewer digits
    assert ((delta.double() - right).abs() <= 4e-7 * right.abs())[normal].all()
    assert ((delta.double() - right).abs() <= 3e-45)[~normal].all()
    assert normal.float().mean() > 0.8


@pytest.mark.parametrize("prior", PRIORS)
def test_kl_of_single_weights(prior: float) -> None:
    rho = RHO[::13]
    mu = torch.linspace(-1, 1, len(rho)) ** 3 * 100
    right, size = kl_terms(mu, rho, prior)
    for m, r, kl, terms in zip(mu, rho, right, size, strict=True):
        got = OPS.perturb(m.view(1), r.view(1), SEED, prior)[1]
        assert abs(float(got) - float(kl)) <= 5e-7 * float(terms), (float(m), float(r))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("count", [1, 3, 15, 17, 4095, 4097, 1_000_003])
def test_kl_of_many_weights(count: int, prior: float) -> None:
    torch.manual_seed(0)
    mu, rho = torch.randn(count) * 3, torch.rand(count) * 60 - 55
    right, size = kl_terms(mu, rho, prior)
    got = [OPS.perturb(mu, rho, SEED, prior)[1]]
    for number in (1, 3):
        with threads(number):
            got.append(OPS.perturb(mu, rho, SEED, prior)[1])
    assert abs(float(got[0]) - float(right.sum())) <= 1e-6 * float(size.sum())
    assert all(torch.equal(got[0], other) for other in got)


def test_kl_of_the_prior_itself_is_zero() -> None:
    """All terms cancel, so that a biased logarithm would show; what remains is how their float32 sums are rounded."""
    rho = torch.full((100_000,), math.log(math.expm1(0.25)))
    kl = OPS.perturb(torch.zeros_like(rho), rho, SEED, 0.25)[1]
    assert abs(float(kl)) < 5e-6 * len(rho)  # of terms that sum to 1.9 * len(rho)


@pytest.mark.parametrize("weight", [None, 0.0, 1.0, 2**-17])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("tiny", [False, True], ids=["rho above -40", "rho below -40"])
def test_chain_rule(tiny: bool, prior: float, weight: float | None) -> None:
    """Gradients of <g_mu, mu> + <g_delta, sigma * eps> + weight * KL, by autograd in float64."""
    torch.manual_seed(0)
    rho = RHO[(RHO < -40) == tiny]
    mu, g_mu, g_delta = torch.randn(3, len(rho))
    delta, _ = OPS.perturb(mu, rho, SEED, prior)
    made_mu, made_rho = g_mu.clone(), g_delta.clone()
    OPS.chain_(mu, rho, delta, prior, None if weight is None else torch.tensor(weight), made_mu, made_rho)

    w, m, r = weight or 0.0, mu.double().requires_grad_(), rho.double().requires_grad_()
    sigma = functional.softplus(r, threshold=800)
    eps = OPS.normal(SEED, len(rho)).double()
    kl = ((sigma.square() + m.square()) / (2 * prior**2) - sigma.log()).sum()
    loss = (g_mu.double() * m).sum() + (g_delta.double() * sigma * eps).sum() + w * kl
    right_mu, right_rho = torch.autograd.grad(loss, [m, r])

    sigma, slope = sigma.detach(), torch.sigmoid(r.detach())
    size_mu = g_mu.double().abs() + w * mu.double().abs() / prior**2
    size_rho = slope * ((g_delta.double() * eps).abs() + w * (sigma / prior**2 + 1 / sigma))
    assert ((made_mu.double() - right_mu).abs() <= 5e-7 * size_mu + 1e-44).all()
    assert ((made_rho.double() - right_rho).abs() <= 1e-6 * size_rho + 1e-37).all()


@pytest.mark.parametrize("prior", PRIORS)
def test_nothing_finite_becomes_infinite(prior: float) -> None:
    """As far as the closed form itself stays within float32: these are divided by 1e-6 and summed."""
    rho = torch.cat([RHO, torch.tensor([-3e38, -1e10, -1e4, 1e4, 1e10, 1e12])])
    mu = torch.linspace(-1e12, 1e12, len(rho))
    delta, kl = OPS.perturb(mu, rho, SEED, prior)
    for gradient in (0.0, 1.0, -1e12):
        pair = torch.full_like(mu, gradient), torch.full_like(mu, gradient)
        OPS.chain_(mu, rho, delta, prior, torch.tensor(1.0), *pair)
        assert all(bool(torch.isfinite(made).all()) for made in (delta, kl, *pair))


def test_what_does_not_fit_is_refused() -> None:
    a, b = torch.zeros(4, 5), torch.zeros(5, 4)
    with pytest.raises(RuntimeError, match="rho: must have shape and strides"):
        OPS.perturb(a, b, 1, 1.0)
    with pytest.raises(RuntimeError, match="rho: must have shape and strides"):
        OPS.perturb(a, b.T, 1, 1.0)
    with pytest.raises(RuntimeError, match="dense"):
        OPS.perturb(a[:, ::2], a[:, ::2], 1, 1.0)
    with pytest.raises(RuntimeError, match="float32"):
        OPS.perturb(a.double(), a.double(), 1, 1.0)
