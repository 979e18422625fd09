"""Keys and stored requests are put together from pieces: they are the canonical JSON of the whole, byte for byte."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

from stepsynth.journal.answers import _request_json
from stepsynth.types import Message, Request, Role, Sampling, canonical_json, digest

TEXTS = ("", "plain", 'quote " back \\ / tab\t\n\r\b\f', "\u00e9\u4e2d\U0001f600", "\ud800 lone", "\x00\x1f\x7f\u2028")
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
TEACHERS: tuple[dict[str, Any], ...] = (
    {},
    {"backend": "openai", "model": "m\u00e9", "base_url": None},
    {"b": 1, "a": [1, {"z": 2, "y": None}]},
    {"b": True},
    {"b": 1},
    {"b": 1.0},
)


def test_keys_and_stored_requests_are_the_canonical_json_of_the_whole() -> None:
    draw = random.Random(3)
    for _ in range(3000):
        numbers = (draw.choice([0, 0.0, -0.0, 1, 0.7, 1e-9, True]), draw.choice([1, 1.0, 0.9]), draw.choice([0, 0.0, 0.05]))
        sampling = Sampling(*numbers, draw.choice([1, 1.0, 1.1]), draw.choice([1, 64]))
        messages = tuple(Message(role, draw.choice(TEXTS) + draw.choice(TEXTS)) for role in ROLES)
        request = Request(messages, sampling, draw.choice([0, 1, 10**20]), "stage", 0, "label")
        teacher = draw.choice(TEACHERS)
        said = [[message.role, message.content] for message in messages]
        kept = {name: value for name, value in asdict(sampling).items() if name != "max_tokens"}
        whole = {"teacher": teacher, "messages": said, "replicate": request.replicate, **kept}
        assert request.key(teacher) == digest(whole)
        stored = {"messages": said, "sampling": asdict(sampling), "replicate": request.replicate}
        assert _request_json(request) == canonical_json(stored)
