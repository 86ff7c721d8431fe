"""A user's own model as code that may fail: whatever it raises becomes one line that names the model and the place."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import bnn
from bnn.errors import UserError
from bnn.model_names import is_own

LIBRARIES = tuple(str(Path(str(package.__file__)).parent) for package in (torch, bnn))
STANDARD = sysconfig.get_path("stdlib")
INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
LONGEST = 400  # characters of an error's text


@contextmanager
def user_code(name: str, model: nn.Module | None = None) -> Iterator[None]:
    """Within this context an exception becomes a UserError with the model's name and the place in the user's file.

    A UserError keeps its text behind the model's name.

    Where the user's code is on no line of the traceback, as in an `nn.Sequential`, the deepest layer of `model` that
    was called is named in its place. An exception of a built-in model is a bug of ours and stays what it is.
    """
    try:
        yield
    except UserError as error:
        if not is_own(name) or str(error).startswith(f"model {name}: "):
            raise
        raise UserError(f"model {name}: {error}") from error
    except Exception as error:
        if not is_own(name):
            raise
        raise UserError(f"model {name}: {told(error, model)}") from error


def told(error: Exception, model: nn.Module | None = None) -> str:
    """An exception in one line: its type, its text and where it was raised."""
    text = " ".join(str(error).split()) or "no message"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    where = " at ".join(part for part in (layer_of(error, model), line_of(error)) if part)
    return f"{type(error).__name__}: {text}" + (f" ({where})" if where else "")


def line_of(error: Exception) -> str:
    """`file:line` of the deepest frame in the user's own file, else in an installed package that is not torch."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shortened(error.filename)}:{error.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    installed = [place for place in frames if place[0].startswith(INSTALLED) and not place[0].startswith(LIBRARIES)]
    theirs = [place for place in frames if not place[0].startswith((*LIBRARIES, *INSTALLED, STANDARD, "<"))]
    for file, line in (theirs or installed)[-1:]:
        return f"{shortened(file)}:{line}"
    return ""


def layer_of(error: Exception, model: nn.Module | None) -> str:
    """`layer NAME` of the deepest layer of `model` whose method stands in the traceback."""
    names = {id(module): name for name, module in model.named_modules()} if model is not None else {}
    called = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [names[id(one)] for one in called if names.get(id(one))]
    return f"layer {found[-1]}" if found else ""


def shortened(file: str) -> str:
    """The path from the current folder on where the file lies in it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
