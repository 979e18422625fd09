"""The program of a worker process: reads jobs as JSON lines, does them one after the other, and ends when its driver ends."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

__all__ = ["main"]

_BEAT_S = 1.0


class _Speaker:
    """Writes lines to the driver; hears of a training's steps."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._guard = threading.Lock()

    def say(self, message: dict[str, Any]) -> None:
        try:
            with self._guard:
                self._out.write(json.dumps(message).encode() + b"\n")
                self._out.flush()
        except OSError:
            # The driver is gone.
            os._exit(1)

    def step(self, done: int, steps: int) -> None:
        self.say({"step": [done, steps]})

    def fitted(self) -> None:
        self.say({"fitted": True})

    def predicts(self) -> None:
        self.say({"predicts": True})


def main() -> None:
    """Do jobs until standard input ends."""
    # Whatever libraries print must not reach the driver.
    speaker = _Speaker(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            jobs.put(json.loads(line))
        # Also in the middle of a training: nobody waits for it any more.
        os._exit(0)

    def beat() -> None:
        while True:
            time.sleep(_BEAT_S)
            speaker.say({"beat": True})

    for target in (listen, beat):
        threading.Thread(target=target, daemon=True).start()
    while True:
        message = jobs.get()
        from stepsynth.training.workers.wire import attend, failure, read_job, use_threads

        try:
            use_threads(int(message["threads"]))
            out = Path(message["out"]) if message["out"] else None
            answer = attend(read_job(message["job"]), out, Path(message["scratch"]), speaker)
        except Exception as error:
            answer = {"failed": failure(error)}
        speaker.say(answer)


if __name__ == "__main__":
    main()
