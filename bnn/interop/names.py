"""Reads a file of arrays saved by TensorFlow variable name, and sorts them into layers. Needs no torch."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bnn.errors import UserError

# The kinds of layers: which variables each must have, and which it may have.
Kind = Literal["posterior", "point", "norm"]
VARIABLES: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "posterior": (("kernel_posterior_loc", "kernel_posterior_untransformed_scale"), ("bias_posterior_loc",)),
    "point": (("kernel",), ("bias",)),
    "norm": (("moving_mean", "moving_variance"), ("gamma", "beta")),
}
KERNEL_RANKS = (2, 4)  # dense (in, out) and 2-d convolution (height, width, in, out)
# What numpy and zipfile raise for a file that is damaged, or that is no archive of arrays.
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, MemoryError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class SourceLayer:
    """One layer of the file. `arrays` has its variables by their last name, in TensorFlow's layouts.

    posterior: the kernel has a mean and an untransformed scale. point: a conventional layer. norm: BatchNormalization.
    """

    name: str
    kind: Kind
    arrays: dict[str, NDArray[np.floating]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the kernel, or of a norm's moving mean. It decides which layers of a model this one can be."""
        return self.arrays[VARIABLES[self.kind][0][0]].shape

    @property
    def variable(self) -> str:
        """Name of the array that has this shape."""
        return f"{self.name}/{VARIABLES[self.kind][0][0]}"

    @property
    def bias(self) -> NDArray[np.floating] | None:
        return self.arrays.get("bias_posterior_loc", self.arrays.get("bias"))


def read_layers(file: Path) -> tuple[list[SourceLayer], str]:
    """The layers of an .npz of TensorFlow variables, in the order of the file, and the file's SHA-256.

    Names are `<layer>/<variable>` with or without TensorFlow's `:0`. Raises UserError naming the file and the array
    that is missing, unknown, not numbers of float32 or float64, of an impossible shape, NaN or infinite.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or 'cannot be read'}") from None
    grouped: dict[str, dict[str, NDArray[np.floating]]] = {}
    for name, array in read_arrays(file, content):
        check_values(file, name, array)
        layer, _, variable = re.sub(r":\d+$", "", name).rpartition("/")
        if not layer:
            raise UserError(f"{file}: array {name}: not named <layer>/<variable>")
        variables = grouped.setdefault(layer, {})
        if variable in variables:
            raise UserError(f"{file}: array {layer}/{variable}: there are two")
        variables[variable] = array
    if not grouped:
        raise UserError(f"{file}: holds no arrays")
    layers = [make_layer(file, name, variables) for name, variables in grouped.items()]
    return layers, hashlib.sha256(content).hexdigest()


def read_arrays(file: Path, content: bytes) -> list[tuple[str, NDArray[np.floating]]]:
    """All arrays of the archive. Nothing is unpickled: arrays of objects are refused."""
    name = ""
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError(f"{file}: one array, not an .npz of arrays by variable name")
        with archive:
            if len(archive.files) > len(set(archive.files)):
                raise UserError(f"{file}: two arrays have the same name")
            arrays = []
            for name in archive.files:
                value = archive[name]
                if not isinstance(value, np.ndarray):
                    raise UserError(f"{file}: {name}: not an array")
                arrays.append((name, value))
            return arrays
    except UserError:
        raise
    except UNREADABLE as error:
        where = f"array {name}: " if name else ""
        text = " ".join(str(error).split())
        raise UserError(f"{file}: {where}truncated, damaged or no .npz of numbers ({text})") from None


def check_values(file: Path, name: str, array: NDArray[np.floating]) -> None:
    if array.dtype not in (np.float32, np.float64):
        raise UserError(f"{file}: array {name} is {array.dtype}, expected float32 or float64")
    if np.isnan(array).any():
        raise UserError(f"{file}: array {name} contains NaN")
    if (np.abs(array) > np.finfo(np.float32).max).any():
        raise UserError(f"{file}: array {name} contains infinity, or numbers too large for float32")


def make_layer(file: Path, name: str, variables: dict[str, NDArray[np.floating]]) -> SourceLayer:
    """The layer these variables make. Raises UserError naming one that it lacks or that has no place in it."""
    kinds: list[Kind] = [kind for kind, (must, may) in VARIABLES.items() if variables.keys() & {*must, *may}]
    if not kinds:
        raise UserError(f"{file}: array {name}/{min(variables)}: left over; no layer has such a variable")
    kind = kinds[0]
    must, may = VARIABLES[kind]
    if left := [variable for variable in variables if variable not in (*must, *may)]:
        if left[0] == "bias_posterior_untransformed_scale":
            raise UserError(f"{file}: array {name}/{left[0]}: a bias with a distribution; here biases have none")
        raise UserError(f"{file}: array {name}/{left[0]}: left over; {name} has {', '.join(sorted(variables))}")
    if missing := [variable for variable in must if variable not in variables]:
        raise UserError(f"{file}: no array {name}/{missing[0]}, but {name}/{min(variables)}")
    layer = SourceLayer(name, kind, variables)
    check_layer_shapes(file, layer)
    if kind == "norm" and (variables["moving_variance"] < 0).any():
        raise UserError(f"{file}: array {name}/moving_variance contains negative values")
    return layer


def check_layer_shapes(file: Path, layer: SourceLayer) -> None:
    """Raise UserError unless the variables fit each other: biases and norms have one value per output channel."""
    shape = layer.shape
    if len(shape) not in ((1,) if layer.kind == "norm" else KERNEL_RANKS) or 0 in shape:
        raise UserError(f"{file}: array {layer.variable} has shape {shape}, as no layer known here")
    for variable, array in layer.arrays.items():
        expected = shape if "kernel" in variable else shape[-1:]
        if array.shape != expected:
            raise UserError(f"{file}: array {layer.name}/{variable} has shape {array.shape}, expected {expected}")
