"""Compiled libraries: which are current, and that a new one leaves another environment's hard link as it was."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bnn import compiled
from bnn.errors import UserError


def test_a_key_depends_on_source_and_facts() -> None:
    keys = {
        compiled.key_of(source, *facts)
        for source, facts in (("a", ()), ("b", ()), ("a", ("gcc 12",)), ("a", ("gcc 13",)), ("b", ("gcc 13",)))
    }
    assert len(keys) == 5
    assert len({key.split("\n")[1] for key in keys}) == 5, "the second line alone names a library in the cache"


def test_the_hash_knows_options_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one.c", tmp_path / "two.c"
    one.write_text("int x;")
    two.write_text("int x;")
    hashes = [
        compiled.source_hash("-O2", [one]),
        compiled.source_hash("-O3", [one]),
        compiled.source_hash("-O2", [two]),
    ]
    one.write_text("int y;")
    hashes.append(compiled.source_hash("-O2", [one]))
    assert len(set(hashes)) == 4


def test_installing_replaces_the_file_and_not_what_is_linked_to_it(tmp_path: Path) -> None:
    made, library = tmp_path / "made.so", tmp_path / "lib" / "here.so"
    made.write_text("old")
    key = compiled.key_of("source", "compiler")
    assert not compiled.is_current(library, key)
    compiled.install(made, library, key)
    assert compiled.is_current(library, key)
    elsewhere = tmp_path / "linked.so"
    os.link(library, elsewhere)
    made.write_text("new")
    other = compiled.key_of("source", "another compiler")
    compiled.install(made, library, other)
    assert library.read_text() == "new"
    assert elsewhere.read_text() == "old"
    assert compiled.is_current(library, other)
    assert not compiled.is_current(library, key)
    library.unlink()
    assert not compiled.is_current(library, other)


def test_a_library_of_another_source_is_refused_by_name(tmp_path: Path) -> None:
    library, words = tmp_path / "here.so", ("the toys are", "their")
    with pytest.raises(UserError, match=r"here\.so: the toys are not built: run python -m bnn\.toys\.build"):
        compiled.built(library, "source", "bnn.toys", words)
    made = tmp_path / "made.so"
    made.write_text("")
    compiled.install(made, library, compiled.key_of("older source"))
    with pytest.raises(UserError, match="the toys are older than their source"):
        compiled.built(library, "source", "bnn.toys", words)
    assert compiled.built(library, "older source", "bnn.toys", words) == library


def test_what_a_failed_compiler_left_goes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot build toy: no reason given"), compiled.scratch_beside(tmp_path / "toy"):
        compiled.compile_with(["false"], "toy")
    assert not list(tmp_path.iterdir())


def test_a_build_that_is_stopped_halfway_leaves_no_key_of_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, library = tmp_path / "made.so", tmp_path / "here.so"
    made.write_text("old")
    compiled.install(made, library, "old key")
    made.write_text("new")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compiled, "write_key", stopped)
    with pytest.raises(KeyboardInterrupt):
        compiled.install(made, library, "new key")
    assert library.read_text() == "new"
    assert not compiled.is_current(library, "old key")
    assert not compiled.is_current(library, "new key")


def test_two_builds_install_one_after_the_other(tmp_path: Path) -> None:
    made, library, order = tmp_path / "made.so", tmp_path / "here.so", []
    made.write_text("new")

    def install() -> None:
        compiled.install(made, library, "key")
        order.append("second")

    with compiled.one_at_a_time(library):
        other = threading.Thread(target=install)
        other.start()
        other.join(0.3)
        assert not library.exists()
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    assert compiled.is_current(library, "key")
