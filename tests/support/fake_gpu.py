"""A GPU that is none: tensors that say they are on cuda:0 and compute on the CPU, as strict on devices as a real one.

An operation on tensors of both devices raises what torch raises; data leaves the device only by a copy. So code for
GPUs runs here from end to end, values that the host must know included. (torch's own FakeTensor has none of these.)
No autograd: for inference and pruning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

UUID = "11111111-2222-3333-4444-55555555555{}"
# Indices may lie on the host, and a copy is what moves data.
ACROSS = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_"}

TO_HOST = (Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__, Tensor.item, Tensor.tolist, Tensor.cpu)

WITH_DRIVER = (Tensor.contiguous, Tensor.nonzero, torch.sparse_csr_tensor)


class OnGpu(Tensor):
    """A tensor on the device; `inner` is what it computes with."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGpu:
        dense = inner if inner.layout == torch.strided else torch.empty(inner.shape, dtype=inner.dtype)
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=dense.stride(), storage_offset=dense.storage_offset(), dtype=inner.dtype,
            device="cuda:0",
        )  # type: ignore[attr-defined]  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class FakeGpu(TorchDispatchMode):
    """Makes tensors that are asked for on 'cuda' lie on the device. `ran` counts what ran there, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: Counter[str] = Counter()
        self.synchronised = 0
        self.current = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = dispatch(func, args, kwargs or {})
        if any(isinstance(value, OnGpu) for value in tree_flatten(result)[0]):
            self.ran[func._schema.name] += 1
        return result


class AsAsked(TorchFunctionMode):
    """What torch does before it dispatches, where it would ask the driver: new tensors, indexing, 'cuda' for cuda:0."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnGpu):
            found = func(*tree_map(bare, args))
            return OnGpu(found) if isinstance(found, Tensor) else found
        if func in TO_HOST and isinstance(args[0], OnGpu):
            return func(args[0].inner, *args[1:], **kwargs)
        if func in WITH_DRIVER and isinstance(args[0], OnGpu):
            return OnGpu(func(*tree_map(bare, args), **kwargs))
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.copy_:
            func(*tree_map(bare, args), **kwargs)
            return args[0]
        device = kwargs.get("device")
        made_there = func not in (Tensor.to, torch._C._nn._parse_to)
        if device is not None and torch.device(device).type == "cuda" and made_there:
            return OnGpu(func(*tree_map(bare, args), **{**tree_map(bare, kwargs), "device": "cpu"}))
        return func(*map(with_index, args), **{key: with_index(value) for key, value in kwargs.items()})


def with_index(value: Any) -> Any:
    return torch.device("cuda:0") if isinstance(value, str | torch.device) and str(value) == "cuda" else value


def dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    here = [value for value in given if isinstance(value, OnGpu)]
    asked = kwargs.get("device")
    if name != "aten::_to_copy" and name not in ACROSS and here:
        strangers = [value for value in given if not isinstance(value, OnGpu) and value.dim() > 0]
        if strangers:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
    on_gpu = torch.device(asked).type == "cuda" if asked is not None else bool(here)
    if name == "aten::copy_":
        on_gpu = isinstance(args[0], OnGpu)
    if asked is not None and on_gpu:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    result = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    if not on_gpu:
        return result
    same = {id(value.inner): value for value in here}  # what changes its argument returns it

    def lifted(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return same[id(value)] if id(value) in same else OnGpu(value)

    return tree_map(lifted, result)


def bare(value: Any) -> Any:
    return value.inner if isinstance(value, OnGpu) else value


@contextmanager
def fake_gpus(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> Iterator[FakeGpu]:
    """`count` of them, as torch shows them; all of their tensors are on the first."""
    gpu = FakeGpu()
    made = torch.Generator

    class Generator:  # a class, since annotations name it
        def __new__(cls, device: Any = "cpu") -> Any:
            return made()

    def waited() -> None:
        gpu.synchronised += 1

    def properties(index: int) -> Any:
        return SimpleNamespace(uuid=UUID.format(index), name="fake")

    answers = {
        "is_available": lambda: True, "device_count": lambda: count, "current_device": lambda: gpu.current,
        "set_device": lambda index: setattr(gpu, "current", index), "synchronize": waited,
        "get_device_capability": lambda index=None: (9, 0), "get_arch_list": lambda: ["sm_90"],
        "get_device_name": lambda index=None: "fake", "get_device_properties": properties,
        "max_memory_allocated": lambda: 123 << 20, "_lazy_init": lambda: None,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    # a module's parameters are replaced, since their memory cannot be
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "Generator", Generator)
    with gpu, AsAsked(), torch.no_grad():
        yield gpu
    monkeypatch.undo()
