"""Trains on a Ray cluster: each job is a task that nobody but us repeats, and that sends its files as bytes.

The task is a generator. It yields that it has begun, its steps, a sign of life every few seconds, the student's files, and at
last the outcome. It needs no file system in common with the driver: rows travel as values, and a base model that the worker does
not have (with the same digests) travels through the object store. The comparison, with its journals and answers, stays in the
driver.
"""

from __future__ import annotations

import contextlib
import math
import queue
import socket
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import Interrupted
from stepsynth.model_cache.sending import describe, local_folder, own_copy, received, send, write
from stepsynth.runtime.counting import counted
from stepsynth.runtime.ray_cluster import import_ray, join, leave, node_resources, one_line, other_versions
from stepsynth.runtime.shutdown import check_stop
from stepsynth.training.workers.base import Job, Outcome, Told, WorkerLostError, insist, step_limit
from stepsynth.training.workers.wire import (
    attend,
    failure,
    job_document,
    own_threads,
    portable,
    read_job,
    read_outcome,
    use_threads,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stepsynth.config import RunConfig

__all__ = ["RayWorkers", "do_job"]

_TICK_S = 0.2
_SIGN_S = 5.0
_BEAT_S = 120.0
_NODES_S = 2.0
# The files of a base model that a student reads.
_WEIGHTS = (".json", ".txt", ".model", ".safetensors")


class RayWorkers:
    """Workers on a Ray cluster; see `base.Workers`.

    Args:
        address: ``HOST:PORT`` of a cluster's head; if empty, ``$RAY_ADDRESS``, the cluster that this machine is part of, or a
            local one that ends with this object.
        jobs: the most trainings at once; by default as many as the cluster has room for.
        note: called with a sentence about the workers.
        beat_s: how long a worker may be silent.
        step_s: how long it may report no step while it lives; ``$STEPSYNTH_WORKER_STEP_S`` by default.

    Raises:
        ConfigError: Ray is not installed, or the address is one of Ray's clients.
        RunError: there is no cluster at the address, or it has another version of Ray or Python.
    """

    apart = True

    def __init__(
        self,
        address: str,
        jobs: int | None,
        note: Callable[[str], object],
        *,
        beat_s: float = _BEAT_S,
        step_s: float | None = None,
    ) -> None:
        import_ray()
        self._jobs, self._note, self._beat_s = jobs, note, beat_s
        self._step_s = step_limit() if step_s is None else step_s
        self._threads = own_threads()
        self._room = threading.Semaphore(jobs or 1_000_000)
        self._guard = threading.Lock()
        self._bases: dict[str, tuple[dict[str, Any], Any]] = {}
        self._students: dict[str, tuple[dict[str, Any], Any]] = {}
        self._counted = (-_NODES_S, 1)
        self._ray: Any = join(address, note)
        self._joined = True
        self._task: Any = self._ray.remote(max_retries=0, num_returns="streaming")(_task())
        nodes = node_resources(self._ray)
        note(f"Ray: {counted(len(nodes), 'node')}, room for {counted(self.at_once(), 'job')} at once.")

    def at_once(self) -> int:
        """Return how many trainings the cluster has room for now, at most ``jobs``."""
        counted, room = self._counted
        if time.monotonic() - counted >= _NODES_S:
            need = self._needs()
            places = [min(int(node.get(kind, 0) // share) for kind, share in need.items()) for node in node_resources(self._ray)]
            room = max(1, sum(places))
            self._counted = (time.monotonic(), room)
        return min(room, self._jobs or room)

    def takes(self, config: RunConfig) -> bool:
        """Whether its classes are found by another process."""
        return portable(config)

    def train(self, job: Job, out: Path | None, scratch: Path, told: Told) -> Outcome:
        """See `base.Workers`."""
        while not self._room.acquire(timeout=_TICK_S):
            check_stop()
        try:
            return insist(lambda: self._once(job, out, told), (out, scratch), self._note)
        finally:
            self._room.release()

    def close(self) -> None:
        """Leave the cluster; a local one that was started here ends."""
        if self._joined:
            self._joined = False
            leave()

    def _needs(self) -> dict[str, float]:
        """Return what a task occupies: its threads' cores, at most a whole node, and a GPU if there are any."""
        nodes = node_resources(self._ray)
        widest = max((node.get("CPU", 0) for node in nodes), default=0)
        gpu = {"GPU": 1.0} if any(node.get("GPU") for node in nodes) else {}
        return {"CPU": max(1.0, min(self._threads, widest)), **gpu}

    def _once(self, job: Job, out: Path | None, told: Told) -> Outcome:
        ray, needs = self._ray, self._needs()
        # A student that is only asked was trained before, and is asked again and again.
        about, weights = (None, None) if job.loader else self._base(job.config)
        student, start = self._student(job.start) if job.loader and job.start else (None, None)
        if job.start and student is None:
            start = send(sorted(path for path in job.start.iterdir() if path.is_file()), ray.put)
        document = {**job_document(job), "start": None}
        message: dict[str, Any] = {"job": document, "base": about, "student": student, "keep": out is not None}
        message |= {"threads": self._threads, "versions": versions()}
        task = self._task.options(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))
        # In a list they are fetched only by workers that need them.
        running = task.remote(message, [weights], [start])
        whole = False
        try:
            answer = self._hear(running, out, told)
            whole = True
            return read_outcome(answer, job, out)
        except ray.exceptions.RayError as error:
            check_stop()
            if not ray.is_initialized():
                raise Interrupted("stopped; nothing is lost.", hint="Run it again to resume.") from None
            raise WorkerLostError(f"was lost ({one_line(error)})") from None
        finally:
            if not whole:
                with contextlib.suppress(Exception):
                    ray.cancel(running, force=True)

    def _hear(self, running: Any, out: Path | None, told: Told) -> Any:
        """Follow a task and return its last word; its files are written into ``out``."""
        ray = self._ray
        host, heard, stepped = "", time.monotonic(), time.monotonic()
        while True:
            check_stop()
            ready, _ = ray.wait([running], timeout=_TICK_S)
            now = time.monotonic()
            if not ready:
                # One that has not begun waits for room, for as long as it takes.
                if host and now - heard > self._beat_s:
                    raise WorkerLostError(f"(on {host}) was silent for {self._beat_s:.0f} s")
                if host and now - stepped > self._step_s:
                    raise WorkerLostError(f"(on {host}) made no step in {self._step_s:.0f} s (STEPSYNTH_WORKER_STEP_S)")
                continue
            try:
                found = ray.get(next(running))
            except StopIteration:
                raise WorkerLostError(f"(on {host or 'a node'}) ended without a result") from None
            heard = now
            if not isinstance(found, dict):
                return found
            if "beat" in found:
                continue
            stepped = now
            if "began" in found:
                host = str(found["began"])
            elif "other" in found:
                raise other_versions("a worker", found["host"], found["other"], versions())
            elif "step" in found:
                told.step(*found["step"])
            elif "fitted" in found:
                told.fitted()
            elif "predicts" in found:
                # It may take hours, in one list, and a worker that hangs is silent.
                stepped = math.inf
                told.predicts()
            elif "file" in found:
                if out is None or Path(str(found["file"])).name != found["file"]:
                    raise WorkerLostError(f"(on {host}) returned a file that nobody asked for")
                (out / found["file"]).write_bytes(found["bytes"])
            else:
                return found

    def _base(self, config: RunConfig) -> tuple[dict[str, Any], Any]:
        """Return what a worker has to know about the base model, and its files in the object store."""
        with self._guard:
            name = config.student.model
            if name not in self._bases:
                folder = local_folder(name, _WEIGHTS)
                about = describe(name, folder, _WEIGHTS)
                self._bases[name] = about, send([folder / file for file in about["files"]], self._ray.put)
            return self._bases[name]

    def _student(self, folder: Path) -> tuple[dict[str, Any], Any]:
        """Return what a worker has to know about a trained student, and its files in the object store."""
        with self._guard:
            if str(folder) not in self._students:
                about = describe("", folder)
                self._students = {str(folder): (about, send([folder / file for file in about["files"]], self._ray.put))}
            return self._students[str(folder)]


# in the worker ------------------------------------------------------------------------------


def _task() -> Callable[..., Iterator[dict[str, Any]]]:
    """Return the task: a function within a function, so that Ray sends its code, also to machines without this module."""

    def work(message: dict[str, Any], weights: list[Any], start: list[Any]) -> Iterator[dict[str, Any]]:
        import socket

        try:
            from stepsynth.training.workers.ray import do_job
        except ImportError as error:
            yield {"other": str(error), "host": socket.gethostname()}
            return
        yield from do_job(message, weights, start)

    return work


class _Queued:
    """Hears of a training's steps, at most one a second."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._next = 0.0

    def step(self, done: int, steps: int) -> None:
        if done == 1 or done == steps or time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            self.said.put({"step": [done, steps]})

    def fitted(self) -> None:
        self.said.put({"fitted": True})

    def predicts(self) -> None:
        self.said.put({"predicts": True})


def do_job(message: dict[str, Any], weights: Sequence[Any], start: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Do a job in a worker of the cluster; yield what the driver is to hear.

    Args:
        message: the job, its base model or the student to be asked, the driver's threads and versions.
        weights: the base model in the object store, or ``None``.
        start: the files of the student to start from, or to ask, there, or ``None``.
    """
    if (own := versions()) != message["versions"]:
        yield {"other": own, "host": socket.gethostname()}
        return
    yield {"began": socket.gethostname()}
    with tempfile.TemporaryDirectory(prefix="stepsynth-") as name:
        folder, told = Path(name), _Queued()
        scratch, out = folder / "scratch", folder / "out" if message["keep"] else None
        for made in filter(None, (scratch, out)):
            made.mkdir()

        def work() -> None:
            try:
                use_threads(int(message["threads"]))
                document = dict(message["job"])
                if message["student"]:
                    document["start"] = str(_here(message["student"], start[0]))
                elif start[0] is not None:
                    document["start"] = str(write(folder / "start", start[0], _get))
                job = read_job(document)
                if message["base"]:
                    job = _with_base(job, _here(message["base"], weights[0], _WEIGHTS))
                told.said.put(attend(job, out, scratch, told))
            except Exception as error:
                told.said.put({"failed": failure(error)})

        threading.Thread(target=work, daemon=True).start()
        while True:
            try:
                found = told.said.get(timeout=_SIGN_S)
            except queue.Empty:
                yield {"beat": True}
                continue
            if "done" in found and out:
                for path in sorted(out.iterdir()):
                    yield {"file": path.name, "bytes": path.read_bytes()}
            yield found
            if "done" in found or "failed" in found:
                return


def _with_base(job: Job, folder: Path) -> Job:
    """Return the job with a base model of this machine."""
    student = job.config.student.model_copy(update={"model": str(folder)})
    return replace(job, config=job.config.model_copy(update={"student": student}))


def _here(about: Mapping[str, Any], pieces: Any, endings: Sequence[str] = ()) -> Path:
    """Return a folder of this machine with a model's files: its own, or those of the object store."""
    found = own_copy(about, endings) or received(about, pieces, _get)
    if found is None:
        raise WorkerLostError("got a model with other files")
    return found


def _get(reference: Any) -> bytes:
    import ray

    content: bytes = ray.get(reference)
    return content
