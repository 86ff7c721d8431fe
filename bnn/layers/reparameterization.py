"""The reparameterization estimator (Kingma, Welling 2014; Blundell et al. 2015): one weight sample per call.

All examples of a batch see the same kernel mu + sigma * eps, so their perturbations are correlated: cheap, and of
higher gradient variance than Flipout.
"""

from __future__ import annotations

from torch import Tensor

from bnn.layers.affine import BayesianConv2d, BayesianLinear
from bnn.layers.base import BayesianLayer


class Reparameterization(BayesianLayer):
    """The sampling of a reparameterization layer, for any function f (a convolution or a matrix product)."""

    def sample(self, x: Tensor) -> Tensor:
        return self.affine(x, self.mu + self.sigma * self.standard_normal(), self.bias)


class ReparameterizationConv2d(Reparameterization, BayesianConv2d):
    """Convolution with one kernel sample per call (Blundell et al. 2015). Shapes and errors as of `BayesianConv2d`."""


class ReparameterizationLinear(Reparameterization, BayesianLinear):
    """Dense layer with one kernel sample per call (Blundell et al. 2015). Shapes and errors as of `BayesianLinear`."""
