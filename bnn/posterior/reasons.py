"""Why a model cannot be recorded, in one line: what stands in the way, and the model's own line that it comes from."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import fx

import bnn

# Lines of torch, of ours, and of Python's own library are not the model's.
PACKAGES = tuple(f"{Path(str(module.__file__)).parent}/" for module in (torch, bnn))
PYTHON = f"{Path(traceback.__file__).parent}/"
INSTALLED = "site-packages/"  # lies within the folder of Python's library in some installations
TRACE = logging.getLogger("torch.__trace")
RECORDING = str(Path(__file__).with_name("record.py"))
SPECIALIZED, GUARDED = "symbolic_shape_specialization", "guard_added_fast"  # what torch's trace calls its events

# What torch's exporter says of what it cannot follow, and what that means.
MEANT = {
    ".numpy() is not supported": "it goes on in numpy, which a posterior cannot; take torch's functions",
    "Tensor' object has no attribute 'constant'": "it uses transforms of torch.func, which torch cannot export",
    "differentiated Tensor at index": "it takes derivatives within its forward pass, which torch cannot export",
    "SymIntArrayRef expected to contain only concrete": "it draws from a generator of its own, or asks for a size as a "
    "number; no draw of that could be repeated",
    "size' failed to unpack the object at pos": "a size in it depends on values, as in packed sequences",
}


class Guards(logging.Handler):
    """Notes where, while it listens, torch decides something by the number of examples: by event, the last line.

    Torch tells of a number that has become a constant only after the model has run, and does not say where. Its
    structured trace tells of it at once, so the model's line is on the stack then.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        metadata = getattr(record, "metadata", {})
        for event in (SPECIALIZED, GUARDED):
            if event in metadata and (line := own_line(within_recording(traceback.extract_stack()))):
                self.lines[event] = line

    def __enter__(self) -> Guards:
        TRACE.addHandler(self)
        self.before, TRACE.propagate = TRACE.propagate, False  # (nobody else asked for it)
        return self

    def __exit__(self, *_: object) -> None:
        TRACE.propagate = self.before
        TRACE.removeHandler(self)

    @property
    def line(self) -> str:
        """The line that fixes the number of examples, else the last that asks something of it; or nothing."""
        return self.lines.get(SPECIALIZED) or self.lines.get(GUARDED, "")


def is_of_batch(error: Exception) -> bool:
    """Whether a model was not exported because it does not take any number of examples."""
    return "Constraints violated" in str(error) or type(error).__name__ == "ConstraintViolationError"


def reason(error: Exception, line: str = "") -> str:
    """What stands in the way, in one line; `line` is the model's, where the error itself does not say (`Guards`)."""
    kind = type(error).__name__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [kind]
    where = own_line(traceback.extract_tb(error.__traceback__)) or line
    if "data-dependent" in str(error) or kind.startswith("GuardOnDataDependent"):
        return f"it decides by values of its tensors what to compute{where or f' ({lines[0]})'}"
    if is_of_batch(error):
        if "specialized it to be a constant" in str(error):
            return f"it works for one number of examples only{where}; what it computes may not depend on it"
        guard = " ".join(lines).partition("the generated guard ")[2].replace("L['x'].size()[0]", "N")
        guard = guard.partition("Specializations")[0].partition(" Suggested")[0].partition(". ")[0].rstrip(" .")
        return f"it computes so only where the number N of examples satisfies {guard}{where}"
    for words, meant in MEANT.items():
        if words in str(error):
            return f"{meant}{where or f' ({lines[0]})'}"
    if "found a fake tensor in the exported program" in lines[0]:
        return "it takes a tensor's values past torch's exporter, as `x.data` does; `x.detach()` is recorded"
    if kind == "UnsupportedOperatorException":
        return f"operation {lines[0]}{where}: torch cannot export it"
    return " ".join(lines[0].split()) + where


def within_recording(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames of a stack that the recording called: who asked for it is not the model."""
    recording = [index for index, frame in enumerate(frames) if frame.filename == RECORDING]
    return frames[recording[-1] :] if recording else []


def own_line(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost line of the model's own code among these: " (file:line: code)"; nothing where there is none."""
    own = [frame for frame in frames if is_own(frame.filename)]
    return f" ({own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else ""


def is_own(filename: str) -> bool:
    if filename.startswith(("<", *PACKAGES)):
        return False
    return not filename.startswith(PYTHON) or INSTALLED in filename.removeprefix(PYTHON)


def place(node: fx.Node) -> str:
    """The line of the model, not of torch, that an operation comes from; else the layer, as far as torch knows it."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    own = [
        index
        for index, line in enumerate(lines)
        if line.startswith("File ") and is_own(line.removeprefix("File ").strip('"').partition('", line')[0])
    ]
    if not own:
        return layer_of(node)
    where = lines[own[-1]].removeprefix("File ").replace('"', "").replace(", line ", ":").partition(", in ")[0]
    code = lines[own[-1] + 1] if own[-1] + 1 < len(lines) else ""
    return f" ({where}: {code})"


def layer_of(node: fx.Node) -> str:
    """The layer of torch's that an operation is of: " (layer 1: FractionalMaxPool2d)"; nothing for the model itself."""
    for path, kind in reversed((node.meta.get("nn_module_stack") or {}).values()):
        name = str(path).removeprefix("model").removeprefix(".")
        if name:
            return f" (layer {name}: {str(kind).rpartition('.')[2]})"
    return ""
