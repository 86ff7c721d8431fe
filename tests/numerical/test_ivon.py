"""IVON against its equations in float64, on one rank and several, and against an exact posterior."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bnn import ivon, kernels
from bnn.ivon import Ivon, IvonOptions
from bnn.layers import NoiseKey
from bnn.layers.noise import layer_seed
from tests.support.kernels import OPS, need_kernels, threads

need_kernels()

SHAPES = [(1,), (33,), (4096 * 2 + 257,), (6, 5, 3, 3)]
OPTIONS = IvonOptions(ess=1000.0, delta=1e-3, hess_init=0.3, beta1=0.8, beta2=0.9)
RATE = 0.05


@pytest.fixture(params=[True, False], ids=["kernels", "torch"])
def by_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(kernels, "available", lambda: request.param)
    return bool(request.param)


class Equations:
    """The equations of Shen et al. as they stand, of one tensor, in float64; `step` takes what every rank has."""

    def __init__(self, mean: np.ndarray, options: IvonOptions) -> None:
        self.options, self.m, self.t = options, mean, 0
        self.g, self.h = np.zeros_like(mean), np.full_like(mean, options.hess_init)

    @property
    def sigma(self) -> np.ndarray:
        return 1 / np.sqrt(self.options.ess * (self.h + self.options.delta))

    def step(self, gradients: list[np.ndarray], noise: list[np.ndarray], rate: float) -> None:
        """`noise` is eps, what each rank's sample added to m."""
        o = self.options
        self.t += 1
        gradient = np.mean(gradients, axis=0)
        product = np.mean([g * e for g, e in zip(gradients, noise, strict=True)], axis=0)
        self.g = o.beta1 * self.g + (1 - o.beta1) * gradient
        f = o.ess * (self.h + o.delta) * product
        self.h = (
            o.beta2 * self.h + (1 - o.beta2) * f + 0.5 * (1 - o.beta2) ** 2 * (self.h - f) ** 2 / (self.h + o.delta)
        )
        way = (self.g / (1 - o.beta1**self.t) + o.delta * self.m) / (self.h + o.delta)
        alpha = rate * (o.hess_init + o.delta) if o.rescale else rate
        self.m = self.m - alpha * np.clip(way, -o.clip_radius, o.clip_radius)


def parameters(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    make = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=make) for shape in shapes]
    made = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in made]
    return [nn.Parameter(x.to(dtype)) for x in made]


def array(tensor: Tensor) -> np.ndarray:
    made: np.ndarray = tensor.detach().double().numpy().copy()
    return made


def gradient_at(sample: Tensor, step: int, rank: int) -> Tensor:
    """A gradient that depends on the sample, as a loss of it has, apart for every rank and step."""
    make = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randn(sample.shape, generator=make).to(sample.dtype) * 0.3 + sample.detach()


def run(
    shapes: list[tuple[int, ...]], options: IvonOptions, ranks: int, shared: bool, steps: int, dtype: torch.dtype
) -> tuple[list[Ivon], list[Equations]]:
    """`ranks` optimizers that are given the averages of what each hands over, and the equations with their noise."""
    models = [parameters(shapes, dtype) for _ in range(ranks)]
    optimizers = [Ivon(values, [], RATE, options) for values in models]
    exact = [Equations(array(p), options) for p in models[0]]
    for step in range(steps):
        gradients, products, noise = [], [], []
        for rank, (values, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            means = [array(p) for p in values]
            kl = optimizer.sample(NoiseKey(7, step, 0 if shared else rank))
            assert float(kl) == pytest.approx(sum(kl_of(e) for e in exact), rel=1e-4)
            noise.append([array(p) - m for p, m in zip(values, means, strict=True)])
            gradients.append([torch.empty_like(p).copy_(gradient_at(p, step, rank)).detach() for p in values])
            products.append([torch.empty_like(p).detach() for p in values])
            for parameter, gradient, product in zip(values, gradients[-1], products[-1], strict=True):
                optimizer.product(parameter, gradient, product)
        for values, optimizer in zip(models, optimizers, strict=True):
            for index, parameter in enumerate(values):
                parameter.grad = sum(g[index] for g in gradients) / ranks
            if ranks > 1 and not shared:
                optimizer.products = {p: sum(x[i] for x in products) / ranks for i, p in enumerate(values)}
            optimizer.step()
        for index, equations in enumerate(exact):
            equations.step([array(g[index]) for g in gradients], [n[index] for n in noise], RATE)
    return optimizers, exact


def kl_of(exact: Equations) -> float:
    """By the formula for two Gaussians."""
    prior = 1 / np.sqrt(exact.options.ess * exact.options.delta)
    terms = np.log(prior / exact.sigma) + (exact.sigma**2 + exact.m**2) / (2 * prior**2) - 0.5
    return float(terms.sum())


def check(optimizers: list[Ivon], exact: list[Equations], tolerance: float) -> None:
    for optimizer in optimizers:
        for parameter, equations in zip(optimizer.noisy, exact, strict=True):
            np.testing.assert_allclose(array(parameter), equations.m, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(array(optimizer.state[parameter]["hessian"]), equations.h, rtol=tolerance * 10)
            np.testing.assert_allclose(
                array(optimizer.state[parameter]["momentum"]), equations.g, rtol=tolerance, atol=tolerance
            )
            np.testing.assert_allclose(array(optimizer.sigma(parameter)), equations.sigma, rtol=tolerance * 10)
            assert optimizer.state[parameter]["step"] == equations.t
            assert float(np.abs(equations.h - equations.options.hess_init).max()) > 0.01  # it has learnt something


VARIANTS = [
    OPTIONS,
    IvonOptions(ess=50.0, delta=0.1, hess_init=2.0, beta2=0.95, clip_radius=0.2),
    IvonOptions(ess=1000.0, delta=1e-3, hess_init=0.3, beta1=0.0, beta2=0.9, rescale=False),
]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize(("ranks", "shared"), [(1, False), (3, False), (3, True)])
def test_steps_are_the_equations(by_kernels: bool, options: IvonOptions, ranks: int, shared: bool) -> None:
    check(*run(SHAPES, options, ranks, shared, 8, torch.float32), 2e-5)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize(("ranks", "shared"), [(1, False), (3, False), (3, True)])
def test_steps_in_double_precision_are_the_equations_to_the_last_digits(
    options: IvonOptions, ranks: int, shared: bool
) -> None:
    check(*run(SHAPES, options, ranks, shared, 8, torch.float64), 1e-9)


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=3),
    ranks=st.integers(1, 2),
)
def test_any_shape(shapes: list[tuple[int, ...]], ranks: int) -> None:
    optimizers, exact = run(shapes, OPTIONS, ranks, False, 3, torch.float32)
    for optimizer in optimizers:
        for parameter, equations in zip(optimizer.noisy, exact, strict=True):
            np.testing.assert_allclose(array(parameter), equations.m, rtol=2e-4, atol=2e-4)


def test_noise_has_its_moments_and_is_that_of_its_key(by_kernels: bool) -> None:
    (value,) = parameters([(200_000,)])
    optimizer, start = Ivon([value], [], RATE, OPTIONS), array(value)
    draws = []
    for key in (NoiseKey(1, 0, 0), NoiseKey(1, 0, 0), NoiseKey(1, 1, 0), NoiseKey(1, 0, 1), NoiseKey(2, 0, 0)):
        optimizer.sample(key)
        draws.append((array(value) - start) * math.sqrt(OPTIONS.ess * (OPTIONS.hess_init + OPTIONS.delta)))
        optimizer.step()  # without a gradient
        assert np.array_equal(array(value), start)
    assert np.array_equal(draws[0], draws[1])
    for index, draw in enumerate(draws):
        assert abs(draw.mean()) < 5 / math.sqrt(len(draw))
        assert abs(draw.std() - 1) < 5 / math.sqrt(2 * len(draw))
        assert all(abs(np.corrcoef(draw, other)[0, 1]) < 0.015 for other in draws[max(index + 1, 2) :])


def test_the_noise_is_the_kernels_normals_in_the_order_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)
    values = parameters([(5,), (6, 5, 3, 3)])
    starts = [array(p) for p in values]
    key = NoiseKey(3, 4, 1)
    Ivon(values, [], RATE, OPTIONS).sample(key)
    sigma = 1 / math.sqrt(OPTIONS.ess * (OPTIONS.hess_init + OPTIONS.delta))
    for index, (value, start) in enumerate(zip(values, starts, strict=True)):
        normals = OPS.normal(ivon._signed(layer_seed(key, index)), value.numel())
        laid = torch.empty_like(value).as_strided((value.numel(),), (1,)).copy_(normals)
        expected = laid.as_strided(value.shape, value.stride())
        np.testing.assert_allclose(array(value) - start, array(expected) * sigma, atol=1e-6)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: True)
    results = []
    for count in (1, 2, 3):
        with threads(count):
            ((optimizer,), _) = run(SHAPES, OPTIONS, 1, False, 3, torch.float32)
        results.append([optimizer.state[p][key] for p in optimizer.noisy for key in ("hessian", "momentum")])
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_plain_parameters_take_the_steps_of_sgd_with_a_debiased_mean(by_kernels: bool) -> None:
    (value,) = parameters([(5,)])
    optimizer = Ivon([], [value], RATE, OPTIONS)
    expected, g = array(value), np.zeros(5)
    for step in range(1, 4):
        value.grad = torch.full((5,), float(step))
        optimizer.step()
        g = OPTIONS.beta1 * g + (1 - OPTIONS.beta1) * step
        expected = expected - RATE * g / (1 - OPTIONS.beta1**step)
    np.testing.assert_allclose(array(value), expected, rtol=1e-6)
    assert "hessian" not in optimizer.state[value]


def test_h_stays_above_minus_delta_whatever_the_gradients() -> None:
    (value,) = parameters([(1000,)])
    options = IvonOptions(ess=10.0, delta=1e-3, hess_init=1e-2, beta2=0.1)
    optimizer = Ivon([value], [], 0.0, options)
    for step in range(50):
        optimizer.sample(NoiseKey(0, step))
        value.grad = -10 * value.detach()  # of a loss that curves down everywhere
        optimizer.step()
        assert bool((optimizer.state[value]["hessian"] + options.delta > 0).all())


def test_a_checkpoint_goes_on_bit_for_bit(by_kernels: bool) -> None:
    def steps(optimizer: Ivon, first: int, last: int) -> None:
        for step in range(first, last):
            optimizer.sample(NoiseKey(5, step))
            for parameter in optimizer.noisy:
                parameter.grad = torch.empty_like(parameter).copy_(gradient_at(parameter, step, 0)).detach()
            optimizer.step()

    whole = Ivon(parameters(SHAPES), [], RATE, OPTIONS)
    steps(whole, 0, 6)
    first = Ivon(parameters(SHAPES), [], RATE, OPTIONS)
    steps(first, 0, 3)
    second = Ivon([nn.Parameter(p.detach().clone()) for p in first.noisy], [], RATE, OPTIONS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(second, 3, 6)
    for mine, right in zip(second.noisy, whole.noisy, strict=True):
        assert torch.equal(mine, right)
        for name in ("step", "momentum", "hessian"):
            assert torch.equal(second.state[mine][name], whole.state[right][name]), name


def test_three_words_are_kept_per_weight() -> None:
    ((optimizer,), _) = run([(1000,)], OPTIONS, 1, False, 2, torch.float32)
    (value,) = optimizer.noisy
    kept = [value, *(x for x in optimizer.state[value].values() if x.numel() > 1)]
    assert sum(x.numel() for x in kept) == 3 * value.numel()
    assert not optimizer._means


def test_misuse_is_an_error() -> None:
    (value,) = parameters([(3,)])
    optimizer = Ivon([value], [], RATE, OPTIONS)
    with pytest.raises(RuntimeError, match="without a sample"):
        optimizer.step()
    optimizer.sample(NoiseKey(0))
    with pytest.raises(RuntimeError, match="second sample"):
        optimizer.sample(NoiseKey(1))
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_posterior_of_a_linear_regression_is_the_exact_one(by_kernels: bool, ranks: int) -> None:
    """Bayesian linear regression: the best mean-field Gaussian has the exact mean, and 1 / (its diagonal precision)."""
    rng = np.random.default_rng(1)
    n, d, noise = 400, 8, 0.5
    inputs = rng.normal(size=(n, d)) * np.linspace(0.5, 2.0, d)
    targets = inputs @ rng.normal(size=d) + noise * rng.normal(size=n)
    delta = 0.01  # the prior's precision is n delta = 4
    precision = inputs.T @ inputs / noise**2 + n * delta * np.eye(d)
    mean = np.linalg.solve(precision, inputs.T @ targets / noise**2)
    sigma = 1 / np.sqrt(np.diag(precision))
    x, y = torch.from_numpy(inputs).float(), torch.from_numpy(targets).float()

    options = IvonOptions(ess=float(n), delta=delta, hess_init=1.0, beta2=0.999)
    models = [nn.Parameter(torch.zeros(d)) for _ in range(ranks)]
    optimizers = [Ivon([weight], [], 0.1, options) for weight in models]
    steps, means, hessians = 24_000, [], []
    for step in range(steps):
        for optimizer in optimizers:  # as a schedule does
            optimizer.param_groups[0]["lr"] = 0.1 * min(1.0, 3 * (1 - step / steps))
        gradients, products = [], []
        for rank, (weight, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            optimizer.sample(NoiseKey(11, step, rank))
            gradients.append(x.T @ (x @ weight.detach() - y) / noise**2 / n)
            products.append(torch.empty(d))
            optimizer.product(weight, gradients[-1], products[-1])
        for weight, optimizer in zip(models, optimizers, strict=True):
            weight.grad = sum(gradients) / ranks
            optimizer.products = {weight: sum(products) / ranks} if ranks > 1 else {}
            optimizer.step()
        if step > steps // 2:
            hessians.append(array(optimizers[0].state[models[0]]["hessian"]))
            means.append(array(models[0]))
    got_sigma = 1 / np.sqrt(n * (np.mean(hessians, axis=0) + delta))
    np.testing.assert_allclose(got_sigma, sigma, rtol=0.02)
    got_mean = np.mean(means[len(means) // 2 :], axis=0)
    assert float(np.abs((got_mean - mean) / sigma).max()) < 0.1
    assert all(torch.equal(models[0], other) for other in models[1:])
    assert float(np.abs(mean / sigma).max()) > 5  # the data say more than the prior
