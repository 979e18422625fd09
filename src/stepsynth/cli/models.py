"""``models list`` and ``models pull``: the embedded models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from stepsynth.errors import AssetError, did_you_mean
from stepsynth.model_cache import is_cached, list_assets, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["list_models", "print_models", "pull_models"]


def list_models() -> dict[str, Any]:
    """Return the data sheet of every embedded model; figures that were not measured are ``None``."""
    return {
        "models": [
            {
                "name": a.name,
                "kind": a.kind,
                "size_mb": round(a.size / 1e6),
                "memory_gb": round(a.memory / 1e9, 1) or None,
                "tokens_per_second": a.tokens_per_second,
                "fidelity": a.fidelity,
                "license": a.license,
                "cached": is_cached(a.name),
                "description": a.description,
            }
            for a in list_assets()
        ]
    }


def print_models(found: dict[str, Any]) -> None:
    """Print one line per model."""
    typer.echo(f"{'model':20} {'kind':8} {'download':>9} {'memory':>8} {'tokens/s':>9} {'fidelity':>9}  {'licence':11} state")
    for entry in found["models"]:
        memory = f"{entry['memory_gb']:.1f} GB" if entry["memory_gb"] else "-"
        speed = f"{entry['tokens_per_second']:.0f}" if entry["tokens_per_second"] else "-"
        fidelity = f"{entry['fidelity']} %" if entry["fidelity"] else "-"
        size = f"{entry['size_mb']:,} MB"
        state = "in the cache" if entry["cached"] else "not pulled yet"
        columns = f"{entry['name']:20} {entry['kind']:8} {size:>9} {memory:>8} {speed:>9} {fidelity:>9}"
        columns += f"  {entry['license']:11} {state}"
        typer.echo(f"{columns:97} {entry['description']}")


def pull_models(names: list[str] | None, say: Callable[[str], None]) -> dict[str, str]:
    """Fetch models into the cache; return the path of each.

    Args:
        names: by default, those that a default config uses: the best teacher that there is room for, and the student.
        say: called with one sentence per step.

    Raises:
        AssetError: a name is unknown, or a model cannot be fetched.
    """
    kinds = {asset.name: asset.kind for asset in list_assets()}
    found = {}
    for name in names or _defaults(say):
        if name not in kinds:
            raise AssetError(f"unknown model {name!r}.", hint=did_you_mean(name, kinds))
        found[name] = str(resolve(name, kind=kinds[name], report=say))
        say(f"{name}: {found[name]}")
    return found


def _defaults(say: Callable[[str], None]) -> list[str]:
    from stepsynth.config import StudentConfig, TeacherConfig
    from stepsynth.run.settling import settle_teacher

    return [settle_teacher(TeacherConfig(), report=say).model, StudentConfig().model]
