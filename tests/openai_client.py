"""A teacher of OpenAI's format in front of a loopback server, opened and closed around some work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loopback import LoopbackServer
from stepsynth.config import TeacherConfig
from stepsynth.teachers.openai import OpenAITeacher

__all__ = ["make_config", "use"]


def make_config(server: LoopbackServer | str, **changes: Any) -> TeacherConfig:
    """Return the config of a teacher at a server, or at an address."""
    base_url = server if isinstance(server, str) else server.base_url
    return TeacherConfig(**{"backend": "openai", "model": "loopback", "base_url": base_url, "timeout_s": 10.0, **changes})


def use(config: TeacherConfig, work: Callable[[OpenAITeacher], Awaitable[Any]]) -> Any:
    """Run ``work`` with a teacher in a loop of its own and close it."""

    async def main() -> object:
        teacher = OpenAITeacher(config)
        try:
            return await work(teacher)
        finally:
            await teacher.close()

    return asyncio.run(main())
