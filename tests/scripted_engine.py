"""An engine that answers as the fake teacher does, one request after the other, and on command does what no engine should.

It is a plug-in that other processes find, too: `install` writes its entry point into a folder for ``PYTHONPATH``.
A folder, named by an environment variable, has the file ``asked`` with the key of each request and the process that answered it,
``seconds`` with the time per answer, and the commands, each for one engine: ``garbage``, ``hang``, ``die``, ``fail``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stepsynth.config import TeacherConfig
from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Request, Response

__all__ = ["FOLDER", "ScriptedEngine", "asked", "install"]

FOLDER = "STEPSYNTH_SCRIPTED_ENGINE"


def install(folder: Path) -> Path:
    """Write the entry points ``scripted`` (an engine) and ``scripted-server`` (none), as an installed package has them."""
    info = folder / "scripted_engine-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted-engine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[stepsynth.teachers]\nscripted = scripted_engine:ScriptedEngine\nscripted-server = scripted_engine:Server\n"
    )
    return folder


def asked(folder: Path) -> list[tuple[str, int]]:
    """Return the key and the process of each answer so far."""
    path = folder / "asked"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


class ScriptedEngine:
    """See above."""

    def __init__(self, config: TeacherConfig) -> None:
        self._identity = config.identity()
        self._fake = FakeTeacher(identity=self._identity)
        self._folder = Path(os.environ[FOLDER])
        if self._told("unloadable"):
            raise RuntimeError("no memory")

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        for position, (request, seed) in enumerate(zip(requests, seeds, strict=False)):
            key = request.key(self._identity)
            assert seed == int(key[:7], 16)
            time.sleep(float(self._read("seconds") or 0))
            nothing: Any = None
            if self._told("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._told("hang"):
                time.sleep(3600)
            if self._told("fail"):
                raise RuntimeError("out of memory")
            if self._told("garbage"):
                yield position, Response(nothing)
            with (self._folder / "asked").open("a") as file:
                file.write(f"{key} {os.getpid()}\n")
            yield position, self._fake.answer(request)

    def _told(self, command: str) -> bool:
        """Whether a command is given; it is for the first engine that reads it."""
        try:
            (self._folder / command).rename(self._folder / f"{command}-{os.getpid()}")
        except FileNotFoundError:
            return False
        return True

    def _read(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""


class Server:
    """A teacher behind a network, which is no engine."""

    def __init__(self, config: TeacherConfig) -> None:
        pass

    async def generate(self, request: Request) -> Response:
        return Response("x")

    async def close(self) -> None:
        pass
