"""Paths that no file system takes are one line, before anything is made or asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stepsynth as ss
from command import stepsynth
from stepsynth.api.files import absolute_path
from world import LABELS

TASK = ss.Classification("invented", "Decide what kind of text this is.", list(LABELS))
ROWS = [{"text": f"a text of {n} words", "label": LABELS[n % 3]} for n in range(60)]
FAKE = ss.Teacher(backend="fake", model="fake")
IMPOSSIBLE = {
    "a\0b": "it contains a NUL character",
    "x" * 300: "one of its names has 300 bytes, and the longest possible name has 255",
    "é" * 128 + "/run": "one of its names has 256 bytes",
    "/".join(["x" * 200] * 30): "bytes, and at most",
    "o/\ud800": "it contains a character that no file name can have",
    "~nobody-of-this-name/x": "there is no such user",
}
CALLS: dict[str, Callable[[str], object]] = {
    "synthesize": lambda out: ss.synthesize(TASK, validation=ROWS, teacher=FAKE, out=out, progress=False),
    "plan": lambda out: ss.plan(TASK, validation=ROWS, teacher=FAKE, out=out, progress=False),
    "compare": lambda out: ss.compare(TASK, ["gold"], validation=ROWS, test=ROWS, teacher=FAKE, out=out, progress=False),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("out", "said"), [*IMPOSSIBLE.items(), ("o/\udcff", "it contains bytes that are not Unicode")])
def test_an_output_folder_that_cannot_be(call: str, out: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ss.ConfigError, match=said) as caught:
        CALLS[call](out)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("load", [ss.Run.load, ss.Comparison.load, ss.load_config])
@pytest.mark.parametrize("path", [5, None, b"runs/x", ["x"], *IMPOSSIBLE])
def test_what_is_no_path_to_load(load: Callable[[object], object], path: object) -> None:
    with pytest.raises((ss.RunError, ss.ConfigError)) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("match", [None, 5, ["rows"], "row"])
def test_what_nothing_is_matched_by(match: Any, tmp_path: Path) -> None:
    with pytest.raises(ss.ConfigError, match=r"^match is "):
        ss.compare(TASK, ["gold"], validation=ROWS, test=ROWS, teacher=FAKE, out=tmp_path / "x", match=match, progress=False)


def test_the_longest_name_is_taken(tmp_path: Path) -> None:
    path = absolute_path(tmp_path / ("x" * 255), "out", "")
    path.mkdir()
    assert path.is_dir()


def test_the_command_line_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stepsynth(capsys, "init", tmp_path / "x").code == 0
    config = tmp_path / "x" / "config.yaml"
    before = sorted(tmp_path.rglob("*"))
    for command in ("run", "compare"):
        for out in ("o/\udcff", "x" * 300):
            found = stepsynth(capsys, command, config, "--out", tmp_path / out)
            assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
            assert "cannot write into" in found.err
    for command in ("status", "verify", "report", "run", "plan", "compare"):
        found = stepsynth(capsys, command, tmp_path / ("x" * 300))
        assert (found.code, found.out, found.err.count("\n")) == (2, "", 1), found
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_of_a_user_that_there_is_not(tmp_path: Path) -> None:
    nobody = "~nobody-of-this-name/x.csv"
    calls: list[dict[str, Any]] = [{"validation": nobody}, {"student": ss.Student(nobody)}]
    for given in calls:
        with pytest.raises(ss.UserError, match="~nobody-of-this-name"):
            ss.plan(TASK, **{"validation": ROWS, "teacher": FAKE, "progress": False, "out": tmp_path / "x", **given})
