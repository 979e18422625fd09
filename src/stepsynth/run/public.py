"""What of a run's config may be published: no path of this machine, no address of a private server, no header."""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stepsynth.data.keeping import is_kept_name

if TYPE_CHECKING:
    from stepsynth.config import RunConfig, SourceConfig

__all__ = ["public_config", "public_name", "public_server", "source_name"]

# A folder or file that is named by its place, not a model's name such as owner/name.
_PLACE = re.compile(r"(?:/|~|\.{1,2}/)")
_EXAMPLE = "https://server.example/v1"
_UNPUBLISHED = (("cache",), ("tracking",), ("teacher", "headers"), ("teacher", "base_url"), ("teacher", "cluster"))


def public_config(config: RunConfig, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a config's values for a card.

    Args:
        config: the run's config.
        values: its values; by default those for a YAML file.
    """
    found: dict[str, Any] = _without_places(config.written() if values is None else values, "")
    for *parents, last in _UNPUBLISHED:
        node = found
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(last, None)
    if servers := config.teacher.base_urls:
        # Of several servers of one model the first stands in the answers' keys.
        shown = [public_server(servers[0]) or _EXAMPLE, *filter(None, map(public_server, servers[1:]))]
        shown = list(dict.fromkeys(shown))
        found["teacher"]["base_url"] = shown if len(shown) > 1 else shown[0]
    return found


def public_server(address: str | None) -> str:
    """Return a server's address without a query; empty for one of this machine or of a private network."""
    if not address:
        return ""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        private = not ipaddress.ip_address(host).is_global
    except ValueError:
        private = "." not in host or host.endswith((".local", ".internal", ".lan", ".home", ".localhost"))
    return "" if private else f"{parts.scheme}://{host}{parts.path}"


def public_name(name: str) -> str:
    """Return a model's name; of a file or folder of this machine, its last part alone."""
    return (PurePath(name).name or name) if _PLACE.match(name) else name


def source_name(source: SourceConfig) -> str:
    """Return what a source of rows may be called: the id of a data set, or a file's name."""
    if source.hub is not None and source.folder is None:
        return str(source.hub)
    name = PurePath(source.hub or source.path or "").name
    # Rows that a program gave are in files named by their digest.
    return "rows that a program gave" if is_kept_name(name) else name


def _without_places(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        # The user's own words; a text may begin with a slash.
        return value if key == "task" else {name: _without_places(member, str(name)) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(member, key) for member in value]
    if isinstance(value, str):
        return PurePath(value).name if key == "path" else public_name(value)
    return value
