"""Prompts that begin alike: the embedded engine reads their beginning once, and still answers every request once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsynth.teachers import local_openvino
from stepsynth.teachers.local_openvino import OpenVinoTeacher
from stepsynth.teachers.shared_prefixes import PrefixOrder
from stepsynth.testing import make_request

BLOCK = 32


def taken(order: PrefixOrder) -> list[int]:
    found = []
    while (position := order.take()) is not None:
        found.append(position)
    return found


def test_prompts_that_begin_alike_wait_for_the_first_of_them() -> None:
    order = PrefixOrder()
    for position, group in enumerate("abab"):
        order.add(position, [ord(group)] * 3 * BLOCK + [position])
    assert taken(order) == [0, 1]
    assert len(order) == 2
    order.has_read(1)
    assert taken(order) == [3]
    order.has_read(0)
    assert taken(order) == [2]


def test_a_beginning_that_was_read_before_delays_nobody() -> None:
    order = PrefixOrder()
    order.add(0, [1] * 4 * BLOCK)
    assert taken(order) == [0]
    order.has_read(0)
    for position in range(1, 4):
        order.add(position, [1] * 4 * BLOCK + [position])
    assert taken(order) == [1, 2, 3]


@pytest.mark.parametrize("shared", [0, BLOCK - 1, BLOCK, 2 * BLOCK - 1])
def test_nobody_waits_for_a_short_beginning(shared: int) -> None:
    """Such as the instruction, which all prompts of a task share."""
    order = PrefixOrder()
    for position in range(3):
        order.add(position, [7] * shared + [position] * 200)
    assert taken(order) == [0, 1, 2]


# With the engine -----------------------------------------------------------------------------


class _Handle:
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def can_read(self) -> bool:
        return self.steps <= 1

    def read_all(self) -> list[Any]:
        return [SimpleNamespace(generated_ids=[1, 2], finish_reason="STOP")]


class _Engine:
    """Reads a prompt in one step and answers in the next; finds what it has read when a prompt is queued, as the real one."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.read: set[tuple[int, ...]] = set()
        self.tokens_read = 0
        self.flying: list[tuple[list[int], _Handle]] = []

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        tokens = np.frombuffer(text.encode(), dtype=np.uint8)[None].astype(np.int64)
        return SimpleNamespace(input_ids=SimpleNamespace(data=tokens, shape=tokens.shape))

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        return "said"

    def add_request(self, position: int, tokens: Any, settings: object) -> _Handle:
        listed = tokens.data[0].tolist()
        known = max((end for end in range(0, len(listed), BLOCK) if not end or tuple(listed[:end]) in self.read), default=0)
        self.tokens_read += len(listed) - known
        self.flying.append((listed, _Handle(2)))
        assert len(self.flying) <= self.width
        return self.flying[-1][1]

    def step(self) -> None:
        assert self.flying
        for tokens, handle in self.flying:
            handle.steps -= 1
            self.read |= {tuple(tokens[:end]) for end in range(BLOCK, len(tokens), BLOCK)}
        self.flying = [(tokens, handle) for tokens, handle in self.flying if handle.steps]


def made(monkeypatch: pytest.MonkeyPatch, width: int) -> tuple[OpenVinoTeacher, _Engine]:
    teacher, engine = OpenVinoTeacher.__new__(OpenVinoTeacher), _Engine(width)
    teacher.tokenizer = teacher._pipeline = engine
    teacher._width, teacher._structured = width, False
    monkeypatch.setattr(local_openvino, "engine_settings", lambda request, seed: None)
    monkeypatch.setattr(local_openvino, "chat_prompt", lambda tokenizer, messages: messages[-1].content)
    monkeypatch.setattr(local_openvino, "_finished", lambda handle: handle.steps == 0)
    return teacher, engine


def test_a_shared_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, engine = made(monkeypatch, 4)
    asked = [make_request("ab"[place % 2] * 4 * BLOCK + f"{place:04}") for place in range(12)]
    found = dict(teacher.generate_batch(asked, range(12)))
    assert sorted(found) == list(range(12))
    assert {response.text for response in found.values()} == {"said"}
    assert engine.tokens_read == 2 * 4 * BLOCK + 12 * 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=40), st.integers(1, 5))
def test_every_request_is_answered_once_whatever_prompts_share(shapes: list[tuple[int, int]], width: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        teacher, _ = made(monkeypatch, width)
        read = 0

        def feed() -> Any:
            nonlocal read
            for place, (group, length) in enumerate(shapes):
                read += 1
                yield make_request("abcd"[group] * length + f"{place:02}")

        answered = 0
        for _ in teacher.generate_batch(feed(), range(100)):
            answered += 1
            assert read <= answered + 2 * width
        assert answered == len(shapes)
