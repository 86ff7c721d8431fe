"""Reading YAML so that a slip is an error: nothing that two versions of YAML, or two readers, take for two things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from bnn.errors import UserError
from bnn.regular import read_text_regular
from campaign.io.schema import key_path
from campaign.io.yamlscalars import FLOAT, Reading, first_fault

VALUES = 1_000_000  # of a file, what its aliases repeat counted as often as it comes
Place = tuple[str | int, ...]


class _StrictLoader(yaml.SafeLoader):
    """YAML 1.1's safe subset, with YAML 1.2's floats (1e-4 is text in YAML 1.1: a puzzling "bad type"), and no tags."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse a value that is told what to be: what `!!float ""` is, each reader says otherwise."""
        event = self.peek_event()
        if (tag := getattr(event, "tag", None)) not in (None, "!"):
            word = tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.composer.ComposerError(None, None, f"tag {word}: tags are not read", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def read_yaml(path: Path, texts: Sequence[Place] = ()) -> dict[str, Any]:
    """A YAML file as a mapping.

    `texts` are the places whose values become text as they are written ("*" stands for any key or index), such as
    exported variables: a number is refused there if its text would change on the way (1.50).

    Raises UserError naming the file (and line and key) when it is not a mapping, when a key is given twice or is no
    text, and when a plain word is one thing in YAML 1.1 and another in YAML 1.2.
    """
    text = read_text_regular(path)
    loader = None
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _check(node, loader, path, texts)
            if _written_out(node, {}) > VALUES:
                raise UserError(f"{path}: its aliases stand for more than {VALUES:,} values: write them out")
        values = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UserError(f"{path}:{line} {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected keys and values")
    return values


def _check(root: yaml.Node, loader: _StrictLoader, path: Path, texts: Sequence[Place]) -> None:
    for where, node, is_key in _scalars(root, (), {}):
        shown = key_path([part if isinstance(part, int) or part.isprintable() else repr(part) for part in where])
        line = f"{path}: line {node.start_mark.line + 1}: {shown}"
        if not isinstance(node, yaml.ScalarNode):
            raise UserError(f"{line}: a key must be a word")
        plain = node.style is None
        if is_key:
            _check_key(node, plain, line)
            continue
        if node.tag == "tag:yaml.org,2002:value":
            raise UserError(f'{line}: = is a word of YAML 1.1: write "=" in quotes')
        try:
            value = loader.construct_object(node)
        except ValueError:  # a date that is none (2024-99-99)
            value = None
        reading = Reading(node.value, value, plain, any(_fits(where, place) for place in texts))
        if fault := first_fault(reading):
            raise UserError(f"{line}: {fault}")


def _check_key(node: yaml.ScalarNode, plain: bool, line: str) -> None:
    if node.value == "<<" and plain:
        raise UserError(f"{line}: merge keys are not read: write the values out")
    if node.tag != "tag:yaml.org,2002:str":
        kind = node.tag.rpartition(":")[2]
        raise UserError(f'{line}: as a key {node.value} is read as {kind}: write "{node.value}" in quotes')
    if not node.value.isprintable():
        raise UserError(f"{line}: a key with characters that cannot be printed")


def _scalars(node: yaml.Node, where: Place, seen: dict[int, bool]) -> Iterator[tuple[Place, yaml.Node, bool]]:
    """Every scalar with its place, and every key (True); what aliases repeat is visited once.

    Raises yaml's error where a key is given twice and where an alias stands for what it is part of.
    """
    if isinstance(node, yaml.ScalarNode):
        yield where, node, False
        return
    if id(node) in seen:
        if not seen[id(node)]:
            raise yaml.constructor.ConstructorError(None, None, "an alias within itself", node.start_mark)
        return
    seen[id(node)] = False  # until all of it has been seen
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _scalars(item, (*where, index), seen)
    else:
        keys = set()
        for key, value in node.value:
            word = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            yield (*where, word), key, True
            if word in keys:
                raise yaml.constructor.ConstructorError(None, None, f"key {word!r} is given twice", key.start_mark)
            keys.add(word)
            yield from _scalars(value, (*where, word), seen)
    seen[id(node)] = True


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node would be without aliases."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [value for _, value in node.value]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def _fits(where: Place, pattern: Place) -> bool:
    return len(where) == len(pattern) and all(b in ("*", a) for a, b in zip(where, pattern, strict=True))
