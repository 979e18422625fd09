"""Executor: requests in, answers out, journal first.

A request whose answer is known costs nothing. Every other answer is committed as it came
before anybody parses it. Retries have one owner: this room.
"""

from __future__ import annotations

from stepsynth.executor.answering import TeacherModel
from stepsynth.executor.send import Executor, ask_sample
from stepsynth.executor.stages import StageRunner
from stepsynth.executor.waves import Generator

__all__ = ["Executor", "Generator", "StageRunner", "TeacherModel", "ask_sample"]
