"""The run directory: one process at a time, one config, private files, whole files or none."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsynth.config import RunConfig, StudentConfig, parse_config
from stepsynth.errors import RunError
from stepsynth.journal import Cost, Job, Journal
from stepsynth.run import RunDirectory, folder_name
from stepsynth.runtime.files import write_atomic
from stepsynth.teachers.provider_batch import draw_name
from stepsynth.types import Example, Message, Request, Response, Sampling, Usage

HOLDER = """
import sys, time
from pathlib import Path
from stepsynth.run import RunDirectory
from test_run_directory import config
directory = RunDirectory.open(Path(sys.argv[1]), config())
print("held", flush=True)
time.sleep(60)
"""


def config(**changes: Any) -> RunConfig:
    found: dict[str, Any] = {
        "task": {"name": "t", "instruction": "Decide.", "labels": {"pos": "liked", "neg": "disliked"}, "prompt_style": "small"},
        "data": {"validation": {"path": "/data/v.csv"}},
        "teacher": {"backend": "fake"},
        "method": {"seed_from": "gold", "demonstrations": "fixed", "feedback": "drops", "pool_near_duplicates": "none"},
    }
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return parse_config(found)


# What version 0.1.0 did where a config said nothing.
THEN = {"head": "fresh", "keep": "best", "precision": "float32", "epochs": 5, "min_steps": 0}


def test_a_run_of_an_earlier_version_says_which_keys_make_the_config_its_own(tmp_path: Path) -> None:
    """Nothing was changed but defaults; what the line says to write is enough, and touches nothing before."""
    begun(tmp_path / "run", config(**{f"student__{key}": value for key, value in THEN.items()}))
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert not {"head", "keep", "precision"} & set(json.loads(before)["config"]["student"]), "as it was stored then"
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path / "run", config())
    message = str(caught.value)
    assert "\n" not in message
    assert "earlier version" in message
    assert "another config" not in message
    found = dict(re.findall(r"student\.(\w+): ([\w-]+)", message))
    assert found == {key: str(value) for key, value in THEN.items() if getattr(StudentConfig(), key) != value}
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    written = config(**{f"student__{key}": yaml.safe_load(value) for key, value in found.items()})
    RunDirectory.open(tmp_path / "run", written).close()
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert RunDirectory.read(tmp_path / "run").config == written


def test_only_defaults_that_moved_are_asked_for(tmp_path: Path) -> None:
    """What the config says by itself stays out of the line, and a change of the user's is told first."""
    begun(tmp_path / "run", config(**{f"student__{key}": value for key, value in {**THEN, "epochs": 9}.items()}))
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path / "run", config(student__epochs=9, student__head="fresh"))
    assert "student.keep: best, student.precision: float32." in str(caught.value)
    assert not re.search(r"student\.(head|epochs)", str(caught.value))
    assert "seed" not in str(caught.value)
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path / "run", config(student__keep="best", student__precision="bfloat16", student__head="fresh"))
    message = str(caught.value)
    assert "another config: student.epochs was 9, is 3; student.precision was 'float32', is 'bfloat16'." in message
    assert "student.min_steps: 0: " in message
    assert "student.keep" not in message


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``tmp_path / "run"``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_at_once_with_the_pid_of_the_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """R14."""
    before = (tmp_path / "run" / "config.json").read_bytes()
    started = time.monotonic()
    with pytest.raises(RunError, match=f"in use by pid {holder.pid} on "):
        RunDirectory.open(tmp_path / "run", config(seed=5))
    # It does not wait for the other process, which stays until it is killed.
    assert time.monotonic() - started < 20
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_readers_need_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    assert RunDirectory.read(tmp_path / "run").config == config()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f"pid {holder.pid} " in (tmp_path / "run" / "lock").read_text()
    directory = RunDirectory.open(tmp_path / "run", config())
    assert (tmp_path / "run" / "lock").read_text().startswith(f"pid {os.getpid()} on ")
    directory.close()


def begun(path: Path, made_with: RunConfig) -> None:
    """Make a run that has bought an answer."""
    with closing(RunDirectory.open(path, made_with)) as directory, closing(Journal(directory.journal_path)) as journal:
        request = Request((Message("user", "Write."),), Sampling(), 0, "round-0/seed", 0, "pos")
        journal.ledger.count_answer(Usage(1, 1))
        journal.commit_answers([("k" * 64, request, Response("A text.", usage=Usage(1, 1)))], {})


def test_a_closed_run_can_be_opened_again_and_a_refused_one_holds_no_lock(tmp_path: Path) -> None:
    begun(tmp_path / "run", config())
    with pytest.raises(RunError):
        RunDirectory.open(tmp_path / "run", config(seed=1))
    RunDirectory.open(tmp_path / "run", config()).close()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"seed": 7}, ("seed was 0, is 7",)),
        ({"method__rounds": 4}, ("method.rounds was 2, is 4",)),
        ({"teacher__sampling": {"temperature": 0.1}}, ("teacher.sampling.temperature was 0.7, is 0.1",)),
        ({"task__labels": {"pos": "loved", "neg": "disliked"}}, ("task.labels.pos was 'liked', is 'loved'",)),
        ({"task__labels": {"neg": "disliked", "pos": "liked"}}, ("task.labels", "['pos', 'neg']", "['neg', 'pos']")),
        ({"task__labels": {"pos": "liked", "neg": "disliked", "new": "x"}}, ("task.labels.new was None, is 'x'",)),
        ({"data__validation": {"path": "/data/v.csv", "sample": 9}}, ("data.validation.sample was None, is 9",)),
        ({"data__validation": {"hub": "some/set"}}, ("data.validation.hub was None, is 'some/set'",)),
        ({"data__test": {"path": "/data/t.csv"}}, ("data.test was None",)),
        ({"data__contexts": {"path": "/data/c.csv"}}, ("data.contexts was None",)),
        ({"data__seed": {"path": "/data/s.csv"}}, ("data.seed was None",)),
        ({"method__name": "zerogen"}, ("method.name was 'crossfit', is 'zerogen'",)),
        ({"method__match": {"unit": "tokens", "amount": 9}}, ("method.match was None",)),
        ({"task__family": "multi_label"}, ("task.family was 'classification', is 'multi_label'",)),
        ({"task__order": ["text2", "text1"]}, ("task.order was ['text1', 'text2'], is ['text2', 'text1']",)),
        ({"seed": 7, "student__epochs": 9, "teacher__concurrency": 1}, ("seed was 0", "student.epochs was 3, is 9")),
    ],
)
def test_another_config_is_refused_with_the_keys_that_differ(
    tmp_path: Path, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    """R18."""
    begun(tmp_path / "run", config())
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path / "run", config(**changes))
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "concurrency" not in str(caught.value)
    assert "path was" not in str(caught.value)
    assert "--out" in str(caught.value)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher__concurrency": 1},
        {"teacher__timeout_s": 1.0},
        {"teacher__attempts": 1},
        {"budget": {"requests": 9}},
        {"cache": None},
        {"data__validation": {"path": "/data/moved.csv"}},
    ],
)
def test_what_cannot_change_a_result_may_change(tmp_path: Path, changes: dict[str, Any]) -> None:
    RunDirectory.open(tmp_path / "run", config()).close()
    directory = RunDirectory.open(tmp_path / "run", config(**changes))
    assert directory.config == config(**changes)
    directory.close()


@pytest.mark.parametrize("source", ["validation", "test", "contexts", "seed"])
def test_files_may_move_but_their_columns_may_not_change(tmp_path: Path, source: str) -> None:
    key = f"data__{source}"
    begun(tmp_path / "run", config(**{key: {"path": "/data/here.csv"}}))
    RunDirectory.open(tmp_path / "run", config(**{key: {"path": "/elsewhere/there.csv"}})).close()
    columns = {"path": "/elsewhere/there.csv", "columns": {"text": "review"}}
    with pytest.raises(RunError) as caught:
        RunDirectory.open(tmp_path / "run", config(**{key: columns}))
    assert f"data.{source}.columns.text was None, is 'review'" in str(caught.value)
    assert "path was" not in str(caught.value)


@pytest.mark.parametrize("what", ["nothing", "gold rows", "a refused request"])
def test_a_run_that_obtained_nothing_takes_over_another_config(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run"
    with closing(RunDirectory.open(path, config())) as directory:
        if what != "nothing":
            with closing(Journal(directory.journal_path)) as journal:
                journal.start({"validation_sha256": "x"}, {"harvest": [Example("harvest-0", "a text", "pos")]})
                if what == "a refused request":
                    journal.ledger.sent = 1
                    journal.ledger.count_failure("refused")
                    journal.commit_ledger()
    RunDirectory.open(path, config(seed=7)).close()
    assert RunDirectory.read(path).config == config(seed=7)
    assert not (path / "journal.db").exists(), "the old config's validation rows are still there"


@pytest.mark.parametrize("what", ["a model", "a lost request", "a damaged journal", "a job"])
def test_a_run_with_something_to_lose_keeps_its_config(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run"
    with closing(RunDirectory.open(path, config())) as directory:
        if what == "a model":
            directory.new_model_folder(0)
        elif what == "a damaged journal":
            directory.journal_path.write_bytes(b"no data base" * 100)
        else:
            with closing(Journal(directory.journal_path)) as journal:
                if what == "a job":
                    journal.jobs.intend(Job(draw_name(1), ("k" * 64,), 0.0))
                else:
                    journal.ledger.open = Cost(1, 10, 0.1)
                    journal.commit_ledger()
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"}
    with pytest.raises(RunError, match="seed was 0, is 7"):
        RunDirectory.open(path, config(seed=7))
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != "lock"} == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"config": {}}', '{"config": {"task": 3}}', '{"config": null}'])
def test_a_damaged_config_of_a_run_is_one_line(tmp_path: Path, content: str) -> None:
    RunDirectory.open(tmp_path / "run", config()).close()
    (tmp_path / "run" / "config.json").write_text(content)
    for again in (False, True):
        with pytest.raises(RunError, match=r"config\.json' cannot be read") as caught:
            RunDirectory.open(tmp_path / "run", config()) if again else RunDirectory.read(tmp_path / "run")
        assert "\n" not in str(caught.value)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("important")
    (tmp_path / "file").write_text("important")
    for name in ("full", "file"):
        with pytest.raises(RunError, match="--out"):
            RunDirectory.open(tmp_path / name, config())
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(RunError, match="no run at"):
        RunDirectory.read(tmp_path / "full")


def trained(directory: RunDirectory, number: int = 0) -> Path:
    part = directory.new_model_folder(number)
    (part / "model.safetensors").write_bytes(b"weights" * 100)
    (part / "config.json").write_text("{}")
    return directory.keep_model(part, number)


def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """S9."""
    before = os.umask(0)
    try:
        with_model = RunDirectory.open(tmp_path / "run", config())
        trained(with_model)
        write_atomic(tmp_path / "run" / "results.json", "{}")
        with_model.close()
    finally:
        os.umask(before)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    RunDirectory.open(tmp_path / "run", config()).close()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    """R12."""
    path = tmp_path / "results.json"
    whole = dict.fromkeys((json.dumps([i] * 20000) for i in range(4)), True)
    contents = list(whole)
    write_atomic(path, contents[0])
    seen: list[str] = []
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            seen.append(path.read_text())

    reader = threading.Thread(target=poll)
    reader.start()
    for number in range(300):
        write_atomic(path, contents[number % 4])
    done.set()
    reader.join()
    assert len(seen) > 10
    assert all(content in whole for content in seen)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    "spoil", ["truncate", "flip", "remove", "remove done", "empty done", "half done", "list done", "folder", "nothing"]
)
def test_a_model_is_whole_only_with_every_byte_of_every_file(tmp_path: Path, spoil: str) -> None:
    """R13."""
    directory = RunDirectory.open(tmp_path / "run", config())
    model = trained(directory)
    weights, done = model / "model.safetensors", model / "done.json"
    data = weights.read_bytes()
    match spoil:
        case "truncate":
            weights.write_bytes(data[:-1])
        case "flip":
            weights.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        case "remove":
            (model / "config.json").unlink()
        case "remove done":
            done.unlink()
        case "empty done":
            done.write_text("{}")
        case "half done":
            done.write_text(done.read_text()[:20])
        case "list done":
            done.write_text('["model.safetensors"]')
        case "folder":
            weights.unlink()
            weights.mkdir()
    assert directory.model_whole(0) is (spoil == "nothing")
    assert not directory.model_whole(1)
    directory.close()


def test_training_again_replaces_a_model_and_sweeps_what_was_left_behind(tmp_path: Path) -> None:
    directory = RunDirectory.open(tmp_path / "run", config())
    left = directory.new_model_folder(0)
    (left / "half.bin").write_bytes(b"x")
    model = trained(directory)
    assert sorted(p.name for p in model.iterdir()) == ["config.json", "done.json", "model.safetensors"]
    (model / "model.safetensors").write_bytes(b"damaged")
    trained(directory)
    assert directory.model_whole(0)
    assert [p.name for p in model.parent.iterdir()] == ["round-0"]
    directory.close()


def test_shared_answers_lie_beside_the_runs(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "runs" / "a", config()).cache_path() == tmp_path / "runs" / "answers.db"
    assert RunDirectory(tmp_path / "runs" / "a", config(cache="/x/y.db")).cache_path() == Path("/x/y.db")
    assert RunDirectory(tmp_path / "runs" / "a", config(cache=None)).cache_path() is None


@pytest.mark.parametrize(
    "name",
    ["../../x", "/etc/passwd", "..", ".", "", "nul\x00", "x" * 300, "\u4e2d" * 300, "a/b\\c", "~", "-rf", "con\nfig", "\ud800"],
)
def test_a_task_name_stays_inside_its_parent(tmp_path: Path, name: str) -> None:
    """S6."""
    folder = tmp_path / folder_name(name)
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()
    assert not folder.name.startswith(("-", "."))


@given(name=st.text())
@settings(deadline=None)
def test_any_task_name_is_one_short_plainfolder_name(name: str) -> None:
    found = folder_name(name)
    assert re.fullmatch(r"[\w-]+", found)
    assert len(os.fsencode(found)) <= 255
