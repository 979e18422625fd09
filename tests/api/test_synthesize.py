"""The library's calls: a script and a YAML file make the same run; any form of rows; any thread; an interrupt loses nothing."""

from __future__ import annotations

import asyncio
import csv
import html
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow
import pytest

import stepsynth as ss
from loopback import LoopbackServer
from stepsynth.api.making import make_config
from stepsynth.api.waiting import run_apart
from stepsynth.cli.running import run_config as run_from_cli
from stepsynth.runtime.progress import SilentProgress
from stepsynth.runtime.shutdown import check_stop, stop_requested
from world import LABELS, World, build_world

METHOD: dict[str, Any] = {"seed_rows": 12, "rounds": 1, "rows_per_mistake": 1, "rationales": 2, "label_check": "none"}
STUDENT: dict[str, Any] = {"epochs": 2, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def task(**settings: Any) -> ss.Classification:
    labels = {label: f"about {label}" for label in LABELS}
    return ss.Classification("invented", "Decide what kind of text this is.", labels, **settings)


def rows(world: World, name: str) -> list[dict[str, str]]:
    with (world.folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def call(world: World, out: Path, **changes: Any) -> ss.Run:
    settings: dict[str, Any] = {
        "validation": rows(world, "validation.csv"),
        "test": str(world.folder / "test.csv"),
        "teacher": ss.Teacher(backend="fake", model="fake"),
        "student": ss.Student(str(world.folder / "student"), **STUDENT),
        "method": ss.S3(**METHOD),
        "cache": None,
        "progress": False,
        "out": out,
    }
    return ss.synthesize(task(), **{**settings, **changes})


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> ss.Run:
    return call(world, tmp_path_factory.mktemp("runs") / "run")


def test_a_script_and_a_yaml_file_make_the_same_run(world: World, finished: ss.Run, tmp_path: Path) -> None:
    """Byte for byte, though the one brings its rows as a list and the other as a file."""
    overrides = [f"method.{key}={value}" for key, value in METHOD.items()]
    config = world.config(*overrides, "cache=null")
    run_from_cli(config, tmp_path / "cli", quiet=True)
    for name in ("dataset.jsonl", "results.json"):
        assert (finished.path / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name
    digests = [json.loads((folder / "config.json").read_text())["digest"] for folder in (finished.path, tmp_path / "cli")]
    assert digests[0] == digests[1]
    weights = [folder / "models" / "round-1" / "model.safetensors" for folder in (finished.path, tmp_path / "cli")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_says_what_it_made(world: World, finished: ss.Run) -> None:
    assert finished.finished
    data = finished.dataset()
    assert {"text", "label", "round", "source"} <= set(data.column_names)
    kept = [json.loads(line) for line in (finished.path / "dataset.jsonl").read_text().splitlines()]
    assert data["text"] == [row["text"] for row in kept]
    assert list(finished.to_pandas()["label"]) == [row["label"] for row in kept]
    dropped = finished.rows(accepted=False)
    assert all(row["dropped"] for row in dropped)
    assert len(finished.rows(accepted=None)) == len(kept) + len(dropped)
    assert {row["round"] for row in finished.rows(round=1)} == {1}
    entries = finished.scores
    assert [entry["round"] for entry in entries] == [0, 1]
    assert sum(entry["best"] for entry in entries) == 1
    assert next(entry for entry in entries if entry["best"])["test"]["n"] == 30
    with pytest.raises(ss.RunError, match=r"round 7 .* has no student"):
        finished.mistakes(round=7)
    mistakes = finished.mistakes(round=0)
    assert mistakes, "this student is not so good"
    assert all(row["predicted"] != row["label"] for row in mistakes)
    assert finished.verify() == []
    assert any("is small" in said for said in finished.warnings)
    assert all(said in html.unescape(finished.report().read_text(encoding="utf-8")) for said in finished.warnings)
    assert finished.report().read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert ss.Run.load(finished.path).scores == entries


def test_a_test_set_of_labelled_rows_is_told(world: World, tmp_path: Path) -> None:
    run = call(world, tmp_path / "run", test=rows(world, "validation.csv")[:10], method=ss.Gold())
    assert "Test rows that are also in the validation data: 10. The test score is too high." in run.warnings


def test_the_final_student_has_a_name_of_its_own(finished: ss.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = next(entry for entry in finished.scores if entry["best"])["round"]
    copied = tmp_path / "moved"
    shutil.copytree(finished.path, copied, symlinks=True)
    final = copied / "models" / "final"
    assert final.resolve() == (copied / "models" / f"round-{best}").resolve(), "it moves with the run"
    assert ss.Run.load(copied).verify() == []
    final.unlink()
    final.symlink_to("round-7")
    ss.Run.load(copied).report()
    assert final.resolve().name == f"round-{best}"
    # On a file system without links, and beside a folder of that name.
    final.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
        ss.Run.load(copied).report()
    assert not final.exists()
    final.mkdir()
    (final / "mine").write_text("kept")
    ss.Run.load(copied).report()
    assert (final / "mine").read_text() == "kept"
    assert not list((copied / "models").glob(".*"))
    shutil.rmtree(final)
    with closing(sqlite3.connect(copied / "journal.db")) as journal, journal:
        journal.execute("DELETE FROM meta WHERE key = 'finished'")
    ss.Run.load(copied).report()
    assert not final.exists(), "an unfinished run has none"


def test_the_student_answers_alone_and_as_a_pipeline(world: World, finished: ss.Run) -> None:
    texts = [row["text"] for row in rows(world, "test.csv")]
    labels = finished.student.predict(texts)
    assert set(labels) <= set(LABELS)
    shares = finished.student.predict_proba(texts)
    assert [max(share, key=share.__getitem__) for share in shares] == labels
    told = finished.student.pipeline()(texts, top_k=None)
    for share, entries in zip(shares, told, strict=True):
        assert {entry["label"]: pytest.approx(entry["score"], abs=1e-4) for entry in entries} == share
    assert finished.student.predict([]) == []
    with pytest.raises(ss.DataError, match=r"Write predict\(\[text\]\)"):
        finished.student.predict("one text")
    with pytest.raises(ss.DataError, match=r"got a DataFrame\. Write predict\(data\['text'\]\)"):
        finished.student.predict(pandas.DataFrame({"text": texts}))
    assert finished.student.predict(pandas.Series(texts)) == labels
    with pytest.raises(ss.DataError, match=r"row 1 has ' ' for its text"):
        finished.student.predict(["fine", "  "])


def test_a_notebook_shows_a_run(finished: ss.Run) -> None:
    html = finished._repr_html_()
    assert "invented" in html
    assert "round 1" in html
    assert "<svg" in html
    assert "<script" not in html


def test_the_same_call_again_asks_nothing_and_a_shell_goes_on_with_it(world: World, finished: ss.Run) -> None:
    before = (finished.path / "journal.db").read_bytes()
    again = call(world, finished.path)
    assert again.scores == finished.scores
    assert (finished.path / "journal.db").read_bytes() == before
    results = run_from_cli(again.config, finished.path, quiet=True)
    assert results == finished.results, "the rows lie beside the run"


def test_other_rows_are_refused(world: World, finished: ss.Run) -> None:
    changed = rows(world, "validation.csv")
    changed[0] = {**changed[0], "text": "something else"}
    with pytest.raises(ss.RunError, match="validation rows are not those that this run began with"):
        call(world, finished.path, validation=changed)


def test_a_config_goes_round(world: World, finished: ss.Run, tmp_path: Path) -> None:
    """File -> run -> YAML -> run, the same each time."""
    (tmp_path / "again.yaml").write_text(finished.config.to_yaml(), encoding="utf-8")
    loaded = ss.load_config(tmp_path / "again.yaml")
    assert loaded.result_digest() == finished.config.result_digest()
    run = loaded.run(progress=False)
    assert run.path == tmp_path / "runs" / "invented"
    assert (run.path / "dataset.jsonl").read_bytes() == (finished.path / "dataset.jsonl").read_bytes()
    changed = ss.load_config(tmp_path / "again.yaml", {"method.rounds": 0, "method.name": "seed-only"})
    assert (changed.method.rounds, changed.method.name) == (0, "seed-only")
    assert ss.load_config(tmp_path / "again.yaml", ["method.rounds=3"]).method.rounds == 3
    with pytest.raises(ss.ConfigError, match="Did you mean 'rounds'"):
        ss.load_config(tmp_path / "again.yaml", {"method.round": 0})
    assert changed.plan(progress=False)["method"] == "seed-only"
    for text in ("Say # of items", "Decide: what", "yes", "a\nb", "*all* of it"):
        assert ss.load_config(tmp_path / "again.yaml", {"task.instruction": text}).task.instruction == text
    found = changed.compare([ss.S3(**{**METHOD, "seed_rows": 15}), ss.Gold()], seeds=1, progress=False, out=tmp_path / "objects")
    assert ss.Run.load(found.path / "s3-0").config.method.seed_rows == 15
    table = changed.compare(["gold", "gold:student.head=probe"], seeds=1, progress=False).to_pandas()
    assert table["rows"].nunique() == 1


FORMS: dict[str, Callable[[list[dict[str, str]]], object]] = {
    "pandas": pandas.DataFrame,
    "pandas with a category": lambda rows: pandas.DataFrame(rows).astype({"label": "category"}),
    "datasets": datasets.Dataset.from_list,
    "class labels": lambda rows: datasets.Dataset.from_list(rows).class_encode_column("label"),
    "pyarrow": pyarrow.Table.from_pylist,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in ("text", "label")},
    "a generator": iter,
    "a source": lambda rows: ss.Source(pandas.DataFrame(rows).rename(columns={"text": "body"}), columns={"text": "body"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_may_come_in_any_form(world: World, form: str, tmp_path: Path) -> None:
    from stepsynth.run.data import load_run_data

    plain = rows(world, "validation.csv")
    wanted = load_run_data(make_config(task(), tmp_path, validation=plain, student=student(world)))
    found = load_run_data(make_config(task(), tmp_path, validation=FORMS[form](plain), student=student(world)))
    assert found.facts() == wanted.facts()


def student(world: World) -> ss.Student:
    return ss.Student(str(world.folder / "student"), **STUDENT)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "validation has no rows"),
        (["a text"], r"row 0 of validation is a text, not a dict: 'a text'"),
        (3, "validation is 3, a int, which has no rows"),
        ([{"text": "a", "label": "kalm"}, {"text": "b"}], "row 1 of the validation rows has no column 'label'"),
        ([{"text": "a", "label": "klam"}, {"text": "b", "label": "rund"}], "klam"),
        ([{"text": "a", "label": float("nan")}], "row 0 of the validation rows"),
        ({"text": ["a"], "label": ["kalm", "rund"]}, "neither a source nor columns of equal length"),
        ("", "validation is an empty text"),
        (None, "validation is missing"),
        ([{"text": b"a", "label": "kalm"}], "b'a' is bytes, not a text"),
        (pandas.DataFrame([["a", "b", "kalm"]], columns=["text", "text", "label"]), "more than one column 'text'"),
        (pandas.Series(["a", "b"]), "row 0 of validation is a text, not a dict"),
        ("missing.csv", r"'.*missing.csv' does not exist"),
    ],
)
def test_bad_rows_are_one_line_before_anything_is_made(rows: object, said: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ss.UserError, match=said) as caught:
        call(world, tmp_path / "run", validation=rows)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ss.S3(round=2), "S3 has no argument 'round'. Did you mean 'rounds'?"),  # type: ignore[call-arg]
        (lambda: ss.ZeroGen(rounds=2), "ZeroGen has no argument 'rounds'."),
        (lambda: ss.S3(rounds=-1), "S3: rounds must be 0 or more, not -1."),
        (lambda: ss.OpenAITeacher("m", api_key_env="sk-1234567890123456789012345"), "this looks like a key"),
        (lambda: ss.Classification("t", "Decide.", ["one"]), "needs at least two"),
        (lambda: ss.Source("a.csv", column={}), "Source has no argument 'column'. Did you mean 'columns'?"),  # type: ignore[call-arg]
        (lambda: ss.Budget(usd=0), "Budget: usd must be more than 0, not 0."),
        (lambda: ss.synthesize(task(), validation=[], method=ss.S3), "method is the class S3. Write S3(...)."),  # type: ignore[arg-type]
        (lambda: ss.synthesize("t", validation=[]), "task is 't', a str. Give one of stepsynth's task classes."),  # type: ignore[arg-type]
        (lambda: ss.synthesize(task(), validation=[], out=3), "out is 3, a int."),  # type: ignore[arg-type]
        (lambda: ss.synthesize(task(), validation=[], filters=3), "filters is 3, not a list of filters."),  # type: ignore[arg-type]
        (lambda: ss.synthesize(task(), validaton=[]), "synthesize has no argument 'validaton'. Did you mean 'validation'?"),  # type: ignore[call-arg]
        (lambda: ss.plan(task(), validation=[], taecher=None), "plan has no argument 'taecher'. Did you mean 'teacher'?"),  # type: ignore[call-arg]
        (lambda: ss.compare(task(), ["gold"], validation=[], test=[], sees=2), "compare has no argument 'sees'."),  # type: ignore[call-arg]
        (lambda: ss.compare(task(), ["gold"], validation=[], test=[], seeds=0), "seeds is 0. Give the number of seeds"),
        (lambda: ss.compare(task(), ss.Gold(), validation=[], test=[]), "not a list of methods"),  # type: ignore[arg-type]
        (lambda: ss.compare(task(), [ss.Gold], validation=[], test=[]), "method is the class Gold"),  # type: ignore[list-item]
        (lambda: ss.load_config(3), "the config is 3, a int."),  # type: ignore[arg-type]
        (lambda: ss.synthesize(task(), validation=[], method="s3"), "method is 's3', a str."),  # type: ignore[arg-type]
    ],
)
def test_a_slip_in_an_argument_is_one_clear_line(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ss.ConfigError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_works_inside_a_running_loop_and_in_two_threads_at_once(world: World, finished: ss.Run, tmp_path: Path) -> None:
    wanted = (finished.path / "dataset.jsonl").read_bytes()

    async def cell() -> ss.Run:
        return call(world, tmp_path / "loop")

    assert (asyncio.run(cell()).path / "dataset.jsonl").read_bytes() == wanted
    threads = [threading.Thread(target=call, args=(world, tmp_path / name)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        assert (tmp_path / name / "dataset.jsonl").read_bytes() == wanted


class _Interrupting(SilentProgress):
    """Interrupts the thread that called as soon as a stage is at work, as a notebook's stop button does."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._sent = False

    def advance(self, done: int, **_: Any) -> None:
        if done and not self._sent:
            import _thread

            self._sent = True
            _thread.interrupt_main()
            # The thread that waits looks up every fifth of a second.
            while not self.notes:
                time.sleep(0.05)

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_an_interrupt_keeps_what_came_and_the_same_call_goes_on(world: World, finished: ss.Run, tmp_path: Path) -> None:
    with LoopbackServer() as server:
        teacher = ss.OpenAITeacher("loopback", base_url=server.base_url, concurrency=2)
        progress = _Interrupting()
        with pytest.raises(ss.Interrupted, match="nothing is lost"):
            call(world, tmp_path / "run", teacher=teacher, progress=progress)
        assert any("interrupt again" in note for note in progress.notes)
        sent = len(server.completions)
        assert not ss.Run.load(tmp_path / "run").finished
        run = call(world, tmp_path / "run", teacher=teacher)
        whole = len(server.completions)
        calm = call(world, tmp_path / "calm", teacher=teacher)
    assert 0 < sent < whole
    assert run.dataset()["text"] == calm.dataset()["text"]
    assert len(server.completions) == 2 * whole, "nothing was asked twice"


def test_a_second_interrupt_ends_at_once() -> None:
    def work() -> None:
        import _thread

        _thread.interrupt_main()
        while not stop_requested():
            time.sleep(0.01)
        _thread.interrupt_main()
        # Ended from outside, and in a test that fails some time later.
        for _ in range(3000):
            time.sleep(0.01)

    started = time.monotonic()
    with pytest.raises(ss.Interrupted, match="stopped at once"):
        run_apart(work)
    assert time.monotonic() - started < 10
    check_stop()


class Short(ss.RowFilter):
    def keep(self, row: ss.Example) -> bool:
        return len(row.text) < 1000


def test_a_run_is_where_it_was_made_wherever_the_program_goes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = call(world, Path("relative"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.path == tmp_path / "relative"
    assert run.student.predict([rows(world, "test.csv")[0]["text"]])


def test_methods_are_compared(world: World, tmp_path: Path) -> None:
    found = ss.compare(
        task(),
        [ss.S3(**METHOD), ss.ZeroGen(), ss.Gold()],
        validation=rows(world, "validation.csv"),
        test=rows(world, "test.csv"),
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=student(world),
        seeds=2,
        filters=[Short()],
        cache=None,
        out=tmp_path / "compare",
        progress=False,
    )
    table = found.to_pandas()
    assert list(table.index) == ["s3", "zerogen", "gold"]
    assert found.reference == "gold"
    assert table["difference"].isna().to_dict() == {"s3": False, "zerogen": False, "gold": True}
    assert table.loc["s3", "rows"] == table.loc["zerogen", "rows"]
    assert found.report().is_file()
    assert "zerogen" in found._repr_html_()
    assert "| zerogen |" in str(found)
    again = ss.Comparison.load(tmp_path / "compare")
    assert (again.path, again.results) == (found.path, found.results)
    cell = ss.Run.load(tmp_path / "compare" / "zerogen-1")
    assert cell.finished
    assert [entry.name for entry in cell.config.filters] == ["Short"]


def test_a_plan_says_what_a_run_takes(world: World, tmp_path: Path) -> None:
    found = ss.plan(
        task(),
        validation=rows(world, "validation.csv"),
        teacher=ss.Teacher(backend="fake", model="fake"),
        student=student(world),
        method=ss.S3(**METHOD),
        cache=None,
        out=tmp_path / "run",
        progress=False,
    )
    assert found["requests"][0] >= METHOD["seed_rows"]
    assert found["data"]["harvest"] + found["data"]["select"] == len(rows(world, "validation.csv"))
    assert not (tmp_path / "run").exists()
