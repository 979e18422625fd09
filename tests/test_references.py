"""Names in docstrings: what is written between single backticks as a place in the package is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "stepsynth"
PATHS = {path.relative_to(SOURCE).with_suffix(""): path for path in SOURCE.rglob("*.py")}
MODULES = {".".join(name.parts).removesuffix(".__init__"): path for name, path in PATHS.items()}
ROOMS = {"stepsynth", *(name.split(".")[0] for name in MODULES)}
# `stepsynth.filters.REASONS`, `filters.row_filters.RowFilterBase`; not ``method.rounds``, which is a config's.
REFERENCE = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)+)`(?!`)")


@cache
def names(module: str) -> set[str]:
    """Return what a module defines or imports, and the parts of its classes as ``Class.part``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for part in node.body for name in bound(part)}
            inside = (part for part in ast.walk(node) if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self")
            found |= {f"{node.name}.{part.attr}" for part in inside}
        found |= set(bound(node))
    return found


def bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.ImportFrom() | ast.Import():
            yield from (alias.asname or alias.name for alias in node.names)
        case ast.Assign():
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def is_there(reference: str) -> bool:
    parts = reference.removeprefix("stepsynth.").split(".")
    length = next((length for length in range(len(parts), 0, -1) if ".".join(parts[:length]) in MODULES), 0)
    # Without a module it is a name of the package itself.
    module, rest = ".".join(parts[:length]) or "__init__", ".".join(parts[length:])
    return not rest or rest in names(module) or rest in names(origin(module, rest.split(".")[0]))


def origin(module: str, name: str) -> str:
    """Return the module that a module imports a name from; the module itself where it does not."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            found = node.module.removeprefix("stepsynth.")
            return found if found in MODULES else module
    return module


def test_a_place_that_a_docstring_names_is_there() -> None:
    missing = []
    for module, path in MODULES.items():
        places = [name for name in REFERENCE.findall(path.read_text(encoding="utf-8")) if name.split(".")[0] in ROOMS]
        missing += [f"{module}: {name}" for name in places if not is_there(name)]
    assert not missing


@pytest.mark.parametrize("reference", ["prompts.parse", "stepsynth.filters.nothing", "stepsynth.types.Candidate.key"])
def test_a_place_that_is_not_there_is_found(reference: str) -> None:
    assert not is_there(reference)
