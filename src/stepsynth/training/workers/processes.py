"""A pool of processes of this machine, each of which trains one student at a time.

The process is a fresh interpreter (`child`) that speaks JSON lines over two pipes, so a program needs no guard around its main
module, and a worker ends by itself when the driver does. Files stay on this disk: a worker writes into the folder it is told.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any

from stepsynth.errors import Interrupted
from stepsynth.runtime.shutdown import check_stop
from stepsynth.training.workers.base import Job, Outcome, Told, WorkerLostError, insist, step_limit
from stepsynth.training.workers.wire import job_document, own_threads, portable, python_path, read_outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepsynth.config import RunConfig

__all__ = ["Processes"]

_TICK_S = 0.2
# A worker reports once a second; one that is stopped or stuck in the kernel does not.
_BEAT_S = 120.0
_ENDED: dict[str, Any] = {"ended": True}


class Processes:
    """Workers of this machine; see `base.Workers`.

    Args:
        address: must be empty: there is only this machine.
        jobs: how many.
        note: called with a sentence about the workers.
        beat_s: how long a worker may be silent.
        step_s: how long it may report no step while its process lives; ``$STEPSYNTH_WORKER_STEP_S`` by default.
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
        self._jobs = jobs or os.cpu_count() or 1
        self._note, self._beat_s = note, beat_s
        self._step_s = step_limit() if step_s is None else step_s
        self._threads = own_threads()
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        for _ in range(self._jobs):
            self._idle.put(None)
        self._all: set[_Child] = set()
        self._guard = threading.Lock()
        self._closed = False
        cores = os.cpu_count() or 1
        if self._jobs * self._threads > cores and self._threads > 1:
            note(
                f"{self._jobs} workers with {self._threads} threads each share {cores} cores. With "
                f"OMP_NUM_THREADS={max(1, cores // self._jobs)} they would not; weights and probabilities then differ in their "
                "last digits from those with another number."
            )

    @property
    def pids(self) -> list[int]:
        """The processes that are alive."""
        with self._guard:
            return [child.pid for child in self._all]

    def at_once(self) -> int:
        """Return the number of workers."""
        return self._jobs

    def takes(self, config: RunConfig) -> bool:
        """Whether its classes are found by another process."""
        return portable(config)

    def train(self, job: Job, out: Path | None, scratch: Path, told: Told) -> Outcome:
        """See `base.Workers`."""
        return insist(lambda: self._once(job, out, scratch, told), (out, scratch), self._note)

    def close(self) -> None:
        """Stop all workers."""
        with self._guard:
            self._closed = True
            children = list(self._all)
        for child in children:
            child.kill()

    def _once(self, job: Job, out: Path | None, scratch: Path, told: Told) -> Outcome:
        child = self._free()
        whole = False
        try:
            if child is None or not child.alive:
                child = self._start()
            text = {"job": job_document(job), "out": str(out) if out else None, "scratch": str(scratch), "threads": self._threads}
            answer = child.ask(text, told, self._beat_s, self._step_s)
            # An error of the job is its outcome, too; after a wrong outcome the process is not trusted any more.
            whole = True
            return read_outcome(answer, job, out)
        except WorkerLostError:
            whole = False
            raise
        finally:
            if child is not None and not whole:
                self._drop(child)
            self._idle.put(child if whole else None)

    def _free(self) -> _Child | None:
        while True:
            check_stop()
            with contextlib.suppress(queue.Empty):
                return self._idle.get(timeout=_TICK_S)

    def _start(self) -> _Child:
        with self._guard:
            if self._closed:
                raise Interrupted("stopped; nothing is lost.", hint="Run it again to resume.")
            child = _Child()
            self._all.add(child)
            return child

    def _drop(self, child: _Child) -> None:
        child.kill()
        with self._guard:
            self._all.discard(child)


class _Child:
    """One process."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": python_path()}
        # It would end the worker where the driver is to end.
        environment.pop("STEPSYNTH_FAILPOINT", None)
        # What libraries print there is shown only if the worker dies.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stepsynth.training.workers.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            # Ctrl-C in a terminal reaches the driver alone.
            start_new_session=True,
        )
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, name="stepsynth-worker", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, message: dict[str, Any], told: Told, beat_s: float, step_s: float) -> dict[str, Any]:
        """Send a job and return the answer.

        Raises:
            WorkerLostError: the process ended or is stuck.
            Interrupted: a stop was asked for.
        """
        line = json.dumps(message).encode() + b"\n"
        # In a thread, since a stopped process does not read.
        threading.Thread(target=self._say, args=[line], daemon=True).start()
        heard = stepped = time.monotonic()
        while True:
            check_stop()
            try:
                found = self._heard.get(timeout=_TICK_S)
            except queue.Empty:
                now = time.monotonic()
                if now - heard > beat_s:
                    raise WorkerLostError(f"(process {self.pid}) was silent for {beat_s:.0f} s") from None
                if now - stepped > step_s:
                    said = f"(process {self.pid}) made no step in {step_s:.0f} s (STEPSYNTH_WORKER_STEP_S)"
                    raise WorkerLostError(said) from None
                continue
            heard = time.monotonic()
            if found is _ENDED:
                raise WorkerLostError(self._end())
            if "beat" in found:
                continue
            stepped = heard
            if "step" in found:
                told.step(*found["step"])
            elif "fitted" in found:
                told.fitted()
            elif "predicts" in found:
                # It may take hours, in one list, and a process that hangs is silent.
                stepped = math.inf
                told.predicts()
            else:
                return found

    def kill(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            # What was left to be written to it is lost.
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()

    def _say(self, line: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None  # noqa: S101
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            self._heard.put(found if isinstance(found, dict) else {"unreadable": True})
        self._heard.put(_ENDED)

    def _end(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"(process {self.pid}) was killed by signal {-code}"
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2000))
        last = self._errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:300]
        return f"(process {self.pid}) ended with exit code {code}{f': {last}' if last else ''}"
