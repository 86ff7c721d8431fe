"""What a drawing or a table rests on, as a digest of source files: a reason to make it anew.

Snakemake itself looks at the script of a rule, which only calls this package. The digest is of the bytes of all modules
that a script imports, directly or not, with the templates and captions that it reads: no change that could change the
result escapes it, whatever Python reads it. So a changed comment draws anew, too, which takes seconds; nothing that is
measured depends on it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from campaign.results.figures.catalogue import FIGURES

CATALOGUE = "campaign.results.figures.catalogue"
PAGE = ("report.html.j2", "cell.html.j2", "report.css", "report/*")  # of the report, in templates/


def of_figure(name: str) -> str:
    """Of a figure: its function's module, the script, and its own entry of the catalogue (not the others')."""
    spec = FIGURES[name]
    return here().digest(("campaign.results.steps.figure", spec.module), without={CATALOGUE}, words=repr(spec))


def of_tables() -> str:
    """Of all tables: they have one script."""
    return here().digest(("campaign.results.steps.tables",))


def of_projection() -> str:
    """Of the projections: also the networks' constants and the schemas of a ledger."""
    campaign = here().packages["campaign"]
    fabrics = campaign / "results" / "projection" / "fabrics.yaml"
    schemas = [campaign.parent / "schemas" / f"{name}.schema.yaml" for name in ("claims", "claim", "fabrics")]
    return here().digest(("campaign.results.steps.projection",), files=[fabrics, *schemas])


def of_claims() -> str:
    """Of the table of claims: also the schemas of a ledger. (The ledger itself is a file that the rule names.)"""
    schemas = here().packages["campaign"].parent / "schemas"
    files = [schemas / f"{name}.schema.yaml" for name in ("claims", "claim")]
    return here().digest(("campaign.results.steps.claims",), files=files)


def of_report() -> str:
    """Of the report: also its page's templates and all captions."""
    workflow = here().packages["campaign"].parent
    pages = [path for pattern in PAGE for path in sorted((workflow / "templates").glob(pattern))]
    files = [*pages, *sorted((workflow / "report").glob("*.rst"))]
    return here().digest(("campaign.results.steps.report",), files=files)


@cache
def here() -> Sources:
    """The source of this project, as this process would import it. (To import bnn would look like using all of it.)"""
    found = [spec.origin for spec in map(find_spec, ("bnn", "campaign")) if spec and spec.origin]
    return Sources([Path(origin).parent for origin in found])


@dataclass(frozen=True)
class Module:
    """A module's file: the hash of its bytes, and the names of modules that it may import, some of which are none."""

    content: str
    imports: frozenset[str]


class Sources:
    """Packages by their folders, of which modules are read once, when they are first asked for. Imports nothing."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self.packages = {folder.name: folder for folder in packages}
        self._read: dict[str, Module | None] = {}

    def digest(
        self,
        modules: Iterable[str],
        *,
        without: Collection[str] = (),
        files: Iterable[Path] = (),
        words: str = "",
    ) -> str:
        """16 hexadecimal digits, of the closure of these modules, and of the names and bytes of further files."""
        parts = [words]
        for name in sorted(self.closure(modules, without)):
            if module := self._module(name):
                parts.append(f"{name} {module.content}")
        parts += [f"{path.name} {_hash(path.read_bytes())}" for path in files]
        return _hash("\n".join(parts).encode())[:16]

    def closure(self, modules: Iterable[str], without: Collection[str] = ()) -> set[str]:
        """Names of these modules and of all that they import, directly or not, of the packages.

        A package's own module counts with each module in it. What is imported for type checkers only does not count;
        of campaign, what a function imports does. It does not of bnn: the definitions that are used here import what
        they need at their top, and what its functions import is the training.
        """
        found: set[str] = set()
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            if name in found or name in without or not (module := self._module(name)):
                continue
            found.add(name)
            waiting += [name.rpartition(".")[0], *module.imports]
        return found

    def _module(self, name: str) -> Module | None:
        """The module of this name; None when it is none of these packages, or a name within a module."""
        if name not in self._read:
            self._read[name] = self._look(name)
        return self._read[name]

    def _look(self, name: str) -> Module | None:
        package, *parts = name.split(".")
        if package not in self.packages:
            return None
        path = self.packages[package].joinpath(*parts)
        for file, inside in ((path / "__init__.py", name), (path.with_suffix(".py"), name.rpartition(".")[0])):
            if file.is_file():
                content = file.read_bytes()
                imports = _imports(ast.parse(content), inside, lazy=package != "bnn")
                return Module(_hash(content), frozenset(imports))
        return None


def _imports(tree: ast.Module, package: str, lazy: bool) -> Iterator[str]:
    """Names that a module imports, `from` a module also what may be a module in it; `lazy`: within functions, too."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, (above, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and _is_for_type_checkers(node.test):
            waiting += node.orelse
        elif lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for block in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, block, ())  # of a conditional expression and a lambda it is no list
                waiting += inner if isinstance(inner, list) else ()


def _is_for_type_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
