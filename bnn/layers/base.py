"""What all Bayesian layers share: a mean-field Gaussian posterior over the kernel and its KL from the prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnn.errors import UserError
from bnn.kernels import traced
from bnn.layers.noise import NoisyLayer, checked_module, in_backward, noisy_layers, within_checkpoint
from bnn.layers.repeated import mark_pass, noise_of, repeated_mark

WEIGHT_NOISE = 0x9E6C63D0876A9A47  # tells the noise of a weight that is read from that of the layer's forward pass


@dataclass(frozen=True)
class PosteriorInit:
    """Prior N(0, prior_scale^2) and start of the posterior, mu ~ N(0, mu_init_std^2), rho ~ N(rho_init, rho_init_std^2)

    The defaults are the paper's (appendix A): sigma = softplus(rho) starts near 1.23e-4. Biases start at zero.
    Raises UserError for a prior that has no width, a negative spread, and what is not finite.
    """

    prior_scale: float = 1.0
    mu_init_std: float = 0.1
    rho_init: float = -9.0
    rho_init_std: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, float | int) or not math.isfinite(value):
                raise UserError(f"{name} {value!r}: must be a finite number")
            if (name == "prior_scale" and value <= 0) or (name.endswith("_std") and value < 0):
                raise UserError(f"{name} {value:g}: must be {'above 0' if name == 'prior_scale' else 'at least 0'}")


def checked_init(init: PosteriorInit | None) -> PosteriorInit:
    """`init`, by default the paper's. Raises UserError for what is no PosteriorInit."""
    if not isinstance(init, PosteriorInit | None):
        raise UserError(f"init={init!r}: must be a PosteriorInit, or None")
    return init or PosteriorInit()


class LinearMap(Protocol):
    """A linear map of an input with the posterior of its kernel: what an estimator asks of it."""

    generator: torch.Generator | None

    @property
    def mu(self) -> Tensor: ...

    @property
    def sigma(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor: ...

    def standard_normal(self) -> Tensor: ...

    def random_signs(self, x: Tensor) -> Tensor: ...


class BayesianLayer(NoisyLayer):
    """A layer y = f(x; w) + bias whose kernel w has the posterior N(mu, sigma^2), independent element by element.

    sigma = softplus(rho): Bayes by Backprop (Blundell et al. 2015, section 3.2). `mu`, `rho` and `sigma` have the
    kernel's shape. The bias, if any, is an ordinary parameter without prior and KL term. A subclass says what f is
    (`affine`) and how w is sampled (`sample`). Layers sample in training and evaluation alike, as Monte-Carlo inference
    needs; inside `mean_only(model)` they use w = mu.

    `layer_index` names the layer's noise within its model, see `number_layers`.

    Raises ValueError for sizes of kernel or input that do not fit, UserError for an impossible `init`.
    """

    channel_dim: int  # which dimension of inputs and outputs counts the channels
    takes: tuple[int, int, str] = (1, 64, "(N, ...)")  # how many dimensions an input has, and what they are
    takes_one = False  # whether it also takes a single example (features,)
    recorded: Callable[[], Tensor] | None = None  # what stands for the weight while a graph is recorded
    _weight_seed: int | None = None  # of the noise of `weight`; None: torch's default generator

    def __init__(
        self,
        kernel_shape: Sequence[int],
        bias: bool,
        init: PosteriorInit | None,
        layer_index: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if layer_index is not None and not isinstance(layer_index, int):
            raise ValueError(f"layer_index={layer_index!r}: must be a whole number, or None")
        init = checked_init(init)
        self._start, self.prior_scale = init, init.prior_scale
        self.layer_index = layer_index  # names its noise; None: given when the model first needs it
        self.mean_only = False
        self.generator = None
        self.mu = nn.Parameter(torch.empty(*kernel_shape, device=device, dtype=dtype))
        self.rho = nn.Parameter(torch.empty(*kernel_shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(kernel_shape[0], device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new start of the posterior from torch's default generator; tensors without memory have none."""
        if self.mu.is_meta:
            return
        init = self._start
        nn.init.normal_(self.mu, 0.0, init.mu_init_std)
        nn.init.normal_(self.rho, init.rho_init, init.rho_init_std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the posterior, of the kernel's shape."""
        return functional.softplus(self.rho)

    @property
    def mean(self) -> Tensor:
        """The posterior mean of the kernel, mu."""
        return self.mu

    @property
    def weight(self) -> Tensor:
        """The kernel as code that reads it finds it: the mean inside `mean_only`, else a sample mu + sigma * eps.

        All reads between two calls of `set_noise` give the same sample, with noise apart from that of the layer's own
        forward pass; without a key every read is a new sample.
        """
        if self.recorded is not None:
            return self.recorded()
        if self.mean_only:
            return self.mu
        if traced():
            return self.sampled_weight()
        if in_backward() and (mark := repeated_mark(self)) is not None:
            with noise_of(self, mark, once=False):  # all reads under one key are the same
                return self.sampled_weight()
        weight = self.sampled_weight()
        if not in_backward() and within_checkpoint():
            mark_pass(self, self.key_seed, 1, weight)
        return weight

    def sampled_weight(self) -> Tensor:
        """mu + sigma * eps, with the noise of the present key."""
        like = self.mu
        generator = None
        if self._weight_seed is not None:
            generator = torch.Generator(device=like.device).manual_seed(self._weight_seed)
        eps = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return torch.addcmul(like, self.sigma, eps)

    def kl(self) -> Tensor:
        """KL(posterior || prior) in nats, summed over the kernel: a 0-dim tensor.

        That is the closed form for two Gaussians (Kingma and Welling 2014, appendix B, for a prior of any width).
        Of half-precision parameters it is computed, and given, in float32: their squares and sums leave float16.
        """
        return self.divergence(self.mu, self.rho)

    def divergence(self, mu: Tensor, rho: Tensor) -> Tensor:
        """`kl` of these parameters."""
        if mu.dtype in (torch.float16, torch.bfloat16):
            mu, rho = mu.float(), rho.float()
        sigma = functional.softplus(rho)
        ratio = (sigma.square() + mu.square()) / (2 * self.prior_scale**2)
        return (ratio - sigma.log() + (math.log(self.prior_scale) - 0.5)).sum()

    def affine(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        """The conventional layer, with this kernel."""
        raise NotImplementedError

    def sample(self, x: Tensor) -> Tensor:
        """The output for a fresh sample of the kernel."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:  # torch's name for it, by which it may be called
        x = input
        if self.takes_one and x.dim() == 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self.check_input(x)
        if self.mean_only:
            return self.affine(x, self.mu, self.bias)
        return self.noisy(self.sample, x)

    @property
    def key_seed(self) -> int | None:
        """The seed of this layer's key, None without a key."""
        return None if self._weight_seed is None else self._weight_seed ^ WEIGHT_NOISE

    def noise_state(self) -> dict[str, Any]:
        """What says which noise comes next."""
        return {"generator": self.generator, "_weight_seed": self._weight_seed, "_calls": self._calls}

    def unkeyed(self) -> None:
        """Draw from torch's default generator from now on."""
        self.generator, self._weight_seed, self._calls = None, None, 0

    def check_input(self, x: Tensor) -> None:
        """Raise ValueError for an input with another number of dimensions than the layer takes."""
        least, most, words = self.takes
        if not least <= x.dim() <= most:
            raise ValueError(f"expected an input of shape {words}, got {tuple(x.shape)}")

    def seed_noise(self, seed: int) -> None:
        """Make the next forward pass draw the noise of this 64-bit seed, on the layer's own device."""
        device = self.mu.device
        if self.generator is None or self.generator.device != device:
            self.generator = torch.Generator(device=device)
        self.generator.manual_seed(seed)
        self._weight_seed, self._calls = seed ^ WEIGHT_NOISE, 0

    def standard_normal(self) -> Tensor:
        """N(0, 1) noise of the kernel's shape from this layer's generator."""
        like = self.mu
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def random_signs(self, x: Tensor, channel_dim: int | None = None) -> Tensor:
        """Independent signs +1 or -1 for every (example, channel) of `x`, shaped to multiply it."""
        channels = self.channel_dim if channel_dim is None else channel_dim
        shape = [1] * x.dim()
        shape[0], shape[channels] = x.shape[0], x.shape[channels]
        bits = torch.empty(shape, device=x.device, dtype=x.dtype).bernoulli_(0.5, generator=self.generator)
        return bits.mul_(2).sub_(1)


def bayesian_layers(model: nn.Module) -> Iterator[BayesianLayer]:
    """The Bayesian layers of `model` in module order; a shared layer comes once."""
    return (module for module in model.modules() if isinstance(module, BayesianLayer))


def kl_divergence(model: nn.Module) -> Tensor:
    """KL(posterior || prior) of all kernels of `model`, the second term of the paper's loss (eq. 2).

    A 0-dim tensor in nats that can be differentiated, on the model's device and in its precision (in float32 for half
    precision); zero for a model without Bayesian layers. A loss that is a mean over a batch adds it divided by the
    number of training examples. After a forward pass of layers by this project's kernels it costs nothing: they compute
    it with the noise.

    Raises UserError for what is no module.
    """
    terms = [layer.kl() for layer in bayesian_layers(checked_module(model, "kl_divergence"))]
    if terms:
        return torch.stack(terms).sum()
    first = next(model.parameters(), None)
    return torch.zeros(()) if first is None else first.new_zeros(())


def sigma_median(model: nn.Module) -> float | None:
    """Median of sigma over all kernel weights of `model`; None if it has no Bayesian layer."""
    with torch.no_grad():
        values: list[Any] = [layer.sigma.flatten() for layer in bayesian_layers(model)]
        return float(torch.cat(values).median()) if values else None


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Within this context the modules of `model` may be set to evaluation; afterwards each is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def mean_only(model: nn.Module) -> Iterator[None]:
    """Within this context the layers of `model` use their posterior mean: no noise, one network.

    The logits are then those of the mean weights, which is not the mean of the draws' predictions.
    Raises UserError for what is no module.
    """
    layers = list(noisy_layers(checked_module(model, "mean_only")))
    before = [layer.mean_only for layer in layers]
    try:
        for layer in layers:
            layer.mean_only = True
        yield
    finally:
        for layer, flag in zip(layers, before, strict=True):
            layer.mean_only = flag
