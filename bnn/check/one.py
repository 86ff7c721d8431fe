"""One check in a process of its own: python -m bnn.check.one FUNCTION CONTEXT ANSWER, the last a file to write."""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path

from bnn.check.outcome import ABSENT, FAULT, OK, AbsentError, Context, FaultError, one_line
from bnn.errors import UserError
from bnn.records.files import write_text


def answer(function: str, context: Context) -> tuple[str, str]:
    """(status, one line) of a check."""
    module, name = function.split(":")
    try:
        return OK, one_line(getattr(importlib.import_module(module), name)(context))
    except AbsentError as error:
        return ABSENT, one_line(error)
    except (FaultError, UserError) as error:
        return FAULT, one_line(error)
    except Exception as error:
        traceback.print_exc()
        return FAULT, one_line(f"{type(error).__name__}: {error}")


def main() -> None:
    function, context, file = sys.argv[1:]
    status, reason = answer(function, Context.from_json(context))
    write_text(Path(file), json.dumps({"status": status, "reason": reason}))


if __name__ == "__main__":
    main()
