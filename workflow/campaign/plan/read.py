"""Reading plan.json, as it is written here and by earlier versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnn.errors import UserError


def read_plan(path: Path) -> dict[str, Any]:
    """Content of plan.json. Raises UserError naming the file."""
    try:
        plan = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(plan, dict) or not {"campaign", "site", "cells"} <= set(plan):
        raise UserError(f"{path}: not a plan: it needs campaign, site and cells")
    return plan
