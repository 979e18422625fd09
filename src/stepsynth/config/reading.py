"""YAML text to plain values; whatever YAML would silently drop or change is refused.

A repeated key in a mapping would lose its first value. A label without quotes may become a
number, a date or nothing: ``01`` is 1, ``+1`` is 1, ``0x10`` is 16, ``12:30`` is 750.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from stepsynth.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["read_yaml"]

_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
# The validators of these sections report how YAML read yes, no and empty values.
_SAID_LATER = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")


def read_yaml(text: str, *, keys: tuple[str, ...] = (), inside: Sequence[tuple[str, ...]] = ()) -> Any:
    """Return the value of a YAML document.

    Args:
        text: the document.
        keys: the keys that lead to the value, if it is part of a config.
        inside: the places of further configs, or of changes by dotted keys, in the document; ``*`` stands for any key.

    Raises:
        ConfigError: a mapping repeats a key, or YAML reads a label differently from its spelling.
        yaml.YAMLError: the document is not valid.
        ValueError: it holds a date that does not exist.
        RecursionError: it is nested too deeply.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node)
        further = [found for place in inside for found in _configs(node, place)]
        for label, where in (*_labels(node, keys), *further):
            value = loader.construct_object(label) if label.tag not in (_TEXT, *_SAID_LATER) else label.value
            if str(value) != label.value:
                raise ConfigError(
                    f"{where}: YAML reads {label.value} as {value} (line {label.start_mark.line + 1}).",
                    hint="Put it in quotes if that is the label's spelling.",
                )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_repeated_keys(root: yaml.Node) -> None:
    # Anchors may form cycles, and reach the same node in many ways.
    seen: set[int] = set()
    waiting: list[tuple[yaml.Node, str]] = [(root, "")]
    while waiting:
        node, where = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, where) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                named = isinstance(key, yaml.ScalarNode) and key.tag != _MERGE
                if named and key.value in lines:
                    raise _repeated(key, where, lines[key.value])
                if named:
                    lines[key.value] = key.start_mark.line + 1
                waiting.append((value, f"{where}.{key.value}".lstrip(".") if named else where))


def _repeated(key: yaml.ScalarNode, where: str, first: int) -> ConfigError:
    second = key.start_mark.line + 1
    lines = f"twice on line {first}" if first == second else f"on line {first} and on line {second}"
    return ConfigError(
        f"the key {key.value!r} is repeated: {lines}{f', in {where}' if where else ''}.",
        hint="Remove one: YAML would drop the first.",
    )


def _configs(node: yaml.Node, place: tuple[str, ...]) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yield the labels of the configs at a place, see `_labels`."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if not place:
            yield from _labels(value, tuple(key.value.split(".")))
        elif place[0] in ("*", key.value):
            yield from _configs(value, place[1:])


def _labels(node: yaml.Node, keys: tuple[str, ...]) -> Iterator[tuple[yaml.ScalarNode, str]]:
    """Yield the scalars that are labels, with the keys that lead to them."""
    path = list(keys)
    if path[:2] == ["task", "labels"] or (len(path) >= 3 and path[0] == "data" and path[2] == "labels"):
        where, both = ".".join(path[: 2 if path[0] == "task" else 3]), path[0] == "data"
        if isinstance(node, yaml.ScalarNode):
            # The value of one label: a meaning in the task, one of our labels in a source.
            yield from [(node, where)] if both else []
        elif isinstance(node, yaml.SequenceNode):
            yield from ((item, where) for item in node.value if isinstance(item, yaml.ScalarNode))
        elif isinstance(node, yaml.MappingNode):
            scalars = [part for pair in node.value for part in (pair if both else pair[:1])]
            yield from ((part, where) for part in scalars if isinstance(part, yaml.ScalarNode) and part.tag != _MERGE)
    elif isinstance(node, yaml.MappingNode) and len(path) < 3:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _labels(value, (*path, key.value))
