"""plan.json of somebody else: whatever it says is read, or refused by its file and key."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.plan.content import plan_content
from campaign.plan.read import read_plan
from tests.support.campaigns import campaign
from tests.support.cells import entry, plan

PLAN = plan([entry(kind=kind) for kind in ("bnn", "cnn")])
OTHER = st.sampled_from([None, True, -1, 0, 10**400, 0.5, "", "../../x", [], {}, [None], [[]], {"name": 1}])


def read(folder: Path, content: Any) -> dict[str, Any]:
    path = folder / "plan.json"
    path.write_text(json.dumps(content))
    return read_plan(path)


def refused(folder: Path, content: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, content)
    return str(caught.value).removeprefix(f"{folder}/plan.json: ")


def test_plans_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, PLAN) == PLAN
    written = json.loads(json.dumps(plan_content(campaign())))
    assert read(tmp_path, written) == written


def test_what_a_plan_lacks_is_named_by_its_key(tmp_path: Path) -> None:
    first, second = PLAN["cells"]
    cells: dict[str, Any] = {
        "cells[0].roles: missing": {key: value for key, value in first.items() if key != "roles"},
        "cells[0].ranks: ": first | {"ranks": 0},
        "cells[0].nodes: ": first | {"nodes": True},
        "cells[0].kind: ": first | {"kind": "../.."},
        "cells[0].settings: ": first | {"settings": []},
        "cells[1]: the same cell as another one": second,
    }
    for words, cell in cells.items():
        assert refused(tmp_path, PLAN | {"cells": [cell, second]}).startswith(words)
    assert refused(tmp_path, PLAN | {"site": {"name": "../x"}}).startswith("site.name: ")
    assert refused(tmp_path, PLAN | {"site": {}}).startswith("site.name: missing")
    assert refused(tmp_path, [PLAN]).startswith("expected a plan")


@given(st.data())
def test_any_change_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    changed = copy.deepcopy(PLAN)
    at: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(OTHER)
        break
    try:
        found = read(tmp_path_factory.getbasetemp(), changed)
    except UserError:  # (of one line, as all are)
        return
    for cell in found["cells"]:
        assert cell["kind"] in ("bnn", "cnn")
        assert min(cell["nodes"], cell["batch_size"], cell["repeat"], cell["ranks"]) > 0
