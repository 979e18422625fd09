"""MLflow: a server or a local store, full ``mlflow`` or ``mlflow-skinny``.

Uses `MlflowClient` with a run's id, never the library's active run, which belongs to the user's program.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.tracking.making import needs
from stepsynth.tracking.steps import without_earlier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Literal

    from stepsynth.tracking.base import TrackedRun, TrackedSummary

__all__ = ["MlflowTracker"]

# Limits of MLflow's log_batch, and of a parameter's length in servers before 2.10.
_PARAMS_AT_ONCE = 100
_LONGEST_PARAM = 500
_ENDS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# Without them the import makes a handler that writes to standard error, and a thread that reports usage to MLflow.
_SETTINGS = {"MLFLOW_CONFIGURE_LOGGING": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
_REMOTE = ("http:", "https:", "databricks", "file:")


class MlflowTracker:
    """Sends a run to MLflow.

    Args:
        uri: the server or the store, for instance ``http://127.0.0.1:5000`` or ``sqlite:///mlflow.db``; by default
            ``$MLFLOW_TRACKING_URI``, else MLflow's own default.
        experiment: the experiment's name; made if it is missing.
        artefacts: whether to send the page, the results and the config, too; the page shows rows.

    Raises:
        ConfigError: the library is missing.
    """

    name = "mlflow"

    def __init__(self, uri: str | None = None, experiment: str = "stepsynth", artefacts: bool = True) -> None:
        self._uri, self._experiment, self._artefacts = uri, str(experiment), artefacts
        store = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
        # mlflow-skinny comes without what a local store needs.
        needs("mlflow", "mlflow", *(() if not _is_database(store) else ("sqlalchemy", "alembic")), settings=_SETTINGS)
        self._client: Any = None
        self._run = ""
        self._steps: dict[str, set[int]] = {}

    def start(self, run: TrackedRun) -> str:
        """Find or make the experiment and the run."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self._uri)
        if run.id is not None:
            try:
                known = self._client.get_run(run.id)
            except MlflowException:
                # Another store, or the run was deleted there.
                known = None
            if known is not None and known.info.lifecycle_stage == "active":
                self._run = run.id
                self._client.update_run(run.id, status="RUNNING")
                self._steps = {
                    key: {metric.step for metric in self._client.get_metric_history(run.id, key)} for key in known.data.metrics
                }
                return run.id
        self._steps = {}
        experiment = self._client.get_experiment_by_name(self._experiment)
        found = experiment.experiment_id if experiment else self._client.create_experiment(self._experiment, _place(self._uri))
        tags = {"stepsynth.version": run.version, "stepsynth.task": run.task}
        if run.group:
            tags["stepsynth.comparison"] = run.group
        self._run = self._client.create_run(found, run_name=f"{run.group}/{run.name}".lstrip("/"), tags=tags).info.run_id
        self._log_params(run.params)
        return self._run

    def _log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow refuses some characters in names.
        named = [(name, str(value)) for name, value in params.items() if name.isascii()]
        found = [Param(name, value[:_LONGEST_PARAM]) for name, value in named if value]
        for start in range(0, len(found), _PARAMS_AT_ONCE):
            self._client.log_batch(self._run, params=found[start : start + _PARAMS_AT_ONCE])

    def rounds(self) -> Collection[int]:
        """Return the steps that a continued run has."""
        return self._steps.get("rows/total", set())

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log metrics with the round as their step."""
        self._log(without_earlier(metrics, number, self._steps), number)

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def summarise(self, summary: TrackedSummary) -> None:
        """Log the final metrics, the table as ``rounds.csv`` and the files."""
        self._log(without_earlier(summary.metrics, 0, self._steps), 0)
        if summary.table:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(summary.table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(summary.table)
            self._client.log_text(self._run, text.getvalue(), "rounds.csv")
        for path in summary.files.values() if self._artefacts else ():
            self._client.log_artifact(self._run, str(path))

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """Set the run's status."""
        if self._run:
            self._client.set_terminated(self._run, _ENDS[state])


def _place(uri: str | None) -> str | None:
    """Return where a new experiment keeps its files: beside a local database; ``None`` leaves it to MLflow."""
    if uri is None or not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlruns").as_uri()


def _is_database(store: str) -> bool:
    return ("://" in store and not store.startswith(_REMOTE)) or store == "sqlite:"
