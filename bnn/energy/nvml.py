"""The energy that NVIDIA's GPUs have taken since their driver was loaded, from the driver's own library."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from bnn.energy.counters import Counter, NotMeasurableError

LIBRARY = "libnvidia-ml.so.1"


def nvml(uuids: Iterable[str], library: str = LIBRARY) -> list[Counter]:
    """One counter per GPU, named by its UUID (`GPU-...`); Volta is the first to have one.

    Raises NotMeasurableError without the driver's library, such a GPU or its counter.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise NotMeasurableError(f"{library} cannot be loaded") from None
    _call(driver, "nvmlInit_v2")
    return [_device(driver, uuid) for uuid in uuids]


def describe(library: str = LIBRARY) -> tuple[str, list[str]]:
    """The driver's version, and the names of all GPUs that it has. Raises NotMeasurableError without it."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        raise NotMeasurableError(f"{library} cannot be loaded") from None
    _call(driver, "nvmlInit_v2")
    text, count, names = ctypes.create_string_buffer(96), ctypes.c_uint(), []
    _call(driver, "nvmlSystemGetDriverVersion", text, ctypes.c_uint(len(text)))
    version = text.value.decode(errors="replace")
    _call(driver, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        _call(driver, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        _call(driver, "nvmlDeviceGetName", handle, text, ctypes.c_uint(len(text)))
        names.append(text.value.decode(errors="replace"))
    return version, names


def _device(driver: ctypes.CDLL, uuid: str) -> Counter:
    handle = ctypes.c_void_p()
    _call(driver, "nvmlDeviceGetHandleByUUID", ctypes.c_char_p(uuid.encode()), ctypes.byref(handle))

    def read() -> float:
        millijoules = ctypes.c_ulonglong()
        _call(driver, "nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(millijoules))
        return millijoules.value / 1000

    read()  # a GPU without this counter shows now
    return Counter(uuid, read)


def _call(driver: ctypes.CDLL, name: str, *arguments: object) -> None:
    try:
        code = getattr(driver, name)(*arguments)
    except AttributeError:
        raise NotMeasurableError(f"NVML has no {name}") from None
    if code != 0:
        text = driver.nvmlErrorString
        text.restype = ctypes.c_char_p
        raise NotMeasurableError(f"NVML: {name}: {(text(code) or b'?').decode(errors='replace')}")
