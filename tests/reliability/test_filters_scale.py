"""A stage of many waves looks at each accepted row once, and remembering never changes a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.filters.artefact import LabelLeakFilter
from stepsynth.filters.duplicate import Duplicate
from stepsynth.types import Candidate, GeneratedRow, Message, Request, Sampling, Verdict

WORDS = ("sour", "pos", "posh", "Pos!", "a plum", "A, plum.", "\ud800", "neg again")


def candidate(text: str, number: int) -> Candidate:
    return Candidate.of(
        Request((Message("user", ""),), Sampling(), 0, "round-0/seed", number, ("pos", "neg")[number % 2]), "k", text
    )


def rules() -> list[Duplicate | LabelLeakFilter]:
    return [Duplicate(), LabelLeakFilter({"pos": 0.4, "neg": 0.1}, {"pos": "", "neg": ""})]


@given(waves=st.lists(st.lists(st.sampled_from(WORDS), max_size=12), max_size=6), preview=st.booleans(), cut=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_a_rule_that_remembers_judges_as_a_new_one_does(waves: list[list[str]], preview: bool, cut: int) -> None:
    for place in range(len(rules())):
        remembering, accepted = rules()[place], list[GeneratedRow]()
        for number, texts in enumerate(waves):
            rows = [candidate(text, position) for position, text in enumerate(texts)]
            if preview:
                # Rows that have come so far are judged for the eye, again and again, and none of that counts.
                remembering.judge(rows[: len(rows) // 2], list(accepted))
            if number == 3:
                # Another list, not a longer one.
                del accepted[:cut]
            found = remembering.judge(rows, list(accepted))
            assert reasons(found) == reasons(rules()[place].judge(rows, list(accepted)))
            accepted += [verdict.candidate.row for verdict in found if verdict.accepted]


def reasons(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.reason for verdict in verdicts]


@pytest.mark.parametrize("rule", [Duplicate, lambda: LabelLeakFilter({"pos": 1.0, "neg": 1.0}, {"pos": "", "neg": ""})])
def test_each_accepted_row_is_looked_at_once_however_many_waves_there_are(
    rule: type[Duplicate], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    def count(text: str) -> str:
        nonlocal looked
        looked += 1
        return text.casefold()

    for room in ("duplicate", "artefact"):
        monkeypatch.setattr(f"stepsynth.filters.{room}.normalize_for_match", count)
    remembering, accepted = rule(), list[GeneratedRow]()
    for wave in range(40):
        rows = [candidate(f"text {wave} {number}", number) for number in range(25)]
        accepted += [verdict.candidate.row for verdict in remembering.judge(rows, list(accepted)) if verdict.accepted]
    assert len(accepted) == 1000
    # A row is looked at when it is judged and when it counts as accepted; two texts, or text and meaning, each time.
    assert looked <= 4 * len(accepted)


def test_a_million_remembered_texts_take_little_room() -> None:
    """What is kept of a row does not grow with its text."""
    remembering = Duplicate()
    long = candidate("word " * 5000, 0).row
    remembering.judge([], [long])
    (kept,) = remembering._accepted
    assert len(kept) == 16
    assert [verdict.reason for verdict in remembering.judge([candidate("word " * 5000, 1)], [long])] == ["duplicate"]
