"""Near-duplicates: what counts as one, the filter for written rows, and that nothing depends on the order of arrival."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import stepsynth
from stepsynth.config import RunConfig, parse_stored
from stepsynth.errors import ConfigError
from stepsynth.filters import REASONS, FilterPipeline
from stepsynth.filters.near_duplicate import NearDuplicate
from stepsynth.journal import Journal
from stepsynth.near_duplicates import NearDuplicates
from stepsynth.run.settling import settle
from stepsynth.types import Candidate, DropReason, Example, GeneratedRow, Span
from world import build_world

TEXT = "My order 4711 has not arrived, please send it again"
ALIKE = [
    "my order 4711 has not arrived please send it again!",
    "My order 4712 has not arrived, please send it again",
    "My order 4711 has still not arrived, please send it again",
    "MY ORDER 4711 HAS NOT ARRIVED; PLEASE SEND IT AGAIN",
]
OTHER = ["I would like to return a pair of shoes", "My order has arrived twice, what shall I do?", "?!", ""]


def row(text: str, label: str = "a", context: str = "", answer: str = "", position: int = 0) -> GeneratedRow:
    return GeneratedRow("round-0/seed", position, "", label, None, text, context, Span(answer, 0) if answer else None)


def dropped(rule: NearDuplicate, rows: Sequence[GeneratedRow], accepted: Sequence[GeneratedRow] = ()) -> list[bool]:
    verdicts = rule.judge([Candidate(each) for each in rows], accepted)
    assert {verdict.reason for verdict in verdicts} <= {"", DropReason.NEAR_DUPLICATE}
    return [not verdict.accepted for verdict in verdicts]


# similarity ---------------------------------------------------------------------------------------


def trigrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}


WORDS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12), st.lists(WORDS, max_size=12), st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_it_is_the_jaccard_similarity_of_trigrams(texts: list[str], before: list[str], similarity: float) -> None:
    kept, expected = [trigrams(text) for text in before], []
    for text in texts:
        own = trigrams(text)
        near = any(len(own & other) / len(own | other) >= similarity for other in kept)
        expected.append(near)
        kept += [] if near else [own]
    seen = NearDuplicates(similarity)
    seen.add(before, [()] * len(before))
    assert seen.judge(texts, [()] * len(texts)) == expected
    # Nothing was remembered.
    assert seen.judge(texts, [()] * len(texts)) == expected


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95, 1.0])
def test_no_pair_is_missed_though_few_are_counted(similarity: float) -> None:
    """Only the rarest trigrams of long texts are compared at first: copies with ever more other words, short and long."""
    draw = Random(similarity)
    words = ["".join(draw.choices("abcdefgh", k=draw.randrange(1, 7))) for _ in range(150)]
    texts = []
    for _ in range(30):
        text = draw.choices(words, k=draw.randrange(1, 40))
        for _ in range(8):
            texts.append(" ".join(text))
            text[draw.randrange(len(text))] = draw.choice(words)
    draw.shuffle(texts)
    sets = [trigrams(text) for text in texts]
    known = [any(len(own & other) / len(own | other) >= similarity for other in sets[:120]) for own in sets]
    seen = NearDuplicates(similarity)
    seen.add(texts[:120], [()] * 120)
    assert seen.known(texts, [()] * len(texts)) == known


def test_punctuation_a_number_and_a_word_make_no_other_text() -> None:
    seen = NearDuplicates(0.7)
    seen.add([TEXT], [()])
    assert seen.known([*ALIKE, *OTHER], [()] * 8) == [True] * 4 + [False] * 4
    assert seen.known([TEXT], [("another group",)]) == [False]


def test_scripts_without_spaces_and_odd_characters_are_compared() -> None:
    seen = NearDuplicates(0.7)
    seen.add(["我的订单还没有到货 请再发一次给我好吗", "\ud800 lone surrogate in a text"], [()] * 2)
    found = seen.known(["我的订单还没有到货。请再发一次给我好吗。", "lone surrogate in a text", "\ud800", "天气很好"], [()] * 4)
    assert found == [True, True, False, False]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 50))
def test_parts_change_nothing(seed: int, size: int) -> None:
    """A long list is judged in batches, and blocks are filled one by one."""
    draw = Random(seed)
    texts = [" ".join(draw.choices(["ab", "bc", "ca", "abc", "cab"], k=5)) for _ in range(120)]
    whole = NearDuplicates(0.8).judge(texts, [()] * len(texts))
    seen, parts = NearDuplicates(0.8), list[bool]()
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        found = seen.judge(part, [()] * len(part))
        kept = [text for text, near in zip(part, found, strict=True) if not near]
        seen.add(kept, [()] * len(kept))
        parts += found
    assert parts == whole


def test_blocks_and_batches_are_crossed(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number * 7919 % 1009} {number}" for number in range(300)]
    whole = NearDuplicates(0.6).judge(texts, [()] * 300)
    monkeypatch.setattr("stepsynth.near_duplicates._BATCH", 7)
    monkeypatch.setattr("stepsynth.near_duplicates._BLOCK", 16)
    assert NearDuplicates(0.6).judge(texts, [()] * 300) == whole
    seen = NearDuplicates(0.6)
    seen.add(texts, [()] * 300)
    assert seen.known(texts, [()] * 300) == [True] * 300


# the filter ---------------------------------------------------------------------------------------


def test_the_first_of_near_duplicates_is_kept() -> None:
    rows = [row(text) for text in (TEXT, *ALIKE, OTHER[0])]
    assert dropped(NearDuplicate(0.7), rows) == [False, True, True, True, True, False]
    assert dropped(NearDuplicate(0.7), rows[1:], [rows[0]]) == [True, True, True, True, False]
    assert REASONS[DropReason.NEAR_DUPLICATE]


def test_a_text_like_a_dropped_one_alone_is_kept() -> None:
    chain = ["one two three four five six", "one two three four five six seven", "one two three four five six seven eight"]
    assert dropped(NearDuplicate(0.8), [row(text) for text in chain]) == [False, True, False]


def test_rows_of_other_labels_contexts_and_answers_are_not_compared() -> None:
    """Where one word decides the label, two texts that differ in it are worth having both."""
    first = row("I loved every minute of this film", "positive")
    near = "I hated every minute of this film"
    assert dropped(NearDuplicate(0.6), [first, row(near, "negative"), row(near, "positive")]) == [False, False, True]
    pair = [row(TEXT, context="A note."), row(TEXT, context="Another, longer note."), row(ALIKE[0], context="a  note")]
    assert dropped(NearDuplicate(0.7), pair) == [False, False, True]
    asked = [row("When did the war begin?", "", "C", "1914"), row("When did the war begin", "", "C", "1918")]
    assert dropped(NearDuplicate(0.7), [*asked, row("when did the War begin", "", "C", "1918")]) == [False, False, True]


def test_gold_rows_count_as_accepted() -> None:
    gold = [Example("harvest-1", TEXT, "a"), Example("q", "Who came?", "", "He came.", (Span("He", 0), Span("came", 3)))]
    rule = NearDuplicate(0.7, gold)
    rows = [row(ALIKE[1]), row(ALIKE[1], "b"), row("Who came", "", "He came.", "came"), row("Who came", "", "He came.", "a")]
    assert dropped(rule, rows) == [True, False, True, False]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(WORDS, st.sampled_from("ab")), max_size=30), st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_the_accepted_rows_do_not_depend_on_the_waves_or_on_resuming(rows: list[tuple[str, str]], sizes: list[int]) -> None:
    candidates = [Candidate(row(text, label, position=at)) for at, (text, label) in enumerate(rows)]

    def accepted(sizes: Sequence[int], anew: bool) -> list[int]:
        rule, found, left = NearDuplicate(0.7), list[GeneratedRow](), list(candidates)
        for number in range(len(rows) + 1):
            size = sizes[number % len(sizes)]
            wave, left = left[:size], left[size:]
            rule = NearDuplicate(0.7) if anew else rule
            found += [verdict.candidate.row for verdict in rule.judge(wave, found) if verdict.accepted]
        return [each.position for each in found]

    assert accepted(sizes, False) == accepted(sizes, True) == accepted([len(rows) or 1], False)


# config -------------------------------------------------------------------------------------------


def test_it_is_off_by_default(tmp_path: Path) -> None:
    config = build_world(tmp_path / "world").config()
    assert config.method.row_similarity is None
    gold = [Example("g", "a gold text", "a")]
    off, on = (FilterPipeline.for_rows(config.task, gold, gold, {"a": 1}, near_duplicates=each).filters for each in (None, 0.8))
    assert [type(rule) for rule in on if not isinstance(rule, NearDuplicate)] == [type(rule) for rule in off]
    assert len(on) == len(off) + 1


def older(config: RunConfig) -> RunConfig:
    """Return the config that a run before these keys has stored."""
    values = settle(config, None).resolved()
    assert "near_duplicates" not in values["method"]
    values["method"].pop("pool_near_duplicates", None)
    return parse_stored(values)


def test_an_older_run_keeps_its_digest_and_its_draw(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world")
    (world.folder / "pool.txt").write_text("one text\nanother text\n")
    config = world.config()
    assert older(config).result_digest() == settle(config, None).result_digest()
    assert "pool_near_duplicates" not in settle(config, None).resolved()["method"]
    pooled = world.config("data.pool.path=pool.txt", "method.name=pool")
    assert settle(pooled, None).method.pool_near_duplicates == 0.7
    begun = older(pooled)
    assert begun.method.pool_similarity is None
    assert settle(pooled, begun).result_digest() == begun.result_digest()


@pytest.mark.parametrize("value", ["0.2", "1.5", "yes", "0", "auto"])
def test_wrong_values_are_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"near_duplicates"):
        build_world(tmp_path / "world").config(f"method.near_duplicates={value}")


# runs ---------------------------------------------------------------------------------------------


def test_a_run_drops_and_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path / "world")
    said = stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run", "--set", "method.near_duplicates=0.3")
    assert said.code == 0, said.err
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        rows = [each for each in journal.rows() if each.reason == DropReason.NEAR_DUPLICATE]
    assert rows
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["methods"]["s3"]["dropped"]["near duplicate"] == len(rows)
    assert stepsynth(capsys, "verify", tmp_path / "run").code == 0
    assert stepsynth(capsys, "run", world.config_path, "--out", tmp_path / "run").code == 2
