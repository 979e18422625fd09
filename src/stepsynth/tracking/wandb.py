"""Weights & Biases: offline unless told otherwise; ``wandb sync`` sends an offline run later."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.tracking.making import needs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Literal

    from stepsynth.tracking.base import TrackedRun, TrackedSummary

__all__ = ["WandbTracker"]

_MODES = ("offline", "online")
_INIT_S = 30.0


class WandbTracker:
    """Sends a run to Weights & Biases, with the key of ``wandb login`` or ``$WANDB_API_KEY``.

    An offline store cannot be asked: a process that is killed within the moment between a round and the note of it in the
    run directory sends that round again.

    Args:
        project: the project's name.
        entity: the user or team; by default that of the login.
        mode: ``offline`` writes files only, ``online`` sends them; by default ``$WANDB_MODE``, else ``offline``.
        folder: gets the library's folder ``wandb``; a relative path is beside the run directory, and so is the default.
        artefacts: whether to keep the page, the results and the config, too; the page shows rows.

    Raises:
        ConfigError: the library is missing, or the mode is unknown.
    """

    name = "wandb"

    def __init__(
        self,
        project: str = "stepsynth",
        entity: str | None = None,
        mode: str | None = None,
        folder: str = ".",
        artefacts: bool = True,
    ) -> None:
        if mode is not None and mode not in _MODES:
            raise ConfigError(f"tracking: the mode of 'wandb' is {mode!r}. {did_you_mean(str(mode), _MODES)}")
        self._project, self._entity, self._artefacts = project, entity, artefacts
        self._mode: Any = mode or os.environ.get("WANDB_MODE") or "offline"
        self._folder = os.path.expanduser(os.fspath(folder))
        # No reports of its errors to its makers.
        needs("wandb", "wandb", settings={"WANDB_ERROR_REPORTING": "false"})
        self._run: Any = None
        self._wandb: Any = None

    def start(self, run: TrackedRun) -> str:
        """Begin, or continue the run with the same id."""
        import wandb

        self._wandb = wandb
        place = Path(run.folder.parent, self._folder)
        place.mkdir(parents=True, exist_ok=True)
        # Nothing about the machine or the user's program; no banner.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            init_timeout=_INIT_S,
            x_save_requirements=False,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            dir=str(place),
            id=run.id or uuid.uuid4().hex[:12],
            resume="allow",
            # The program may have a run of its own.
            reinit="create_new",
            name=run.name,
            group=run.group or None,
            job_type="stepsynth",
            tags=[run.task[:64]],
            config={**run.params, "stepsynth.version": run.version},
            allow_val_change=True,
            settings=settings,
        )
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")
        return str(self._run.id)

    def rounds(self) -> Collection[int]:
        """Return nothing: an offline run cannot be asked."""
        return ()

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log metrics over ``round``."""
        self._run.log({"round": number, **metrics})

    def summarise(self, summary: TrackedSummary) -> None:
        """Set the summary, log the table, keep the files as an artefact."""
        self._run.summary.update(dict(summary.metrics))
        if summary.table:
            columns = list(summary.table[0])
            table = self._wandb.Table(columns=columns, data=[[line[name] for name in columns] for line in summary.table])
            self._run.log({"rounds": table})
        if self._artefacts:
            name = re.sub(r"[^\w.-]+", "-", self._run.name or "run")
            artefact = self._wandb.Artifact(f"{name}-{self._run.id}", type="run")
            for path in summary.files.values():
                artefact.add_file(str(path))
            self._run.log_artifact(artefact)

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """Finish the run; one that did not finish counts as failed there."""
        if self._run is not None:
            self._run.finish(exit_code=0 if state == "finished" else 1)
