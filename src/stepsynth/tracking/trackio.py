"""trackio: a local store, ``trackio show`` displays it; or a Space of the Hugging Face hub."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from stepsynth.tracking.making import needs
from stepsynth.tracking.steps import without_earlier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Literal

    from stepsynth.tracking.base import TrackedRun, TrackedSummary

__all__ = ["TrackioTracker"]


class TrackioTracker:
    """Sends a run to trackio.

    Args:
        project: the project's name.
        space_id: a Space of the hub to send it to, with the login of the hub's client; by default nothing leaves the machine.
        artefacts: whether to keep the page, the results and the config, too; the page shows rows.

    Raises:
        ConfigError: the library is missing.
    """

    name = "trackio"

    def __init__(self, project: str = "stepsynth", space_id: str | None = None, artefacts: bool = True) -> None:
        self._project, self._space, self._artefacts = project, space_id, artefacts
        needs("trackio", "trackio")
        self._run: Any = None
        self._trackio: Any = None
        self._steps: dict[str, set[int]] = {}

    def start(self, run: TrackedRun) -> str:
        """Begin, or continue the run with the same name."""
        import trackio

        self._trackio = trackio
        # Names are what trackio continues by, and two folders may have the same one.
        name = run.id or f"{run.group}-{run.name}-{uuid.uuid4().hex[:6]}".lstrip("-")
        self._run = trackio.init(
            self._project,
            name=name,
            group=run.group or None,
            space_id=self._space,
            config={**run.params, "stepsynth_version": run.version, "task": run.task},
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self._steps = self._known(name) if run.id else {}
        return name

    def _known(self, name: str) -> dict[str, set[int]]:
        """Return metric -> steps of the local store; a Space is not asked."""
        if self._space:
            return {}
        found: dict[str, set[int]] = {}
        for line in self._trackio.SQLiteStorage.get_logs(self._project, name):
            for key in line:
                found.setdefault(key, set()).add(int(line.get("step") or 0))
        return found

    def rounds(self) -> Collection[int]:
        """Return the steps that a continued run has."""
        return self._steps.get("rows/total", set())

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log metrics with the round as their step."""
        if new := without_earlier(metrics, number, self._steps):
            self._run.log(new, step=number)

    def summarise(self, summary: TrackedSummary) -> None:
        """Log the final figures and the table; keep the files as an artefact."""
        last = max((int(line["round"]) for line in summary.table), default=0)
        if new := without_earlier(summary.metrics, last, self._steps):
            self._run.log(new, step=last)
        if summary.table:
            import pandas

            self._run.log({"rounds": self._trackio.Table(dataframe=pandas.DataFrame(list(summary.table)))}, step=last)
        if self._artefacts:
            artefact = self._trackio.Artifact(re.sub(r"[^A-Za-z0-9._-]+", "-", self._run.name), type="run")
            for name, path in summary.files.items():
                artefact.add_file(str(path), name=name)
            self._run.log_artifact(artefact)

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """Send what is left."""
        del state
        if self._run is not None:
            self._run.finish()
