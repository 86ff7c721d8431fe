"""Agreement in distribution with TensorFlow Probability's Flipout layers, where that is installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from bnn.layers import BayesianLayer, FlipoutConv2d, FlipoutLinear, NoiseKey, PosteriorInit, set_noise

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # tfp.layers are Keras 2 layers
tf = pytest.importorskip("tensorflow")
tfp = pytest.importorskip("tensorflow_probability")

DRAWS = 2000
WIDE = PosteriorInit(mu_init_std=0.5, rho_init=-0.5, rho_init_std=0.5)


def assign(theirs: Any, ours: BayesianLayer, kernel_axes: list[int]) -> None:
    """Give TFP's layer our posterior; both have sigma = softplus(untransformed scale)."""
    assert ours.bias is not None
    values = {
        "kernel_posterior_loc": ours.mu.detach().permute(kernel_axes).numpy(),
        "kernel_posterior_untransformed_scale": ours.rho.detach().permute(kernel_axes).numpy(),
        "bias_posterior_loc": ours.bias.detach().numpy(),
    }
    for variable in theirs.trainable_variables:
        name = variable.name.split("/")[-1].split(":")[0]
        variable.assign(values.pop(name))
    assert not values


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_outputs_have_the_same_distribution(kind: str) -> None:
    torch.manual_seed(0)
    tf.random.set_seed(0)
    if kind == "conv":
        ours: BayesianLayer = FlipoutConv2d(2, 3, 3, padding=1, init=WIDE)
        theirs = tfp.layers.Convolution2DFlipout(3, 3, padding="same")
        x, axes = torch.randn(2, 2, 4, 4), [2, 3, 1, 0]
        their_x = tf.constant(x.permute(0, 2, 3, 1).numpy())
    else:
        ours, theirs, axes = FlipoutLinear(5, 4, init=WIDE), tfp.layers.DenseFlipout(4), [1, 0]
        x = torch.randn(2, 5)
        their_x = tf.constant(x.numpy())
    theirs(their_x)  # builds its variables
    torch.nn.init.normal_(ours.bias)  # type: ignore[arg-type]
    assign(theirs, ours, axes)

    call = tf.function(theirs)
    their_draws = np.stack([call(their_x).numpy() for _ in range(DRAWS)])
    if kind == "conv":
        their_draws = their_draws.transpose(0, 1, 4, 2, 3)
    set_noise(ours, NoiseKey(1))
    with torch.no_grad():
        our_draws = torch.stack([ours(x) for _ in range(DRAWS)]).numpy()

    # Both samples are Gaussian with D draws: means differ by sqrt(2 var / D), log variances by sqrt(4 / D).
    variance = our_draws.var(0)
    assert (np.abs(our_draws.mean(0) - their_draws.mean(0)) / np.sqrt(2 * variance / DRAWS)).max() < 5
    assert np.abs(np.log(their_draws.var(0) / variance)).max() < 5 * np.sqrt(4 / DRAWS)
    first, second = our_draws.reshape(DRAWS, -1), their_draws.reshape(DRAWS, -1)
    p_values = [ks_2samp(first[:, i], second[:, i]).pvalue for i in range(0, first.shape[1], 7)]
    assert min(p_values) > 1e-4
