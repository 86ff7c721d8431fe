"""FLOPs of a training step by formula, layer by layer and by form of computation. Needs no torch.

A multiply-add is 2 FLOPs, and taps on padded zeros count: the convention of `torch.utils.flop_counter`, which counts
the same for a layer's convolutions and matrix products. A convolution counts by its definition,
whatever algorithm computes it: the library may choose any, and the kernels take Winograd's for 3x3 taps of stride 1 on
maps from 8x8 pixels on, 16 multiplications for every 36. An implementation that leaves taps on padding out, as the
kernels do in part, does less too; `padding=False` counts what the definition cannot leave out. BatchNorm, ReLU,
pooling, biases and the signs of activations are not counted: they are a handful per activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bnn.errors import UserError
from bnn.models.describe import Description, Row


@dataclass(frozen=True)
class Pass:
    """One pass through a layer: convolutions (of the conventional layer's size) and FLOPs per weight and example."""

    convolutions: int
    per_weight: int = 0

    def flops(self, row: Row, padding: bool) -> int:
        """FLOPs of one image, with or without those on padded zeros."""
        macs = row.macs if padding else row.macs - row.padding_macs
        return 2 * self.convolutions * macs + self.per_weight * row.kernel_weights


@dataclass(frozen=True)
class Form:
    """How a layer is computed: what each of its three passes costs."""

    forward: Pass
    input_gradient: Pass
    weight_gradient: Pass


ONE, TWO = Pass(1), Pass(2)
# W_n = mu + (s_n r_n^T) delta is formed for every example: a multiply and an add per weight. Its gradient dW_n is added
# to both sums, grad(mu) += dW_n and grad(delta) += (s_n r_n^T) dW_n: two adds and a multiply per weight.
FORMED, SUMMED = Pass(1, per_weight=2), Pass(1, per_weight=3)
FORMS: dict[str, Form] = {
    # y = f(x; w): a CNN, and a BNN that samples one kernel per step (reparameterization)
    "conventional": Form(ONE, ONE, ONE),
    # y = f(x; mu) + s f(r x; delta) by library operations (Wen et al. 2018, eq. 4); f(x; mu) and f(x^2; sigma^2)
    # (local reparameterization, Kingma et al. 2015) cost the same
    "two-convolutions": Form(TWO, TWO, TWO),
    # y_n = f(x_n; W_n) by the kernels
    "per-example": Form(FORMED, FORMED, SUMMED),
    # small maps: outputs and input gradients by two library convolutions, dW_n once by the kernels
    "two-convolutions-one-gradient": Form(TWO, TWO, SUMMED),
}

# What an implementation does in every layer; `implementation_flops` says where it departs from that.
IMPLEMENTATIONS: dict[str, str] = {
    "cnn-plain": "conventional",
    "cnn": "conventional",
    "cnn-again": "conventional",
    "cnn-best": "conventional",
    "cnn-kernels": "conventional",
    "bnn-flipout": "per-example",
    "bnn-flipout-again": "per-example",
    "bnn-flipout-torch": "two-convolutions",
    "bnn-flipout-reference": "two-convolutions",
    "bnn-reparameterization": "conventional",
    "bnn-exact": "conventional",
    "bnn-local-reparameterization": "two-convolutions",
    "bnn-ivon": "conventional",
    "bnn-ivon-torch": "conventional",
    "bnn-mc-dropout": "conventional",
    "bnn-mc-dropout-torch": "conventional",
    "bayesian-torch": "two-convolutions",
    "tfp": "two-convolutions",
}


@dataclass(frozen=True)
class Flops:
    """FLOPs of one image in one training step."""

    forward: int
    input_gradient: int
    weight_gradient: int

    @property
    def backward(self) -> int:
        return self.input_gradient + self.weight_gradient

    @property
    def total(self) -> int:
        return self.forward + self.backward


def network_flops(
    description: Description, form: str, forms: Mapping[str, str] | None = None, padding: bool = True
) -> Flops:
    """FLOPs of one image in a training step of a network whose layers are computed in `form`.

    `forms` names the layers, by their `module`, that are computed in another one. Without `padding`: what no
    implementation can leave out. No gradient is taken of the images: layers that read them have no input gradient.
    Raises UserError for a form or a layer that there is not.
    """
    weighted = [row for row in description.rows if row.kernel_weights]
    chosen = {row.module: form for row in weighted} | dict(forms or {})
    for module, name in chosen.items():
        if name not in FORMS:
            raise UserError(f"form {name}: unknown; there are {', '.join(FORMS)}")
        if module not in {row.module for row in weighted}:
            raise UserError(f"model {description.model} has no layer {module} with a kernel")
    images = _reading_images(description)
    forward = sum(FORMS[chosen[row.module]].forward.flops(row, padding) for row in weighted)
    weight = sum(FORMS[chosen[row.module]].weight_gradient.flops(row, padding) for row in weighted)
    inner = [row for row in weighted if row.name not in images]
    inputs = sum(FORMS[chosen[row.module]].input_gradient.flops(row, padding) for row in inner)
    return Flops(forward, inputs, weight)


def implementation_flops(
    description: Description, implementation: str, forms: Mapping[str, str] | None = None, padding: bool = True
) -> Flops | None:
    """As `network_flops` for an implementation by name; None where no formula is stated for it.

    Where a weight is applied at a single position (dense layers), forming it for every example would cost as much as a
    second product: those layers have two products unless `forms` says otherwise.
    """
    form = form_of(implementation)
    if form is None:
        return None
    single = [row.module for row in description.rows if row.kernel_weights and row.macs == row.kernel_weights]
    dense = dict.fromkeys(single if form == "per-example" else [], "two-convolutions")
    return network_flops(description, form, dense | dict(forms or {}), padding)


def form_of(implementation: str) -> str | None:
    """The form in which an implementation computes its layers, however it is compiled and in whatever precision."""
    return IMPLEMENTATIONS.get(implementation.removesuffix("-bfloat16").removesuffix("-compiled"))


def _reading_images(description: Description) -> set[str]:
    """Names of the layers whose inputs need no gradient: nothing with parameters lies between the images and them."""
    plain: set[str] = set()  # layers whose outputs depend on no parameter
    reading: set[str] = set()
    for row in description.rows:
        if all(name in plain for name in row.connected_to):
            (reading if row.parameters else plain).add(row.name)
    return reading


class PerWeight(NamedTuple):
    """FLOPs per weight and step, whatever the batch. Every operation counts 1, also exp, log, sqrt, sin and division.

    `sigma`: softplus(rho) = log(1 + exp(rho)). `noise`: one normal by Box and Muller, half of a pair (two uniform
    numbers out of integers 4, log, *-2, sqrt, *2 pi, cos, sin, two products), and delta = sigma eps. The generator
    itself works on integers. `kl`: (sigma^2 + mu^2) / (2 s^2) - log(sigma), summed. `kl_gradient`: mu / s^2 and
    sigma / s^2 - 1 / sigma, weighted and added to the gradients, and the chain rule from delta to rho
    (eps, sigmoid(rho)).
    """

    sigma: int = 3
    noise: int = 7
    kl: int = 7
    kl_gradient: int = 12


# Per trainable parameter and step: both moments, the step and its bias corrections (Adam); mean square and step.
OPTIMIZERS = {"adam": 13, "rmsprop": 9}


def step_flops(description: Description, bayesian: bool, optimizer: str = "adam") -> int:
    """FLOPs of a step that do not depend on the batch: noise, KL and optimizer (see PerWeight, OPTIMIZERS)."""
    weights = sum(PerWeight()) if bayesian else 0
    trainable = description.trainable
    return weights * description.kernel_weights + OPTIMIZERS[optimizer] * trainable


def paper_flop_rate(description: Description) -> int:
    """What the paper calls a model's "FLOP rate" (section 4.2), recomputed: a count per parameter, not per operation.

    61 for every kernel weight of a Bayesian layer and 2 for every other parameter (kernels of a CNN, biases, all four
    of batch normalisation). This gives the four printed numbers to their last digit: 18.84 and 573.87 million (VGG-16,
    CNN and BNN), 9.82 and 299.02 million (ResNet-18). No convolution enters: what is applied at one position or at
    1,024 counts the same.
    """
    bayesian = description.kernel_weights if description.kind == "bnn" else 0
    return 61 * bayesian + 2 * (description.parameters - 2 * bayesian)
