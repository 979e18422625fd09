"""Keep what was learned about a server's refusals, so that the next run does not repeat them.

    recall(config, teacher)      when it is made: its first request uses what was learned
    remember(config, teacher)    after a check, or a plan's sample

One small file per teacher is kept beside the user's answers, named after the digest of the teacher's
identity. It holds only how to ask: no key, no header, no prompt. It expires after `KEPT_DAYS`, since
a server may accept tomorrow what it refuses today; a file that is unreadable or has another version
is ignored. Without the user's answers file nothing is kept.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from stepsynth.model_cache import cache_folder
from stepsynth.teachers.endpoints import EndpointsTeacher
from stepsynth.types import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig

__all__ = ["KEPT_DAYS", "LearningTeacher", "recall", "remember"]

KEPT_DAYS = 7
_VERSION = 1
_MOST_BYTES = 65_536


@runtime_checkable
class LearningTeacher(Protocol):
    """A teacher that finds out which form of request its server accepts."""

    def learned(self) -> dict[str, object]:
        """Return the findings as plain JSON values; empty if the default form works."""
        ...

    def start_with(self, learned: Mapping[str, Any]) -> None:
        """Start with earlier findings; those that are not understood or do not fit the config are ignored."""
        ...


def recall(config: TeacherConfig, teacher: object, *, now: datetime | None = None) -> bool:
    """Let a teacher start with what was learned about it; return whether there was anything.

    Args:
        config: its identity names the file.
        teacher: ignored if it is not a `LearningTeacher`.
        now: for tests.
    """
    kept = _read(_place(config), now or datetime.now(UTC))
    if kept is None or not isinstance(teacher, LearningTeacher):
        return False
    teacher.start_with(kept["learned"])
    return True


def remember(config: TeacherConfig, teacher: object, *, anew: bool = False, now: datetime | None = None) -> Path | None:
    """Keep what a teacher has learned; return the file, or ``None`` if nothing was written, or a file for each of its servers.

    Args:
        config: its identity names the file.
        teacher: ignored if it is not a `LearningTeacher`.
        anew: whether it began without the kept findings and replaces them; otherwise the older date is kept.
        now: for tests.
    """
    if isinstance(teacher, EndpointsTeacher):
        for address, one in teacher.teachers.items():
            remember(config.at(address, alone=True), one, anew=anew, now=now)
        return None
    path, moment = _place(config), now or datetime.now(UTC)
    if path is None or not isinstance(teacher, LearningTeacher):
        return None
    learned, kept = teacher.learned(), None if anew else _read(path, moment)
    if not anew and learned == (kept["learned"] if kept else {}):
        return None
    date = kept["date"] if kept else moment.isoformat(timespec="seconds")
    value = {
        "version": _VERSION,
        "date": date,
        "backend": config.backend,
        "model": config.model,
        "base_url": (config.base_url or "").partition("?")[0],
        "learned": learned,
    }
    # An unwritable cache is not a reason to stop.
    with suppress(OSError):
        _write(path, json.dumps(value, indent=1))
        return path
    return None


def _place(config: TeacherConfig) -> Path | None:
    own = os.environ.get("STEPSYNTH_ANSWERS", "")
    if own and not Path(own).is_absolute():
        # Off, or beside each run: there is no folder that several runs share.
        return None
    folder = Path(own).parent if own else cache_folder()
    return folder / "teachers" / f"{digest(config.identity())[:40]}.json"


def _read(path: Path | None, now: datetime) -> dict[str, Any] | None:
    try:
        if path is None or path.stat().st_size > _MOST_BYTES:
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
        date = datetime.fromisoformat(value["date"])
        sound = value["version"] == _VERSION and isinstance(value["learned"], dict)
        fresh = timedelta(0) <= now - date + timedelta(days=1) <= timedelta(days=KEPT_DAYS + 1)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return value if sound and fresh else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes a file that only the user can read.
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
