"""TeacherClient: requests in, answers out, journal first.

A request whose answer is known costs nothing. Every other answer is committed as received,
before it is parsed. All retries happen in this room.
"""

from __future__ import annotations

from stepsynth.generation.client import TeacherClient, ask_sample
from stepsynth.generation.oversampling import StageGenerator
from stepsynth.generation.second_reading import read_gold
from stepsynth.generation.stages import StageRunner
from stepsynth.generation.teacher_baseline import LLMPredictor, answer_requests

__all__ = ["LLMPredictor", "StageGenerator", "StageRunner", "TeacherClient", "answer_requests", "ask_sample", "read_gold"]
