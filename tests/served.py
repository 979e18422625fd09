"""A real server on this machine, in a thread of the test, and clients for it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from family_rows import run_config
from stepsynth.exporting.finding import FoundStudent
from stepsynth.serving import Limits, Served
from stepsynth.serving.server import address_of, listen, serve
from stepsynth.tasks import create_family
from stepsynth.types import Example, Prediction

__all__ = ["Answer", "Gated", "by_length", "fetch", "gated_student", "post", "served_at"]

TASK = {"name": "t", "instruction": "Decide.", "labels": {"a": "first", "b": "second"}}


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@contextmanager
def served_at(served: Served, limits: Limits | None = None, threshold: float | None = None) -> Iterator[str]:
    """Serve a student; yield the address."""
    stop, ready = threading.Event(), threading.Event()
    opened = listen("127.0.0.1", 0)
    address = address_of(opened)
    settings: dict[str, Any] = {"stop": stop, "threshold": threshold, "started": ready.set}
    thread = threading.Thread(target=serve, args=(served, limits or Limits(), opened), kwargs=settings)
    thread.start()
    try:
        assert ready.wait(30)
        yield address
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def fetch(address: str, path: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """Send one request."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        found = connection.getresponse()
        return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read().decode())
    finally:
        connection.close()


def post(address: str, rows: Any) -> Answer:
    """Ask for predictions."""
    return fetch(address, "/predict", "POST", json.dumps({"rows": rows}), {"Content-Type": "application/json"})


def by_length(example: Example) -> Prediction:
    """Label b for texts of even length; some texts raise an error."""
    if "poison" in example.text:
        raise ValueError(f"cannot read {example.text}")
    even = len(example.text) % 2 == 0
    return Prediction(example.id, "b" if even else "a", {"a": 0.25 if even else 0.75, "b": 0.75 if even else 0.25})


class Gated:
    """A model that answers when the gate is open, and remembers its batches."""

    def __init__(self, answer: Callable[[Example], Prediction] = by_length) -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[str]] = []

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        self.batches.append([example.text for example in examples])
        self.entered.release()
        assert self.gate.wait(30)
        return [self.answer(example) for example in examples]


def gated_student(folder: Path, *, opened: bool = False) -> tuple[Gated, Served]:
    """Return a model whose gate is closed, and the student around it."""
    model, config = Gated(), run_config(TASK, folder)
    if opened:
        model.gate.set()
    return model, Served(FoundStudent(config, folder, 1), model, create_family(config.task))
