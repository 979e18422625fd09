"""Jobs, outcomes, errors and versions as plain JSON values, for workers in other processes.

Nothing that a worker sends is run: numbers, texts and the files of a student, each with its sha256, are all it can send.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth import errors
from stepsynth.config import TeacherConfig, parse_stored
from stepsynth.registry import FAMILIES, STUDENTS
from stepsynth.runtime.files import DISK_ERRORS
from stepsynth.runtime.ray_cluster import versions_of
from stepsynth.training.workers.base import Job, Outcome, WorkerLostError, perform, with_half_the_steps
from stepsynth.types import Example, Prediction, Span, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.students import Student
    from stepsynth.training.workers.base import Told

__all__ = [
    "attend",
    "check_files",
    "failure",
    "files_of",
    "job_document",
    "own_threads",
    "portable",
    "python_path",
    "raise_failure",
    "read_job",
    "read_outcome",
    "recipes",
    "use_threads",
    "versions",
]

# Another version of one of these may give other weights.
_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions on which a student's bytes depend."""
    return versions_of(_PACKAGES)


def portable(config: RunConfig) -> bool:
    """Whether another process finds the student's and the family's classes: built-in ones, and those of installed packages."""
    kinds = ((FAMILIES, config.task.family), (STUDENTS, config.student.kind))
    return all(name is None or registry.is_installed(name) for registry, name in kinds)


def recipes(config: RunConfig) -> tuple[Student, Student]:
    """Return a config's student, and that of each of several trainings."""
    from stepsynth.students import create_student

    return create_student(config), create_student(with_half_the_steps(config))


def own_threads() -> int:
    """Return the number of threads that this process trains with: the last digits of weights depend on it."""
    import torch

    return int(torch.get_num_threads())


def use_threads(number: int) -> None:
    """Train with the driver's number of threads."""
    import torch

    if torch.get_num_threads() != number:
        torch.set_num_threads(number)
    from threadpoolctl import threadpool_limits

    # A probe's regression is computed by numpy and scipy, whose libraries count for themselves.
    threadpool_limits(number, user_api="blas")


def job_document(job: Job) -> dict[str, Any]:
    """Return a job as plain values; ``start`` stays a path of this machine."""
    return {
        "config": _recipe(job.config).resolved(),
        "parts": [_rows(rows) for rows in job.parts],
        "select": _rows(job.select),
        "start": None if job.start is None else str(job.start),
        "judged": [_rows(rows) for rows in job.judged],
        "loader": job.loader,
    }


def _recipe(config: RunConfig) -> RunConfig:
    """Return the config without what no student depends on: workers know neither the teacher and its headers nor its plug-in."""
    nobody = TeacherConfig(backend="fake")
    return config.model_copy(update={"teacher": nobody, "cache": None, "filters": (), "tracking": ()})


def read_job(document: Mapping[str, Any]) -> Job:
    """Undo `job_document`."""
    return Job(
        parse_stored(document["config"]),
        [_read_rows(rows) for rows in document["parts"]],
        _read_rows(document["select"]),
        Path(document["start"]) if document["start"] else None,
        [_read_rows(rows) for rows in document["judged"]],
        str(document["loader"]),
    )


def _rows(rows: Sequence[Example]) -> list[list[Any]]:
    return [
        [row.id, row.text, row.label, row.context, [[a.text, a.start] for a in row.answers], row.soft_label, row.weight]
        for row in rows
    ]


def _read_rows(rows: Sequence[Sequence[Any]]) -> list[Example]:
    return [_read_row(*row) for row in rows]


def _read_row(
    name: str,
    text: str,
    label: str,
    context: str,
    spans: Sequence[Sequence[Any]],
    soft: Sequence[Sequence[Any]],
    weight: float,
) -> Example:
    answers, soft_label = tuple(Span(*span) for span in spans), tuple((str(label), float(share)) for label, share in soft)
    return Example(name, text, label, context, answers, soft_label, weight)


def attend(job: Job, out: Path | None, scratch: Path, told: Told) -> dict[str, Any]:
    """Do a job in a worker and return its outcome, or its error, as plain values."""
    try:
        outcome = perform(job, *recipes(job.config), out, scratch, told)
    except Exception as error:
        return {"failed": failure(error)}
    found: dict[str, Any] = {
        "steps": outcome.steps,
        "predictions": [[[p.label, dict(p.probabilities), p.start] for p in rows] for rows in outcome.predictions],
        "seconds": list(outcome.seconds),
        "files": files_of(out) if out and job.parts else {},
    }
    return {"done": {**found, "digest": digest(found)}}


def read_outcome(document: Any, job: Job, out: Path | None) -> Outcome:
    """Read what a worker sent, and check it and the files in ``out``.

    Raises:
        WorkerLostError: it is not what a worker sends, or files are not those that it made.
        UserError: the job failed.
    """
    if not isinstance(document, dict) or not ({"done", "failed"} & set(document)):
        raise WorkerLostError("returned something that is no result")
    if "failed" in document:
        raise_failure(document["failed"])
    try:
        found = dict(document["done"])
        if found.pop("digest") != digest(found):
            raise ValueError
        pairs = zip(job.judged, found["predictions"], strict=True)
        lists = [[_prediction(row, *given) for row, given in zip(rows, said, strict=True)] for rows, said in pairs]
        outcome = Outcome(found["steps"], lists, [float(value) for value in found["seconds"]])
        files = dict(found["files"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise WorkerLostError("returned a result that does not match its digest") from None
    if out is not None and job.parts:
        check_files(out, files)
    return outcome


def _prediction(row: Example, label: str, shares: Mapping[str, float], start: int) -> Prediction:
    return Prediction(row.id, str(label), dict(shares), int(start))


def files_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a folder."""
    found = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Check that a folder has just these files.

    Raises:
        WorkerLostError: it has others.
    """
    try:
        same = bool(files) and files_of(folder) == dict(files)
    except OSError:
        same = False
    if not same:
        raise WorkerLostError("returned files that do not match their sha256")


def failure(error: Exception) -> dict[str, Any]:
    """Return an error as plain values."""
    if isinstance(error, WorkerLostError):
        return {"lost": str(error)}
    if isinstance(error, errors.StepsynthError):
        return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return {"errno": error.errno}
    return {"traceback": "".join(traceback.format_exception(error))[-8000:]}


def raise_failure(said: Any) -> None:
    """Raise the error that a worker's job raised.

    Raises:
        StepsynthError: one of ours.
        OSError: the disk is full or broken.
        RuntimeError: a defect, with the worker's traceback.
        WorkerLostError: it is no error, or the worker itself could not go on.
    """
    if not isinstance(said, dict):
        raise WorkerLostError("returned something that is no result")
    if "lost" in said:
        raise WorkerLostError(str(said["lost"]))
    if isinstance(number := said.get("errno"), int):
        raise OSError(number, os.strerror(number))
    made = getattr(errors, str(said.get("kind")), None)
    if isinstance(made, type) and issubclass(made, errors.StepsynthError):
        raise made(str(said.get("message")), hint=str(said.get("hint")))
    raise RuntimeError(f"a worker's job failed.\n{said.get('traceback')}")


def python_path() -> str:
    """Return ``PYTHONPATH`` for a process that is to find this very package."""
    own = str(Path(__file__).parents[3])
    before = os.environ.get("PYTHONPATH", "")
    if own in before.split(os.pathsep) or own.startswith(sys.prefix):
        return before
    return os.pathsep.join(filter(None, (before, own)))
