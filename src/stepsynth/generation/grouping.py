"""Groups requests that can be sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepsynth.types import Message, Request, Sampling

__all__ = ["grouped"]


def grouped(missing: list[tuple[str, Request]], many: int) -> list[list[tuple[str, Request]]]:
    """Group requests with equal messages and sampling, up to ``many`` each, in plan order."""
    if many == 1:
        return [[item] for item in missing]
    groups: list[list[tuple[str, Request]]] = []
    open_groups: dict[tuple[tuple[Message, ...], Sampling], list[tuple[str, Request]]] = {}
    for item in missing:
        alike = (item[1].messages, item[1].sampling)
        group = open_groups.get(alike)
        if group is None or len(group) == many:
            group = open_groups[alike] = []
            groups.append(group)
        group.append(item)
    return groups
