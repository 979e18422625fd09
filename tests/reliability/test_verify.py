"""R13: a damaged or missing file is found by ``verify_run``, and the same command makes it good again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kill_harness import fingerprint
from reliability.runs import copied, go_on
from stepsynth import __version__
from stepsynth.errors import RunError
from stepsynth.execution import execute, rebuild
from stepsynth.journal import Journal
from stepsynth.report.seal import sealed
from stepsynth.report.verify import Finding, check_run, verify_run
from stepsynth.run import RunDirectory
from world import World

pytestmark = pytest.mark.usefixtures("one_thread")


def sql(run: Path, *statements: str) -> None:
    with closing(sqlite3.connect(run / "journal.db")) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, "the test changes something"
        connection.commit()


def summary(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.where) for finding in findings]


def test_r13_an_undisturbed_run_is_whole_and_looking_changes_nothing(calm: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(calm.rglob("*")) if path.is_file() and path.suffix != ".db-shm"}
    assert verify_run(calm) == []
    after = {path: path.read_bytes() for path in sorted(calm.rglob("*")) if path.is_file() and path.suffix != ".db-shm"}
    assert {p.name for p in before} - {"journal.db-wal"} <= {p.name for p in after}
    assert all(after[path] == content for path, content in before.items() if path.suffix != ".db-wal")


@pytest.mark.parametrize(
    "spoil", ["flip", "truncate", "remove a file", "remove done", "half done", "remove the folder", "escape"]
)
def test_r13_a_spoilt_model_is_found(calm: Path, tmp_path: Path, spoil: str) -> None:
    run = copied(calm, tmp_path)
    model = run / "models" / "round-1"
    weights, done = model / "model.safetensors", model / "done.json"
    data = weights.read_bytes()
    match spoil:
        case "flip":
            weights.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        case "truncate":
            weights.write_bytes(data[:-1])
        case "remove a file":
            (model / "config.json").unlink()
        case "remove done":
            done.unlink()
        case "half done":
            done.write_text(done.read_text()[:40])
        case "remove the folder":
            for file in model.iterdir():
                file.unlink()
            model.rmdir()
        case "escape":
            done.write_text(json.dumps({"../round-0/model.safetensors": "0" * 64}))
    found = verify_run(run)
    assert summary(found) == [("model", "models/round-1")]
    assert "run" in found[0].hint
    assert "\n" not in str(found[0])


def test_r13_a_spoilt_model_is_trained_again_to_the_same_metrics(calm: Path, world: World, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    for number, name in ((0, "model.safetensors"), (2, "done.json")):
        (run / "models" / f"round-{number}" / name).write_bytes(b"damaged")
    assert [finding.where for finding in verify_run(run)] == ["models/round-0", "models/round-2"]
    _, teacher = go_on(world.config(), run)
    assert teacher.calls == []
    assert verify_run(run) == []
    assert fingerprint(run) == fingerprint(calm)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(("dataset.jsonl", how) for how in ("edited", "shorter", "longer", "gone")),
        *(("results.json", how) for how in ("edited", "shorter")),
        ("report.html", "edited"),
    ],
)
def test_r13_a_derived_file_that_is_not_the_journals_is_found_and_made_again(
    calm: Path, tmp_path: Path, name: str, how: str
) -> None:
    run = copied(calm, tmp_path)
    content = (run / name).read_bytes()
    match how:
        case "edited":
            (run / name).write_bytes(content.replace(b"round", b"Round", 1))
        case "shorter":
            (run / name).write_bytes(content[: content.rindex(b"\n", 0, -1) + 1])
        case "longer":
            (run / name).write_bytes(content + b"{}\n")
        case "gone":
            (run / name).unlink()
    assert summary(verify_run(run)) == [("derived", name)]
    rebuild(run)
    assert (run / name).read_bytes() == content


def test_r13_a_page_tells_a_change_from_another_version_and_another_library(calm: Path, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    page = run / "report.html"
    ours = page.read_text(encoding="utf-8")
    body = ours[: ours.rindex("<!-- sha256")]
    redrawn = sealed(body.replace("</svg>", "<g></g></svg>"))
    page.write_text(redrawn, encoding="utf-8")
    check = check_run(run)
    assert not check.findings
    assert "drawn by another release of matplotlib" in check.notes[0]
    for spoilt in (
        redrawn.replace("<g></g>", "<g> </g>"),
        sealed(body.replace("What was run", "How it was run")),
        ours[: len(ours) // 2],
        ours.replace(f"stepsynth {__version__} from", "stepsynth 0.1.0 from"),
        "",
    ):
        assert spoilt != ours
        page.write_text(spoilt, encoding="utf-8")
        check = check_run(run)
        assert (summary(check.findings), check.notes) == ([("derived", "report.html")], [])


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("DELETE FROM answers WHERE key = (SELECT key FROM rows WHERE reason = '' LIMIT 1)", "journal", "answers are missing"),
        ("DELETE FROM rows WHERE stage = 'round-0/seed' AND position = 3", "journal", "are there"),
        ("DELETE FROM stages WHERE name = 'round-1/extrapolate'", "journal", "never ended"),
        ("UPDATE answers SET key = 'f' || substr(key, 2) WHERE key NOT LIKE 'f%'", "journal", "under another request's key"),
        ("UPDATE answers SET request = replace(request, 'kalm', 'calm')", "journal", "under another request's key"),
        ("DELETE FROM predictions WHERE round = 1 AND split = 'select' AND position = 0", "journal", "scored on"),
        ("DELETE FROM evaluations WHERE round = 0", "journal", "no scores"),
        ("UPDATE gold SET label = 'rund' WHERE position = 0", "gold", "other validation rows than the run began with"),
    ],
)
def test_r13_facts_that_contradict_one_another_are_found(
    calm: Path, tmp_path: Path, statement: str, kind: str, said: str
) -> None:
    run = copied(calm, tmp_path)
    sql(run, statement)
    assert any(finding.kind == kind and said in finding.what for finding in verify_run(run)), verify_run(run)


def test_r13_a_damaged_journal_is_found_and_nothing_is_read_from_it(calm: Path, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    data = bytearray((run / "journal.db").read_bytes())
    data[8192:-8192] = bytes(len(data) - 16384)
    (run / "journal.db").write_bytes(data)
    (found,) = verify_run(run)
    assert (found.kind, found.where) == ("journal", "journal.db")
    assert "backup" in found.hint
    assert "\n" not in str(found)


def test_r13_a_journal_that_is_gone_and_a_config_that_was_edited_are_found(calm: Path, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    config = run / "config.json"
    config.write_text(config.read_text().replace('"seed_rows": 30', '"seed_rows": 31'))
    assert ("config", "config.json") in summary(verify_run(run))
    (run / "journal.db").unlink()
    assert ("journal", "journal.db") in summary(verify_run(run))
    config.write_text("{")
    assert summary(verify_run(run)) == [("config", "config.json")]


@pytest.mark.parametrize("how", ["missing", "0 bytes", "no rows", "no stages", "only a student"])
def test_r13_a_journal_without_the_stages_of_the_results_beside_it_is_found_and_never_begun_again(
    calm: Path, world: World, tmp_path: Path, how: str
) -> None:
    run = copied(calm, tmp_path)
    if how == "no stages":
        sql(run, "DELETE FROM stages")
    else:
        for file in run.glob("journal.db*"):
            file.unlink()
    if how in ("0 bytes", "only a student"):
        (run / "journal.db").touch()
    if how == "no rows":
        Journal(run / "journal.db").close()
    if how == "only a student":
        for name in ("results.json", "report.html", "dataset.jsonl"):
            (run / name).unlink()
    (found,) = verify_run(run)
    assert (found.kind, found.where) == ("journal", "journal.db")
    assert "models/round-0" in found.what
    assert "backup" in found.hint
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for attempt in (lambda: execute(world.config(), run), lambda: RunDirectory.check(run, world.config())):
        with pytest.raises(RunError, match="but there is models/round-0") as caught:
            attempt()
        assert "backup" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_r13_a_run_killed_between_its_first_student_and_the_stage_goes_on(calm: Path, tmp_path: Path) -> None:
    run = copied(calm, tmp_path)
    sql(run, "DELETE FROM stages")
    for name in ("results.json", "report.html", "dataset.jsonl"):
        (run / name).unlink()
    for model in (run / "models").glob("round-[1-9]"):
        shutil.rmtree(model)
    assert RunDirectory.left_behind(run) == ""


def test_r13_what_is_no_run_or_is_being_written_to_cannot_be_checked(calm: Path, world: World, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run at"):
        verify_run(tmp_path)
    run = copied(calm, tmp_path)
    with closing(RunDirectory.open(run, world.config())), pytest.raises(RunError, match="in use by pid"):
        verify_run(run)
    assert verify_run(run) == []


def test_r13_an_unfinished_run_is_whole_as_far_as_it_got(world: World, tmp_path: Path) -> None:
    RunDirectory.open(tmp_path / "run", world.config()).close()
    assert summary(verify_run(tmp_path / "run")) == [("journal", "journal.db")]
    Journal(tmp_path / "run" / "journal.db").close()
    assert verify_run(tmp_path / "run") == []


def test_r13_checking_opens_no_socket_and_loads_no_training_library(calm: Path) -> None:
    program = """
import sys
from pathlib import Path
events = []
sys.addaudithook(lambda event, _: events.append(event) if event.startswith("socket.") else None)
from stepsynth.report.verify import verify_run
assert verify_run(Path(sys.argv[1])) == []
print([event for event in events if event in ("socket.connect", "socket.bind", "socket.sendto")], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, str(calm)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[] False", done.stderr
