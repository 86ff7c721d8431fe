"""IVON: an optimizer that learns a mean-field Gaussian posterior of conventional layers' weights.

From the equations of Shen et al. 2024, "Variational Learning is Effective for Large Deep Networks". The posterior of a
weight is N(m, 1 / (lambda (h + delta))): lambda is the effective sample size (`ess`), delta the weight decay, so that
the prior is N(0, 1 / (lambda delta)). A step computes the mean loss at one sample of all weights and is then

    g <- beta1 g + (1 - beta1) G                               G: the gradient, averaged over ranks
    f  = lambda (h + delta) avg(G eps)                         eps: what the sample added to m, of each rank
    h <- h + (1 - beta2) (f - h) + (1 - beta2)^2 (h - f)^2 / (2 (h + delta))
    m <- m - alpha clip((g / (1 - beta1^t) + delta m) / (h + delta))    with the new h

Three words are kept per weight, m in the parameter, g and h in the optimizer's state. Between sample and update there
is a fourth, the sample: eps is its difference from m, which is what the gradient has seen of the noise, so that none is
kept or drawn twice. It is named by a NoiseKey: this project's kernels draw it from counters (one pass over memory each
for the sample and for the update), plain torch from a generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnn import kernels
from bnn.layers.noise import NoiseKey, layer_seed
from bnn.optim import Uncompiled, laid_as

OPS = torch.ops.bnn_kernels


@dataclass(frozen=True)
class IvonOptions:
    """lambda, delta, the start of h, the decay rates of g and h, the largest step before alpha, and what alpha is.

    With `rescale` alpha = lr (hess_init + delta), so that the first steps are those of SGD with that learning rate;
    without, alpha = lr.
    """

    ess: float
    delta: float = 1e-4
    hess_init: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.99999
    clip_radius: float = math.inf
    rescale: bool = True

    @property
    def prior_scale(self) -> float:
        """Standard deviation of the prior."""
        return 1 / math.sqrt(self.ess * self.delta)


class Ivon(Uncompiled):
    """Learns a posterior of `noisy`; `plain` parameters have none: they are stepped alike with h = hess_init, no decay.

    That is SGD with a debiased running mean of gradients. Every step is `sample`, then a backward pass, then `step`.
    Between `step` and the next `sample` parameters hold the posterior means, and state `hessian` has their h.
    `products` may give avg(G eps) for parameters; for others it is computed from the gradient and this rank's noise.
    """

    def __init__(
        self, noisy: Iterable[nn.Parameter], plain: Iterable[nn.Parameter], lr: float, options: IvonOptions
    ) -> None:
        self.options = options
        self.products: Mapping[nn.Parameter, Tensor] = {}
        self._means: dict[nn.Parameter, Tensor] = {}  # while the parameters hold a sample
        groups = [{"params": list(noisy), "noise": True}, {"params": list(plain), "noise": False}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr})
        for parameter in self._of(noise=True):
            start = torch.full_like(parameter, options.hess_init, requires_grad=False)
            self.state[parameter] = {**_start(parameter), "hessian": start}
        for parameter in self._of(noise=False):
            self.state[parameter] = _start(parameter)

    def _of(self, noise: bool) -> list[nn.Parameter]:
        return [p for group in self.param_groups if group["noise"] == noise for p in group["params"]]

    @property
    def noisy(self) -> list[nn.Parameter]:
        """The parameters that have a posterior."""
        return self._of(noise=True)

    def sigma(self, parameter: nn.Parameter) -> Tensor:
        """Standard deviation of a noisy parameter's posterior, of its shape, in float64."""
        precision = self.state[parameter]["hessian"].double() + self.options.delta
        return (self.options.ess * precision).rsqrt()

    @torch.no_grad()
    def sample(self, key: NoiseKey) -> Tensor:
        """Let the noisy parameters hold one sample of the posterior, that of `key`, until `step`.

        Returns the posterior's KL from the prior, nats, a 0-dim tensor. Raises RuntimeError for a second call before
        `step`.
        """
        if self._means:
            raise RuntimeError("a second sample before the step")
        parameters, options = self.noisy, self.options
        seeds = [_signed(layer_seed(key, index)) for index in range(len(parameters))]
        self._means = {p: p.data for p in parameters}
        hessians = [self._laid(p, "hessian") for p in parameters]
        if parameters and kernels.fits(*parameters):
            samples, kl = OPS.ivon_sample([p.data for p in parameters], hessians, seeds, options.ess, options.delta)
        else:
            samples = [self._sampled(p, h, s) for p, h, s in zip(parameters, hessians, seeds, strict=True)]
            kl = torch.stack([_kl(p, h, options) for p, h in zip(parameters, hessians, strict=True)]).sum()
        for parameter, sample in zip(parameters, samples, strict=True):
            parameter.data = sample
        return kl

    def _sampled(self, mean: nn.Parameter, hessian: Tensor, seed: int) -> Tensor:
        sigma = (self.options.ess * (hessian + self.options.delta)).rsqrt()
        generator = torch.Generator(device=mean.device).manual_seed(seed)
        eps = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return laid_as(mean, torch.addcmul(mean.data, sigma, eps))

    @torch.no_grad()
    def product(self, parameter: nn.Parameter, gradient: Tensor, to: Tensor) -> None:
        """Write gradient * eps into `to`, eps being the noise of the sample that the parameter holds now.

        `to` lies in memory as the parameter does.
        """
        gradient = laid_as(parameter, gradient)
        if kernels.fits(gradient, parameter):
            OPS.ivon_product_(gradient, parameter.data, self._means[parameter], to)
        else:
            torch.sub(parameter.data, self._means[parameter], out=to).mul_(gradient)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; the noisy ones then hold their means again.

        Raises ValueError for a closure, RuntimeError without a sample.
        """
        if closure is not None:
            raise ValueError("Ivon takes no closure")
        if self.noisy and not self._means:
            raise RuntimeError("a step without a sample")
        samples = {parameter: parameter.data for parameter in self._means}
        for parameter, mean in self._means.items():
            parameter.data = mean
        self._means = {}
        for group in self.param_groups:
            some = [p for p in group["params"] if p.grad is not None]
            for parameter in some:
                self.state[parameter]["step"] += 1
            rate = group["lr"] * (self.options.hess_init + self.options.delta if self.options.rescale else 1.0)
            if not group["noise"]:
                for parameter in some:
                    self._step_plain(parameter, rate)
            elif some and kernels.fits(*some):
                self._step_by_kernels(some, [samples[p] for p in some], rate)
            else:
                for parameter in some:
                    self._step_noisy(parameter, samples[parameter], rate)

    def _step_plain(self, parameter: nn.Parameter, rate: float) -> None:
        options, mean = self.options, self._advance(parameter)
        way = mean / (options.hess_init + options.delta)
        parameter.sub_(way.clamp_(-options.clip_radius, options.clip_radius), alpha=rate)

    def _step_noisy(self, parameter: nn.Parameter, sample: Tensor, rate: float) -> None:
        options, gradient, h = self.options, laid_as(parameter, parameter.grad), self._laid(parameter, "hessian")
        product = self.products.get(parameter)
        if product is None:
            product = gradient * (sample - parameter)
        precision = h + options.delta
        move = (1 - options.beta2) * (options.ess * precision * product - h)
        h += move + 0.5 * move.square() / precision
        way = (self._advance(parameter) + options.delta * parameter) / (h + options.delta)
        parameter.sub_(way.clamp_(-options.clip_radius, options.clip_radius), alpha=rate)

    def _advance(self, parameter: nn.Parameter) -> Tensor:
        """Bring g forward by one step; returns it debiased."""
        g = self._laid(parameter, "momentum")
        g.lerp_(laid_as(parameter, parameter.grad), 1 - self.options.beta1)
        return g / (1 - self.options.beta1 ** float(self.state[parameter]["step"]))

    def _step_by_kernels(self, some: list[nn.Parameter], samples: list[Tensor], rate: float) -> None:
        options = self.options
        given = [parameter in self.products for parameter in some]
        assert all(given) or not any(given)
        OPS.ivon_(
            some,
            [laid_as(p, p.grad) for p in some],
            samples,
            [laid_as(p, self.products[p]) for p in some] if all(given) else [],
            [self._laid(p, "momentum") for p in some],
            [self._laid(p, "hessian") for p in some],
            [self.state[p]["step"] for p in some],
            rate, options.ess, options.delta, options.beta1, options.beta2, options.clip_radius,
        )  # fmt: skip
        torch.autograd.graph.increment_version(some)  # (operators of one's own do not)

    def _laid(self, parameter: nn.Parameter, name: str) -> Tensor:
        """State of a parameter, which from now on lies in memory as the parameter does."""
        state: dict[str, Any] = self.state[parameter]
        state[name] = laid_as(parameter, state[name])
        made: Tensor = state[name]
        return made


def _start(parameter: nn.Parameter) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32),
        "momentum": torch.zeros_like(parameter, requires_grad=False),
    }


def _signed(seed: int) -> int:
    """A 64-bit seed as torch's operators and generators take it."""
    return seed - 2**64 if seed >= 2**63 else seed


def _kl(mean: Tensor, hessian: Tensor, options: IvonOptions) -> Tensor:
    """KL of N(mean, 1 / (ess (h + delta))) from N(0, 1 / (ess delta)), nats, summed."""
    precision = hessian + options.delta
    terms = options.delta / precision + options.ess * options.delta * mean.square() + (precision / options.delta).log()
    return 0.5 * (terms - 1).sum()
