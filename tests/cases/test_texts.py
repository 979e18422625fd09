"""What becomes of a text: paragraphs, letters, scripts without spaces, stops and joiners of other scripts."""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopback import LoopbackServer, completion
from stepsynth.config import RunConfig, load_config, parse_config
from stepsynth.errors import RunError
from stepsynth.evaluation.squad import f1
from stepsynth.filters.artefact import LabelLeakFilter
from stepsynth.filters.duplicate import Duplicate
from stepsynth.filters.layout import Layout
from stepsynth.filters.leakage import ContaminationFilter
from stepsynth.filters.normalise import clean, leading_sentences, normalize_for_match
from stepsynth.filters.schema import Schema
from stepsynth.journal import Journal
from stepsynth.loop import run_loop
from stepsynth.report.derived import dataset_lines
from stepsynth.run import RunDirectory
from stepsynth.run.data import load_run_data
from stepsynth.runtime.progress import SilentProgress
from stepsynth.types import Candidate, Example, Message, Prediction, Request, Sampling
from stepsynth.words import SENTENCE_END, count_words, pieces

WHOLE = Layout(whole=True, lines=True)
JOINED = Layout(whole=True)
PLACES = ["harbour", "museum", "library", "station", "market", "bakery", "stadium", "theatre"]
HOURS = ["on Tuesday", "at dawn", "after lunch", "in the rain", "last winter", "twice a week", "before closing time"]


class Constant:
    """A student that always answers the same, and is quick to train."""

    def fit(self, train: Sequence[Example], select: Sequence[Example], *, out: Path, **_: Any) -> Constant:
        (out / "words.json").write_text("[]")
        return self

    def load(self, folder: Path) -> Constant:
        return self

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        return [Prediction(row.id, "tram", {"tram": 1.0, "ferry": 0.0}) for row in examples]


def ran(
    folder: Path, gold: Sequence[tuple[str, str]], answer: Callable[[dict[str, Any]], Any], method: str = "seed-only", **task: Any
) -> tuple[list[str], list[str]]:
    """Run seed-only over HTTP; return the data set's texts and the reasons of dropped rows."""
    with (folder / "gold.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *gold])
    with LoopbackServer(answer) as server:
        values = {
            "task": {
                "name": "t",
                "instruction": "Decide.",
                "text_kind": "complaint",
                "labels": {"tram": "", "ferry": ""},
                **task,
            },
            "data": {"validation": {"path": "gold.csv"}},
            "teacher": {"backend": "openai", "base_url": server.base_url, "model": "loopback", "sampling": {"max_tokens": 400}},
            "method": {"name": method, "seed_rows": 4, "rationales": 2, "label_check": "none"},
            "cache": None,
        }
        config = parse_config(values, base=folder)
        directory = RunDirectory.open(folder / "run", config)
        with closing(Journal(directory.journal_path)) as journal:
            with closing(directory):
                run_loop(directory, journal, load_run_data(config), student=Constant())
            texts = [json.loads(line)["text"] for line in dataset_lines(journal, config)]
            return texts, [row.reason for row in journal.rows() if row.reason]


def one_line_gold(extra: str = "") -> list[tuple[str, str]]:
    return [
        (f"The {kind} to the {place} did not come {hour} and nobody told us why.{extra}", kind)
        for kind in ("tram", "ferry")
        for place, hour in zip(PLACES, [*HOURS, "yesterday"], strict=True)
    ]


def letters(body: dict[str, Any]) -> str:
    """An e-mail, as a large model writes one; a reason in a few words."""
    seed = body["seed"]
    place, hour = PLACES[seed % 8], HOURS[seed // 8 % 7]
    if "few words" in body["messages"][-1]["content"]:
        return f"it is late at the {place} {hour}"
    return (
        f"Subject: Late at the {place} again\n\nDear service team,\n\nI waited {hour} for an hour near the {place}. "
        f"My ticket number is {seed % 9973}.\n\nKind regards,\nA passenger\n\nLet me know if you'd like another version!"
    )


def test_case_09_only_the_first_paragraph(tmp_path: Path) -> None:
    texts, _ = ran(tmp_path, one_line_gold(), letters)
    assert len(texts) == 4
    for text in texts:
        assert text.startswith("I waited "), "the body, not the subject"
        assert "Subject" not in text


def test_case_09_where_gold_texts_have_paragraphs_so_have_rows(tmp_path: Path) -> None:
    texts, _ = ran(
        tmp_path, one_line_gold("\n\nPlease look into it.\n\nYours,\nJo Field, a passenger from the old town"), letters
    )
    assert len(texts) == 4
    for text in texts:
        assert text.startswith("Subject: Late at the ")
        assert "\n\nDear service team,\n\nI waited " in text
        assert text.endswith("A passenger")


def test_case_09_a_setting_takes_the_whole_text_in_one_line(tmp_path: Path) -> None:
    long = " It was cold and dark, and the next one was an hour late, too, so that we had to walk all the way home."
    texts, _ = ran(tmp_path, one_line_gold(long), letters, paragraphs="all")
    assert all("\n" not in text and text.startswith("Subject: ") and "I waited " in text for text in texts)


def test_case_09_paragraphs_that_are_left_out_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gold texts of one line may be right or an accident of the sample: the user hears of it either way."""
    said: list[str] = []
    monkeypatch.setattr(SilentProgress, "finish", lambda _, summary: said.append(summary))

    def story(body: dict[str, Any]) -> str:
        if "few words" in body["messages"][-1]["content"]:
            return letters(body)
        seed = body["seed"]
        first = f"I waited {HOURS[seed % 7]} near the {PLACES[seed // 7 % 8]} for number {seed % 9973}."
        return f"{first}\n\nNobody came to tell us a thing about it.\n\nWe walked home in the end, all six of us."

    texts, _ = ran(tmp_path, one_line_gold(), story)
    assert all(text.startswith("I waited") and "Nobody" not in text for text in texts)
    written = [summary for summary in said if "rows accepted" in summary]
    assert "left_out" not in written[0]
    assert "paragraph" not in written[0], "reasons are no texts"
    assert "; 4 rows are only the first paragraph of a longer answer (task.paragraphs: all keeps the whole answer)" in written[1]
    said.clear()
    (tmp_path / "all").mkdir()
    ran(tmp_path / "all", one_line_gold(), story, paragraphs="all")
    assert not any("paragraph" in summary for summary in said)


def test_sentences_that_are_cut_off_a_long_row_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(SilentProgress, "finish", lambda _, summary: said.append(summary))

    def story(body: dict[str, Any]) -> str:
        if "few words" in body["messages"][-1]["content"]:
            return letters(body)
        seed = body["seed"]
        first = f"I waited {HOURS[seed % 7]} near the {PLACES[seed // 7 % 8]} for number {seed % 9973}."
        return f"{first} Nobody came to tell us a single thing about it" + ", not even when we asked them" * 6 + "."

    texts, _ = ran(tmp_path, one_line_gold(), story, prompt_style="small")
    assert all(text.startswith("I waited") and "Nobody" not in text for text in texts)
    reasons, rows = [summary for summary in said if "rows accepted" in summary]
    assert "first sentences" not in reasons, "a reason is a few words anyway"
    assert "; 4 rows are only the first sentences of a longer answer (no row is longer than 95 in 100 validation texts" in rows
    said.clear()
    (tmp_path / "short").mkdir()
    ran(tmp_path / "short", one_line_gold(), lambda body: story(body).partition(" Nobody")[0], prompt_style="small")
    assert not any("first sentences" in summary for summary in said)


def test_a_row_knows_whether_it_was_cut() -> None:
    rule = Schema(max_words=6)
    assert rule.verdict(candidate("One two three. Four five. Six seven eight.")).candidate.cut
    assert not rule.verdict(candidate("One two three. Four five.")).candidate.cut
    kept = ContaminationFilter.of(()).verdict(rule.verdict(candidate("One two three. Four five six seven.")).candidate)
    assert kept.candidate.cut, "the rules after it keep that"


def test_case_09_a_letter_without_a_body_is_dropped_with_a_reason(tmp_path: Path) -> None:
    def cut(body: dict[str, Any]) -> Any:
        whole = letters(body)
        if body["seed"] % 2 == 0 and whole.startswith("Subject"):
            return completion(whole[: whole.index("waited")], body, "length")
        return whole

    texts, reasons = ran(tmp_path, one_line_gold(), cut)
    assert all(text.startswith("I waited ") for text in texts)
    assert set(reasons) & {"truncated", "surplus"}


LAMP = "The lamp broke on Monday. I want my money back."
LETTERS = {
    "a subject in bold": f"**Subject:** My lamp\n\nHello,\n\n{LAMP}",
    "a greeting on the first line": f"Dear team,\n{LAMP}\n\nThanks,\nAnn",
    "a greeting with an exclamation mark": f"Hi there!\n\n{LAMP}\n\nCheers,\nAnn",
    "headers": f"From: Ann\nTo: The shop\nSubject: Lamp\n\n{LAMP}",
    "rules and an offer": f"Here is a ticket:\n\n---\n\nSubject: x\n\n{LAMP}\n\n---\n\nLet me know if you want another tone!",
    "German": f"Betreff: Lampe\n\nSehr geehrte Damen und Herren,\n\n{LAMP}\n\nMit freundlichen Gr\u00fc\u00dfen\nAnn",
    "French": f"Objet : Lampe\n\nBonjour,\n\n{LAMP}\n\nCordialement,\nAnn",
    "Spanish": f"Asunto: L\u00e1mpara\n\nEstimados se\u00f1ores:\n\n{LAMP}\n\nSaludos,\nAnn",
    "Chinese": f"\u4e3b\u9898\uff1a\u53f0\u706f\n\n\u5c0a\u656c\u7684\u5ba2\u670d\uff1a\n\n{LAMP}\n\n\u6b64\u81f4",
    "Russian": f"\u0422\u0435\u043c\u0430: x\n\n\u0414\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c,\n\n{LAMP}",
    "a title": f"# My lamp\n\n{LAMP}",
    "a title in bold": f"**My lamp**\n\n{LAMP}",
    "a quoted message": f"> How was it?\n> Write to us.\n\n{LAMP}",
}


@pytest.mark.parametrize("letter", LETTERS.values(), ids=LETTERS.keys())
def test_of_a_letter_the_body_is_the_text_where_gold_texts_are_one_line(letter: str) -> None:
    assert clean(letter) == LAMP


@pytest.mark.parametrize(
    "behind",
    [
        "Let me know if you'd like another version!",
        "I hope this helps!",
        "Hope this works for you.",
        "Note: This is a fictional review.",
        "*Note: the text uses a sad tone.*",
        "**Explanation:** It is sad.\n\n- the lamp\n- the money",
        "Explanation: it is sad.",
        "**Why this works:** it is short.",
        "Feel free to modify it.",
        "Would you like me to write another one?",
        "This review shows anger.",
        "---\n\nAnother text that is an alternative.",
    ],
)
@pytest.mark.parametrize("layout", [Layout(), JOINED, WHOLE], ids=["first", "joined", "whole"])
def test_what_is_said_to_the_one_who_asked_goes(layout: Layout, behind: str) -> None:
    for before in ("", "Sure!\n\n", "Certainly! Here is a review:\n\n"):
        assert clean(f"{before}{LAMP}\n\n{behind}", layout=layout) == LAMP


@pytest.mark.parametrize(
    "answer",
    [
        f"Option 1: {LAMP}\n\nOption 2: The bulb broke.",
        f"**Option 1:**\n{LAMP}\n\n**Option 2:**\nThe bulb broke.",
        f"**Version A (angry):** {LAMP}\n\n**Version B (calm):** The bulb broke.",
        f"### Review 1\n\n{LAMP}\n\n### Review 2\n\nThe bulb broke.",
        f"Here are two:\n\nDraft 1:\n\n{LAMP}\n\nDraft 2:\n\nThe bulb broke.",
    ],
)
@pytest.mark.parametrize("layout", [Layout(), WHOLE], ids=["first", "whole"])
def test_of_numbered_alternatives_the_first_is_taken(layout: Layout, answer: str) -> None:
    assert clean(answer, layout=layout) == LAMP


@pytest.mark.parametrize(
    "text",
    [
        "Grey is the sea,\ngrey is the sky,\n\nand so are we,\nthe gull and I.",
        "A: Is it open?\nB: Not today.\nA: Pity.",
        "def area(r):\n    return 3 * r\n\nprint(area(2))",
        "What I need:\n- a lamp\n- two bulbs\n\nThank you.",
        "1. Take the lamp.\n2. Turn it.",
        "> Is it ready?\n\nNo, it is not.",
        "Hello,\n\nthe lamp broke.\n\nLet me know if you need more information.\n\nAnn",
        "The first day was long.\n\nThe story is a good one, and it was worth it.",
        "Note: the door was locked.\n\nNobody opened.",
    ],
)
def test_lines_and_paragraphs_stay_where_gold_texts_have_them(text: str) -> None:
    assert clean(text, layout=WHOLE) == text
    assert clean(f"Here is one:\n\n{text}\n\nI hope this helps!", layout=WHOLE) == text
    # In one line, the mark of a list's first item is that of a lone one.
    assert clean(text, layout=JOINED) == " ".join(text.removeprefix("1. ").split())


def test_a_long_text_is_cut_at_a_whole_sentence_whatever_its_paragraphs() -> None:
    text = "Dear shop,\n\nthe lamp broke. It fell.\n\nI want another one."
    assert leading_sentences(text, 7) == "Dear shop,\n\nthe lamp broke. It fell."
    assert clean(f"{text}\n\nAnd the bu", layout=WHOLE, truncated=True) == text
    assert clean("one\ntwo\nthr", layout=WHOLE, truncated=True) == "one\ntwo"
    assert clean("Subject: Lamp\n\nDear shop,\n\nthe la", layout=WHOLE, truncated=True) == ""


def test_the_layout_is_that_of_gold_texts() -> None:
    flat, broken = ["One line."] * 17, ["Two\nlines."] * 2
    assert Layout.like([*flat, "Two\nlines."]) == Layout()
    assert Layout.like([*flat, *broken]) == Layout(whole=True, lines=True)
    assert Layout.like([*flat, "One\r\n\r\ntwo.", "a\u2029b", "line\n"]) == Layout(whole=True, lines=True)
    assert Layout.like([*flat, *broken], "first") == Layout()
    assert Layout.like(flat, "all") == Layout(whole=True)


def test_typographic_quotes_stay_where_gold_texts_have_them() -> None:
    german = Layout.like(["Er sagte \u201eja\u201c und ging."] * 3)
    french = Layout.like(["Il a dit \u00ab oui \u00bb hier.", "L\u2019eau."])
    assert clean("Sie rief \u201enein\u201c und blieb.", layout=german) == "Sie rief \u201enein\u201c und blieb."
    assert clean("\u201eSie blieb.\u201c", layout=german) == "Sie blieb."
    assert clean("Il a dit \u00ab non \u00bb, l\u2019autre.", layout=french) == "Il a dit \u00ab non \u00bb, l\u2019autre."
    assert clean("Sie rief \u201enein\u201c.") == 'Sie rief "nein".'
    assert Layout.like(['He said "yes".', "\u201cNo\u201d."]).quotes == frozenset()


def test_old_configs_keep_their_digest_and_a_setting_changes_it() -> None:
    values: dict[str, Any] = {
        "task": {"name": "t", "instruction": "Decide.", "labels": ["tram", "ferry"]},
        "data": {"validation": {"path": "v.csv"}},
        "teacher": {"backend": "fake"},
    }
    bare = parse_config(values)
    assert bare.task.paragraphs == "auto"
    stored = bare.resolved()
    assert "paragraphs" not in stored["task"], "pages and configs of older versions come out as they were"
    assert parse_config(stored).result_digest() == bare.result_digest()
    values["task"]["paragraphs"] = "all"
    assert parse_config(values).result_digest() != bare.result_digest()


# scripts without spaces ---------------------------------------------------------------------------


def chinese_gold() -> list[tuple[str, str]]:
    parts = ["早上", "中午", "晚上", "昨天", "前天", "周一", "周日", "冬天"]
    return [
        *(
            (
                f"{part}\u7684\u7535\u8f66\u6ca1\u6709\u6765\uff0c\u6211\u4eec\u7b49\u4e86\u5f88\u4e45\u3002\u8c22\u8c22\u3002",
                "tram",
            )
            for part in parts
        ),
        *(
            (
                f"\u6e21\u8f6e{part}\u665a\u70b9\u4e86\uff0c\u7801\u5934\u4e0a\u4eba\u5f88\u591a\u3002\u8bf7\u56de\u590d\u3002",
                "ferry",
            )
            for part in parts
        ),
    ]


def chinese(body: dict[str, Any], end: str = "") -> str:
    seed, asked = body["seed"], body["messages"][-1]["content"]
    place = ["博物馆", "图书馆", "火车站", "面包店", "体育场", "剧院", "公园"][seed % 7]
    many = "\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d"[seed // 7 % 9]
    if "few words" in asked:
        return f"\u5728{place}\u7b49\u4e86{many}\u5c0f\u65f6"
    waited = f"\u6211\u5728{place}\u95e8\u53e3\u7b49\u4e86{many}\u4e2a\u5c0f\u65f6\u3002"
    return f"{waited}\u5de5\u4f5c\u4eba\u5458\u8bf4\u4e0d\u77e5\u9053\u539f\u56e0\uff01{end}"


def test_case_10_chinese_cannot_run(tmp_path: Path) -> None:
    texts, reasons = ran(tmp_path, chinese_gold(), chinese)
    assert len(texts) == 4
    assert "too short" not in reasons
    assert all(text.endswith(("\u3002", "\uff01")) for text in texts)


def test_case_10_a_cut_off_answer_keeps_its_whole_sentences(tmp_path: Path) -> None:
    def cut(body: dict[str, Any]) -> Any:
        return completion(chinese(body, "\u53e6\u5916\u6211\u8fd8"), body, "length")

    texts, reasons = ran(tmp_path, chinese_gold(), cut)
    assert len(texts) == 4
    assert "truncated" not in reasons
    assert all(text.endswith(("\u3002", "\uff01")) for text in texts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two  three", 3),
        ("...", 1),
        ("", 0),
        ("\u6211\u7684\u6253\u5370\u673a\u574f\u4e86\u3002", 4),
        ("\u4e2d", 1),
        ("\u3053\u308c\u306f\u30da\u30f3\u3067\u3059\u3002", 4),
        ("iPhone\u574f\u4e86", 2),
        ("\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4", 2),
        (
            "\u0e09\u0e31\u0e19\u0e44\u0e21\u0e48\u0e0a\u0e2d\u0e1a\u0e2b\u0e19\u0e31\u0e07\u0e40\u0e23\u0e37\u0e48\u0e2d\u0e07\u0e19\u0e35\u0e49",
            5,
        ),
        ("\u1781\u17d2\u1789\u17bb\u17c6\u1798\u17b7\u1793\u1785\u17bc\u179b\u1785\u17b7\u178f\u17d2\u178f\u1791\u17c1\u17d4", 4),
        ("\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0b\u0f61\u0f72\u0f53\u0f0d", 3),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u0939\u0948\u0964", 3),
    ],
)
def test_words_of_any_script_are_counted(text: str, words: int) -> None:
    assert count_words(text) == words


@given(text=st.text(st.characters(codec="utf-8", max_codepoint=0x4DF)))
@settings(deadline=None)
def test_where_a_script_has_spaces_words_are_what_stands_between_them(text: str) -> None:
    assert count_words(text) == len(text.split())
    assert pieces(text) == text.split()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\u574f\u4e86\u3002\u8bf7\u9000\u6b3e\uff01\u53e6", "\u574f\u4e86\u3002\u8bf7\u9000\u6b3e\uff01"),
        (
            "\u58ca\u308c\u305f\uff1f\u300c\u306f\u3044\u3002\u300d\u305d",
            "\u58ca\u308c\u305f\uff1f\u300c\u306f\u3044\u3002\u300d",
        ),
        ("\u0935\u0939 \u091f\u0942\u091f\u093e\u0964 \u092e\u0941\u091d", "\u0935\u0939 \u091f\u0942\u091f\u093e\u0964"),
        ("\u0647\u0644 \u0627\u0646\u0643\u0633\u0631\u061f \u0646\u0639", "\u0647\u0644 \u0627\u0646\u0643\u0633\u0631\u061f"),
        ("\u06cc\u06c1 \u0679\u0648\u0679\u0627\u06d4 \u0627\u0628", "\u06cc\u06c1 \u0679\u0648\u0679\u0627\u06d4"),
        ("\u1019\u1000\u103c\u102d\u102f\u1000\u103a\u104b \u1015\u103c", "\u1019\u1000\u103c\u102d\u102f\u1000\u103a\u104b"),
        ("\u1798\u17b7\u1793\u179b\u17d2\u17a2\u17d4\u1781", "\u1798\u17b7\u1793\u179b\u17d2\u17a2\u17d4"),
        ("\u0e44\u0e21\u0e48\u0e0a\u0e2d\u0e1a \u0e40\u0e2a\u0e35\u0e22", "\u0e44\u0e21\u0e48\u0e0a\u0e2d\u0e1a"),
        ("\u053f\u0578\u057f\u0580\u057e\u0565\u0581\u0589 \u0535\u057d", "\u053f\u0578\u057f\u0580\u057e\u0565\u0581\u0589"),
        ("\u1270\u1230\u1260\u1228\u1362 \u12a5", "\u1270\u1230\u1260\u1228\u1362"),
        ("Costs 3.50 and 4.20 toda", ""),
    ],
)
def test_stops_of_any_script_end_a_sentence(text: str, kept: str) -> None:
    assert clean(text, truncated=True) == kept


def candidate(text: str, label: str = "tram", index: int = 0) -> Candidate:
    return Candidate.of(Request((Message("user", "x"),), Sampling(), index, "s", index, label), f"k{index}", text, "stop")


SENTENCE = "\u6628\u5929\u665a\u4e0a\u6211\u5728\u706b\u8f66\u7ad9\u95e8\u53e3\u7b49\u4e86\u4e09\u4e2a\u5c0f\u65f6"


def test_rules_judge_scripts_without_spaces_by_their_words() -> None:
    assert Schema(min_words=3).verdict(candidate(SENTENCE)).reason == ""
    assert Schema(min_words=3).verdict(candidate("\u574f\u4e86")).reason == "too short"
    assert Schema().verdict(candidate("\u597d\u597d\u597d" * 10)).reason == "repetitive"
    assert Schema(max_words=8).verdict(candidate(f"{SENTENCE}\u3002")).reason == "too long"
    (short,) = Schema(max_words=12).judge([candidate(f"{SENTENCE}\u3002{SENTENCE[::-1]}\u3002")], [])
    assert (short.reason, short.candidate.text) == ("", f"{SENTENCE}\u3002")
    gold = ContaminationFilter.of([f"{SENTENCE}\u3002"])
    assert gold.verdict(candidate(f"\u771f\u7684\uff0c{SENTENCE}\uff01")).reason == "copy"
    assert (
        gold.verdict(candidate(f"\u6211\u5728\u706b\u8f66\u7ad9\u4e70\u4e86\u4e00\u5f20\u7968\uff0c{SENTENCE[::-1]}")).reason
        == ""
    )
    twice = [candidate("\u574f\u4e86\uff01"), candidate("\u574f \u4e86\u3002", index=1)]
    assert [verdict.reason for verdict in Duplicate().judge(twice, [])] == ["", "duplicate"]
    naming = LabelLeakFilter({"\u6b63\u9762": 0.0}, {})
    assert (
        naming.judge([candidate("\u8fd9\u662f\u6b63\u9762\u7684\u8bc4\u4ef7", "\u6b63\u9762")], [])[0].reason == "names the label"
    )


def test_vowel_signs_belong_to_their_letters() -> None:
    assert normalize_for_match("\u0915\u0940 \u092c\u093e\u0924!") == "\u0915\u0940 \u092c\u093e\u0924"
    assert normalize_for_match("\u0915\u0940") != normalize_for_match("\u0915\u093e")


def test_answers_in_scripts_without_spaces_overlap_by_characters() -> None:
    assert 0.5 < f1("\u4e0a\u6d77\u706b\u8f66\u7ad9", ["\u706b\u8f66\u7ad9"]) < 1.0
    assert f1("the red lamp", ["red lamp"]) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "\u5f88\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63d0\u4f9b\u8fd9\u6837\u7684\u5185\u5bb9\u3002",
        "Lo siento, pero no puedo ayudar con eso.",
        "Je suis d\u00e9sol\u00e9, mais je ne peux pas vous aider.",
        "Als KI-Modell habe ich keine Meinung.",
    ],
)
def test_refusals_of_other_languages_are_dropped(text: str) -> None:
    assert Schema().verdict(candidate(text)).reason == "refusal"


@pytest.mark.parametrize(
    "text", ["Lo siento, pero no puedo entrar en mi cuenta.", "Es tut mir leid, aber ich kann mich nicht anmelden."]
)
def test_honest_complaints_of_other_languages_stay(text: str) -> None:
    assert Schema().verdict(candidate(text)).reason == ""


@pytest.mark.parametrize(
    "text", ["\u03a0\u03bf\u03b9\u03bf\u03c2 \u03ae\u03c4\u03b1\u03bd;", "\u8c01\uff1f\u300d", "\u1218\u1295?\u00bb"]
)
def test_questions_of_other_scripts_end_with_their_marks(text: str) -> None:
    assert Schema(question=True).verdict(candidate(text)).reason == ""
    assert Schema(question=True).verdict(candidate("He came; she left;")).reason == "no question"


# characters -----------------------------------------------------------------------------------------

JOINED_TEXTS = [
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u0928\u094d\u200d\u092f \u0914\u0930",
    "\u0d28\u0d4d\u200d",
    "\U0001f469\U0001f3fd\u200d\U0001f680 went up",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f won",
    "\u0600\u0661\u0662 \u0635\u0641\u062d\u0629",
]


@pytest.mark.parametrize("text", JOINED_TEXTS)
def test_what_a_script_or_an_emoji_needs_stays(text: str) -> None:
    assert clean(text) == text
    assert clean(f'"{text}"', layout=WHOLE) == text


@pytest.mark.parametrize(
    "gone", ["\u200b", "\ufeff", "\u00ad", "\u200e", "\u202e", "\u2066", "\u2060", "\u200d", "\U000e0041", "\x07"]
)
def test_what_only_a_machine_sees_goes(gone: str) -> None:
    assert clean(f"la{gone}mp") == "lamp"


@pytest.mark.parametrize("line_break", ["\r\n", "\r", "\x85", "\u2028", "\x0b"])
def test_any_line_break_is_one(line_break: str) -> None:
    assert clean(f"one{line_break}two", layout=WHOLE) == "one\ntwo"
    assert clean(f"one{line_break}two") == "one two"


# properties -----------------------------------------------------------------------------------------

BRICKS = [
    "\n",
    "\n\n",
    "---",
    "***",
    "# ",
    "**",
    "Subject: x",
    "Dear all,",
    "Best regards,",
    "Ann",
    "> ",
    "- ",
    "Option 1: ",
    "Sure!",
]
BRICKS += [
    "Option 2: ",
    "Note: ",
    "**Explanation:**",
    "I hope this helps.",
    "Two words.",
    "\u574f\u4e86\u3002",
    "\u300c",
    "\u300d",
    '"',
    " ",
]
BRICKS += ["\u201c", "\u201d", "\u200d", "\u0928\u094d", "\U0001f469", "\u2029", "\r", "\t", "word", "\xa0", "Here is a text:"]
ANSWERS = st.one_of(st.text(), st.lists(st.sampled_from(BRICKS), max_size=16).map("".join))
LAYOUTS = st.sampled_from([Layout(), JOINED, WHOLE, Layout(True, True, frozenset("\u201c\u201d"))])


@given(answer=ANSWERS, layout=LAYOUTS)
@settings(max_examples=500, deadline=None)
def test_cleaning_is_done_at_once(answer: str, layout: Layout) -> None:
    once = clean(answer, layout=layout)
    assert clean(once, layout=layout) == once
    if not layout.lines:
        assert once == " ".join(once.split())


@pytest.mark.parametrize("layout", [Layout(), WHOLE], ids=["first", "whole"])
@pytest.mark.parametrize(
    "unit",
    [
        "\n\n---\n\n",
        "Sure!\n\n",
        "Dear all,\n\n",
        "Subject: x\n",
        "> \n",
        "Option 1: a\n\n",
        "**a**\n\n",
        "I hope this helps.\n",
        "\u574f\u3002",
        "\n \n",
        "# a\n\n",
    ],
)
def test_time_is_in_proportion_to_the_length(unit: str, layout: Layout) -> None:
    started = time.process_time()
    clean(unit * (100_000 // len(unit)), layout=layout)
    assert time.process_time() - started < 2.0
    started = time.process_time()
    leading_sentences(unit * (100_000 // len(unit)), 50)
    assert not SENTENCE_END.search("")
    assert time.process_time() - started < 2.0


def test_a_config_file_may_say_how_many_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: {name: t, instruction: Decide., labels: [tram, ferry], paragraphs: all}\n"
        "data: {validation: {path: v.csv}}\nteacher: {backend: fake}\n"
    )
    config: RunConfig = load_config(path)
    assert config.task.paragraphs == "all"


# one text in the place of every answer -------------------------------------------------------------


@pytest.mark.parametrize("method", ["seed-only", "zerogen"])
@pytest.mark.parametrize(
    "notice",
    ["Your quota is used up, please top up at the desk.", "Bitte laden Sie Ihr Guthaben auf."],
)
def test_a_notice_in_the_place_of_every_answer_is_quoted(tmp_path: Path, method: str, notice: str) -> None:
    with pytest.raises(RunError) as caught:
        ran(tmp_path, one_line_gold(), lambda _: notice, method=method)
    assert f"answers say {notice!r}" in caught.value.message
    assert "a notice from the server" in caught.value.hint


def test_answers_that_differ_are_not_quoted(tmp_path: Path) -> None:
    # In turn: a seed depends on the server's port, and several could happen to choose the same words.
    words = itertools.cycle(f"{place} {hour}" for place in PLACES for hour in HOURS)
    with pytest.raises(RunError) as caught:
        ran(tmp_path, one_line_gold(), lambda _: f"I cannot write about the {next(words)}.")
    assert "answers say" not in caught.value.message
