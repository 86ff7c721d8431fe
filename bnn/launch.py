"""What the commands that run on ranks share: options in JSON, the process's start, and how errors end all ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from bnn.errors import UserError

if TYPE_CHECKING:
    from bnn.engine import Engine

Result = TypeVar("Result")


def json_object(text: str, origin: str) -> dict[str, Any]:
    """A JSON object given on the command line. Raises UserError naming the option."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{origin}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{origin}: expected a JSON object")
    return value


def process_start() -> float:
    """When this process began, seconds since 1970: imports are part of a run's start-up."""
    import psutil

    return float(psutil.Process().create_time())


def on_ranks(engine: Engine, work: Callable[[], Result]) -> Result:
    """Do this rank's work and leave in good order; an error on one of several ranks ends them all, and is named."""
    try:
        result = work()
    except UserError as error:
        if engine.size > 1:
            print(f"bnn: rank {engine.rank}: {error}", file=sys.stderr, flush=True)
            engine.abort(2)
        raise
    except Exception:
        if engine.size > 1:
            import traceback

            traceback.print_exc()
            engine.abort(1)
        raise
    engine.close()
    return result
