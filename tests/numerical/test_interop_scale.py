"""rho of an imported layer gives TFP's standard deviation, over the whole range of float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bnn.interop.place import rho_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_sigma_is_epsilon_plus_softplus(dtype: type[np.floating], data: st.DataObject) -> None:
    value = data.draw(st.floats(-1e4, 1e4, width=32))
    untransformed = np.array([value], dtype)
    expected = np.finfo(dtype).eps + np.logaddexp(0.0, np.float64(value))
    sigma = functional.softplus(torch.from_numpy(rho_of(untransformed)).float()).item()
    # rho is rounded to float32 once: sigma moves by as much, relative to itself, where rho is negative
    rounding = float(np.finfo(np.float32).eps) * max(1.0, -float(np.log(expected)))
    assert sigma == pytest.approx(float(expected), rel=2 * rounding)
