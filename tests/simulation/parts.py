"""What a process is made of: the production client, a teacher and a display, each of which tells the world what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepsynth.generation import TeacherClient
from stepsynth.runtime.progress import SilentProgress
from stepsynth.teachers.endpoints import EndpointsTeacher

from .server import BatchTeacher, GroupTeacher, LiveTeacher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.errors import TeacherError
    from stepsynth.journal import Journal
    from stepsynth.runtime.progress import Pause, RequestStats
    from stepsynth.types import Request, Response

    from .world import World

__all__ = ["Client", "Display", "teacher_of"]


def teacher_of(world: World) -> Any:
    """Return the teacher of the present process."""
    config = world.life.config
    if config.mode == "batch":
        return BatchTeacher(world)
    kind = GroupTeacher if config.rows_per_request > 1 else LiveTeacher
    if world.life.addresses == 1:
        return kind(world)
    teachers = {f"http://sim{number}.invalid/v1": kind(world, number) for number in range(world.life.addresses)}
    return EndpointsTeacher(config, teachers, clock=lambda: world.now)


class Client(TeacherClient):
    """The production client, which tells the checks of each wave."""

    def __init__(
        self, world: World, config: TeacherConfig, journal: Journal, teacher: Any, paused: Callable[[Pause | None], object]
    ) -> None:
        super().__init__(
            config,
            journal,
            world.life.budget,
            teacher=teacher,
            pause=world.sleep,
            clock=lambda: world.now,
            wall=lambda: world.now + world.wall,
            jitter=world.draw,
            paused=paused,
        )
        self._world = world

    def run(
        self, requests: Sequence[Request], answered: Callable[[dict[str, Response | TeacherError]], None] | None = None
    ) -> dict[str, Response | TeacherError]:
        keyed = {self.key(request): request for request in requests}
        self._world.log(f"a wave of {len(keyed)}")
        self._world.checks.wave(keyed)
        found = super().run(requests, answered)
        self._world.checks.wave_ended(keyed, found)
        return found


class Display(SilentProgress):
    """A display, which may be gone at any report."""

    def __init__(self, world: World) -> None:
        self._world = world

    def advance(self, done: int, *, answers: int = 0, traffic: RequestStats | None = None) -> None:
        self._world.report()

    def finish(self, summary: str) -> None:
        self._world.report()

    def paused(self, pause: Pause | None) -> None:
        self._world.report(pause=True)
