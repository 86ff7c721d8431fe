"""Numbers on the device against float64 on the CPU: layers with the same noise, KL, what draws are distributed as."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from bnn import kernels
from bnn.check.outcome import AbsentError, Context, FaultError
from bnn.device import no_gpu, runs_on
from bnn.inference.draw_layers import draw_layer
from bnn.layers import ESTIMATORS, BayesianConv2d, BayesianLayer, PosteriorInit
from bnn.layers.flipout_fast import FastFlipout

WIDE = PosteriorInit(prior_scale=0.7, mu_init_std=0.5, rho_init=-1.0, rho_init_std=0.5)
# Of float32 against float64, relative to the whole tensor; products of the checks' sizes lose less than a tenth of it.
TOLERANCE = 2e-5
DRAWS = 2000
SIGMAS = 6.0  # how far a sample mean of so many may stray: by chance once in 5e8, and there are some thousands


def distance(got: Tensor, expected: Tensor, scale: Tensor | None = None) -> float:
    """|got - expected| / |expected|, of the whole tensors. `scale`: their usual size, where terms may cancel."""
    got, expected = got.detach().cpu().double(), expected.detach().cpu().double()
    norm = expected.norm() if scale is None else torch.maximum(expected.norm(), scale.norm())
    error = (got - expected).norm()
    return float(error / norm) if norm else float(error)


def agree(what: str, got: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> float:
    """Their distance. Raises FaultError where it is larger than `tolerance`, or not a number."""
    found = distance(got, expected)
    if not found <= tolerance:
        raise FaultError(f"{what}: off by {found:.2g} of its size, {tolerance:.0e} is allowed")
    return found


def stray(what: str, samples: Tensor, mean: Tensor, variance: Tensor) -> float:
    """How many standard errors means and variances of Gaussian `samples` (D, ...) stray at most, in float64.

    Raises FaultError for more than SIGMAS.
    """
    samples, mean, variance = (t.detach().cpu().double() for t in (samples, mean, variance))
    count = len(samples)
    of_mean = (samples.mean(0) - mean).abs() / (variance / count).sqrt()
    of_variance = (samples.var(0) - variance).abs() / (variance * (2 / (count - 1)) ** 0.5)
    for moment, found in (("mean", of_mean), ("variance", of_variance)):
        if not float(found.max()) <= SIGMAS:
            raise FaultError(f"{what}: its {moment} strays by {float(found.max()):.1f} standard errors")
    return float(torch.maximum(of_mean.max(), of_variance.max()))


def exact_products(device: str) -> None:
    """No TensorFloat-32, which rounds factors to 10 bits: what is compared is the code, not that choice."""
    if device == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def example(estimator: str, kind: str, device: str) -> tuple[BayesianLayer, Tensor]:
    """A float32 layer with a bias and a batch for it, the same on every device."""
    torch.manual_seed(1)
    conv, linear = ESTIMATORS[estimator]
    layer, x = (
        (conv(3, 8, 3, stride=2, padding=1, init=WIDE), torch.randn(5, 3, 9, 8))
        if kind == "conv"
        else (linear(24, 10, init=WIDE), torch.randn(5, 24))
    )
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    return layer.to(device), x.to(device)


def device(context: Context) -> str:
    """The device is there, this torch has code for it, and a product is right."""
    if context.device == "cuda":
        if why := no_gpu():
            raise FaultError(f"no GPU: {why}")
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            name = torch.cuda.get_device_name(index)
            if not runs_on(torch.cuda.get_arch_list(), major, minor):
                raise FaultError(f"GPU {index} ({name}): torch {torch.__version__} has no code for sm_{major}{minor}")
    exact_products(context.device)
    torch.manual_seed(0)
    a, b = torch.randn(257, 300), torch.randn(300, 129)
    found = agree("a matrix product", a.to(context.device) @ b.to(context.device), a.double() @ b.double())
    if context.device == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}; a product is off by {found:.1g}"
    isa = f"kernels {kernels.isa()}" if kernels.available() else "no kernels"
    return f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {isa}; off by {found:.1g}"


def layers(context: Context) -> str:
    """Output and gradients of every estimator's layers for the same noise, and the moments of their outputs."""
    exact_products(context.device)
    worst, done = 0.0, 0
    for estimator in ESTIMATORS:
        for kind in ("conv", "linear"):
            layer, x = example(estimator, kind, context.device)
            worst = max(worst, same_noise(f"{estimator} {kind}", layer, x))
            layer, x = example(estimator, kind, context.device)
            moments(f"{estimator} {kind}", layer, x)
            done += 1
    return f"{done} layers, outputs and gradients off by {worst:.1g} at most"


def same_noise(what: str, layer: BayesianLayer, x: Tensor) -> float:
    """The layer's output and gradients against float64 on the CPU with the noise that it draws. Raises FaultError."""
    twin = copy.deepcopy(layer).cpu().double()
    twin.generator = None
    noise = Noise(layer, twin, x)
    x, x_twin = x.requires_grad_(), x.detach().cpu().double().requires_grad_()
    got = noise.of_layer(x)
    expected = noise.of_twin(x_twin)
    found = agree(f"{what}: output", got, expected)
    torch.manual_seed(2)
    weights = torch.randn(expected.shape)
    (got * weights.to(got)).sum().backward()
    (expected * weights.double()).sum().backward()
    for name in ("mu", "rho", "bias"):
        found = max(found, agree(f"{what}: gradient of {name}", *(getattr(one, name).grad for one in (layer, twin))))
    assert x.grad is not None
    assert x_twin.grad is not None
    return max(found, agree(f"{what}: gradient of the input", x.grad, x_twin.grad))


class Noise:
    """Lets a layer draw, and its float64 twin use the same numbers."""

    def __init__(self, layer: BayesianLayer, twin: BayesianLayer, x: Tensor) -> None:
        self.layer, self.twin, self.taken = layer, twin, list[Tensor]()
        layer.seed_noise(7)
        self.by_kernels = False
        if isinstance(layer, FastFlipout) and layer.covers(x):
            self.by_kernels = True
            peek = copy.deepcopy(layer)
            peek.seed_noise(7)
            seed = peek.next_seed()
            channels = layer.mu.shape[0], x.shape[1]
            shape = [1] * (x.dim() - 2)
            signs = [torch.ops.bnn_kernels.signs(seed, out, len(x), channels[not out]) for out in (False, True)]
            self.taken = [epsilon(seed, layer.mu), *(s.double().view(*s.shape, *shape) for s in signs)]

    def of_layer(self, x: Tensor) -> Tensor:
        if self.by_kernels:
            y: Tensor = self.layer(x)
            return y
        with Recording(self.taken):
            y = self.layer(x)
        return y

    def of_twin(self, x: Tensor) -> Tensor:
        if self.by_kernels:
            twin, (eps, r, s) = self.twin, self.taken
            return twin.affine(x, twin.mu, twin.bias) + s * twin.affine(x * r, twin.sigma * eps, None)
        with Replaying(self.taken):
            y: Tensor = self.twin(x)
        return y


class Recording(torch.overrides.TorchFunctionMode):
    """Keeps what is drawn."""

    def __init__(self, taken: list[Tensor]) -> None:
        super().__init__()
        self.taken = taken

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.randn, Tensor.bernoulli_):
            self.taken.append(result.detach().clone())
        return result


class Replaying(torch.overrides.TorchFunctionMode):
    """Gives what was drawn, in float64 on the CPU."""

    def __init__(self, taken: list[Tensor]) -> None:
        super().__init__()
        self.left = list(taken)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.randn, Tensor.bernoulli_):
            drawn = self.left.pop(0).cpu().double()
            return args[0].copy_(drawn) if func is Tensor.bernoulli_ else drawn
        return func(*args, **(kwargs or {}))


def epsilon(seed: int, kernel: Tensor) -> Tensor:
    """The kernels' noise of a layer's kernel in float64: numbered as it lies in memory, images' channels last."""
    numbered: Tensor = torch.ops.bnn_kernels.normal(seed, kernel.numel()).double()
    if kernel.dim() == 2:
        return numbered.view(kernel.shape)
    outputs, inputs, height, width = kernel.shape
    return numbered.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


@torch.no_grad()
def moments(what: str, layer: BayesianLayer, x: Tensor) -> float:
    """Mean and variance of every output over draws against their closed form. Raises FaultError."""
    layer.seed_noise(11)
    samples = torch.stack([layer(x) for _ in range(DRAWS)])
    twin, x = copy.deepcopy(layer).cpu().double(), x.detach().cpu().double()
    mean = twin.affine(x, twin.mu, twin.bias)
    return stray(f"{what}: output", samples, mean, twin.affine(x.square(), twin.sigma.square(), None))


def kl(context: Context) -> str:
    """KL and its gradients against torch.distributions in float64."""
    worst = 0.0
    for estimator in ESTIMATORS:
        for kind in ("conv", "linear"):
            layer, x = example(estimator, kind, context.device)
            layer.seed_noise(3)
            y = layer(x)  # kernels compute the KL with it
            twin = copy.deepcopy(layer).cpu().double()
            posterior, prior = (
                torch.distributions.Normal(*p) for p in ((twin.mu, twin.sigma), (0.0, twin.prior_scale))
            )
            expected = torch.distributions.kl_divergence(posterior, prior).sum()
            got = layer.kl()
            worst = max(worst, agree(f"{estimator} {kind}: KL", got, expected))
            (0 * y.sum() + got).backward()
            expected.backward()
            for name in ("mu", "rho"):
                pair = (getattr(one, name).grad for one in (layer, twin))
                worst = max(worst, agree(f"{estimator} {kind}: gradient of the KL by {name}", *pair))
    return f"off by {worst:.1g} at most"


@torch.no_grad()
def draws(context: Context) -> str:
    """Samples of weights for inference: mean and variance, and the sparse form against the dense one."""
    exact_products(context.device)
    strayed = 0.0
    for kind in ("conv", "linear"):
        layer, x = example("flipout", kind, context.device)
        gone = torch.rand(layer.mu.shape, generator=torch.Generator().manual_seed(5)) < 0.6
        for pruned in (False, True):
            if pruned:
                layer.mu.masked_fill_(gone.to(context.device), 0.0)
                layer.rho.masked_fill_(gone.to(context.device), -float("inf"))
            made = draw_layer(layer)
            sparse = draw_layer(layer, "csr")
            assert made is not None
            assert sparse is not None
            samples = []
            for seed in range(DRAWS):
                made.key(seed + 1)
                samples.append(made.values().flatten())
            order = (0, 2, 3, 1) if isinstance(layer, BayesianConv2d) else (0, 1)
            mu, sigma = (t.permute(order).flatten() for t in (layer.mu, layer.sigma))
            left = sigma > 0
            what = f"{kind}: weights{' left by pruning' if pruned else ''}"
            drawn = torch.stack(samples)
            if pruned and bool(drawn[:, sigma == 0].any()):
                raise FaultError(f"{kind}: a pruned weight is drawn")
            strayed = max(strayed, stray(what, drawn[:, left], mu[left], sigma[left].square()))
            for each in (made, sparse):
                each.key(9)
            agree(f"{kind}: the sparse form of a draw", sparse(x), made(x))
    return f"means and variances stray by {strayed:.1f} standard errors at most"


def need_gpus(context: Context) -> None:
    """Raises AbsentError where there are fewer GPUs than ranks, of those that are started on this node."""
    here = -(-context.ranks // context.nodes)
    if context.device == "cuda" and torch.cuda.device_count() < here:
        raise AbsentError(f"{here} ranks need as many GPUs; there are {torch.cuda.device_count()}")
