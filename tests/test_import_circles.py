"""No module needs another one that needs it: each can be read, imported and tested without the others."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "stepsynth"
# Here not even annotations or imports inside functions may go round in a circle.
STRICT = ("generation", "journal")


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(nodes: Iterable[ast.AST], *, everything: bool) -> Iterator[str]:
    """Yield what is imported when a module is; with ``everything`` also later, in functions, and for annotations."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imported(node.body if everything else node.orelse, everything=everything)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)
        elif everything or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(ast.iter_child_nodes(node), everything=everything)


def graph(*, everything: bool) -> dict[str, set[str]]:
    found = {}
    for name, path in MODULES.items():
        others = set(imported(ast.parse(path.read_text(encoding="utf-8")).body, everything=everything))
        found[name] = (others & MODULES.keys()) - {name}
    return found


def in_circles(edges: dict[str, set[str]]) -> set[str]:
    """Return the modules that are left when those that import nothing left, or that nothing left imports, are taken away."""
    left = {name: set(others) for name, others in edges.items()}
    while True:
        needed = {other for others in left.values() for other in others}
        loose = {name for name, others in left.items() if not others or name not in needed}
        if not loose:
            return set(left)
        left = {name: others - loose for name, others in left.items() if name not in loose}


def test_no_import_goes_round_in_a_circle() -> None:
    assert in_circles(graph(everything=False)) == set()


@pytest.mark.parametrize("room", STRICT)
def test_nor_does_one_for_annotations_or_inside_a_function(room: str) -> None:
    inside = {name for name in MODULES if name.startswith(f"stepsynth.{room}.")}
    edges = {name: others & inside for name, others in graph(everything=True).items() if name in inside}
    assert in_circles(edges) == set()


def test_a_circle_is_found() -> None:
    edges = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set(), "e": {"a"}}
    assert in_circles(edges) == {"b", "c"}
