"""TensorBoard: event files in a folder, which TensorBoard reads with those of other runs."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.tracking.making import needs
from stepsynth.tracking.steps import without_earlier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Literal

    from stepsynth.tracking.base import TrackedRun, TrackedSummary

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker:
    """Writes a run's event files. TensorBoard takes no files: the page stays in the run directory.

    Args:
        folder: gets a folder per run, named like the run directory; a relative path is beside the run directory.

    Raises:
        ConfigError: the library is missing.
    """

    name = "tensorboard"

    def __init__(self, folder: str = "tensorboard") -> None:
        self._folder = os.path.expanduser(os.fspath(folder))
        needs("tensorboard", "tensorboard")
        self._writer: Any = None
        self._steps: dict[str, set[int]] = {}

    def start(self, run: TrackedRun) -> str:
        """Open a new event file; those of earlier processes stay beside it."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        root, name = Path(run.folder.parent, self._folder), run.id
        begun = name is not None and (root / name).is_dir()
        if name is None or not begun:
            # Another run may have this folder's name; an id that comes back means that the store has what it had.
            name = run.name if run.id is None and not (root / run.name).exists() else f"{run.name}-{uuid.uuid4().hex[:6]}"
        place = root / name
        place.mkdir(parents=True, exist_ok=True)
        self._steps = _steps(place) if begun else {}
        self._writer = EventFileWriter(str(place))
        if not begun:
            rows = [{"setting": name, "value": value} for name, value in run.params.items()]
            self._write("settings", _markdown([{"setting": "stepsynth", "value": run.version}, *rows]))
            self._writer.flush()
        return name

    def rounds(self) -> Collection[int]:
        """Return the steps that a continued run has."""
        return self._steps.get("rows/total", set())

    def log(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write scalars with the round as their step."""
        self._scalars(without_earlier(metrics, number, self._steps), number)

    def summarise(self, summary: TrackedSummary) -> None:
        """Write the final figures as scalars, and the table as a text."""
        self._scalars(without_earlier(summary.metrics, 0, self._steps), 0)
        self._write("rounds", _markdown(summary.table))
        self._writer.flush()

    def close(self, state: Literal["finished", "stopped", "failed"]) -> None:
        """Close the file."""
        del state
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, metrics: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        if values:
            self._add(Summary(value=values), step)
            self._writer.flush()

    def _write(self, tag: str, text: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
        kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        self._add(Summary(value=[Summary.Value(tag=tag, metadata=kind, tensor=tensor)]), 0)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _steps(folder: Path) -> dict[str, set[int]]:
    """Return tag -> the steps in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0: all of them.
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {tag: {event.step for event in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def _markdown(table: Sequence[Mapping[str, Any]]) -> str:
    if not table:
        return ""
    lines = [list(table[0]), ["---"] * len(table[0]), *([_cell(value) for value in line.values()] for line in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
