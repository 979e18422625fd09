"""A student behind HTTP answers as `predict` does, refuses what it must, and keeps requests apart."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from command import stepsynth
from family_worlds import FAMILIES, rows_of, write_lines
from finished_runs import finished_run, run_directory
from served import Gated, fetch, gated_student, post, served_at
from stepsynth.errors import ConfigError, RunError
from stepsynth.exporting.conversion import export_student
from stepsynth.exporting.student import write_plain
from stepsynth.serving import Limits, app, open_student

pytestmark = pytest.mark.usefixtures("one_thread")
JSON = {"Content-Type": "application/json"}
Rows = list[dict[str, Any]]


def new_rows(family: str, count: int = 50) -> Rows:
    """Rows without labels that no run has seen; the first is much longer than a student reads."""
    columns = ("text", "text1", "text2", "context", "question")
    rows = [{key: text for key, text in row.items() if key in columns} for row in rows_of(family, count, 60)]
    rows[0] = {key: " ".join([text] * 300) for key, text in rows[0].items()}
    return rows


@pytest.fixture
def model(tmp_path: Path) -> Iterator[tuple[Gated, str]]:
    """A server around an open gate, with small limits."""
    gated, served = gated_student(tmp_path, opened=True)
    with served_at(served, Limits(max_batch=4, max_rows=3, max_body=2000, max_waiting=6)) as address:
        yield gated, address


# answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_fifty_clients_at_once_get_the_answers_of_predict(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rows = finished_run(family), new_rows(family)
    file = write_lines(tmp_path / "new.jsonl", rows)
    for threshold in (None, 0.6):
        extra = [] if threshold is None else ["--threshold", threshold]
        done = stepsynth(capsys, "predict", run, file, "--format", "jsonl", *extra)
        expected = [json.loads(line) for line in done.out.splitlines()]
        with (
            served_at(open_student(run), Limits(max_batch=8), threshold) as address,
            ThreadPoolExecutor(50) as clients,
        ):
            answers = list(clients.map(lambda row: post(address, [row]), rows))
            together = post(address, rows[:9])
            health = fetch(address, "/health").body
        assert {answer.status for answer in answers} == {together.status} == {200}
        found = [answer.body["predictions"][0] for answer in answers]
        for row, ours, theirs in zip(rows, found, expected, strict=True):
            theirs = {key: value for key, value in theirs.items() if key not in row}
            assert list(ours) == list(theirs)
            for key, value in theirs.items():
                # Rows are padded to the longest one of their batch, which changes the last digits.
                assert ours[key] == (pytest.approx(value, abs=1e-5) if key.startswith("probabil") else value)
        assert [row.get("label") for row in together.body["predictions"]] == [row.get("label") for row in found[:9]]
        assert health["requests"] == 51
        assert health["rows"] == 59
        assert health["batches"] < 51
        assert health["columns"] == list(rows[0])


@pytest.mark.parametrize("form", ["safetensors", "openvino"])
def test_an_exported_student_is_served(form: str, tmp_path: Path) -> None:
    directory, rows = run_directory("classification"), new_rows("classification", 5)
    place = tmp_path / "export" / "student"
    if form == "safetensors":
        place.mkdir(parents=True)
        write_plain(directory, 0, place)
    else:
        place.parent.mkdir()
        export_student(directory, place, form)
    with served_at(open_student(finished_run("classification"))) as address:
        expected = post(address, rows).body["predictions"]
    for folder in (place, place.parent):
        with served_at(open_student(folder)) as address:
            found = post(address, rows).body["predictions"]
            health = fetch(address, "/health").body
        assert [row["label"] for row in found] == [row["label"] for row in expected]
        assert [row["probabilities"] for row in found] == [pytest.approx(row["probabilities"], abs=1e-4) for row in expected]
        assert (health["form"], health["round"]) == (form, None)
    with pytest.raises(ConfigError, match="has no round 3"):
        open_student(place, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_shows_requests_and_answers_of_the_task(family: str) -> None:
    with served_at(open_student(finished_run(family)), Limits(max_rows=7), 0.5) as address:
        page = fetch(address, "/openapi.json").body
        models = page["components"]["schemas"]
        answer = post(address, models["Request"]["example"]["rows"])
        assert fetch(address, "/").headers["location"] == "docs"
        assert "swagger" in fetch(address, "/docs").text
    assert answer.status == 200
    # pydantic sorts the keys of examples.
    shown = set(models["Answer"]["example"]["predictions"][0])
    assert set(answer.body["predictions"][0]) == set(models["Prediction"]["properties"]) == shown
    assert models["Request"]["properties"]["rows"]["maxItems"] == 7
    assert set(page["paths"]["/predict"]["post"]["responses"]) == {"200", "408", "413", "415", "422", "500", "503"}


def test_columns_that_are_no_names_of_python(tmp_path: Path) -> None:
    """A user's own family may call its columns as it likes."""
    gated, served = gated_student(tmp_path, opened=True)
    served.family.written, served.family.kept = "model_json", "copy"
    with served_at(served) as address:
        assert post(address, [{"copy": "c", "model_json": "four"}]).body["predictions"][0]["label"] == "b"
        assert post(address, [{"model_json": "four"}]).body["detail"][0]["loc"] == ["body", "rows", 0, "copy"]
    assert gated.batches == [["four"]]


def test_half_a_character_is_read_as_predict_reads_it() -> None:
    with served_at(open_student(finished_run("extractive_qa"))) as address:
        halved = post(address, [{"context": "\ud83d Norvik \ud83d", "question": "Which \ud83d?"}])
    assert halved.status == 200
    assert halved.body["predictions"][0]["answer"] in "\ud83d Norvik \ud83d"


# refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ('{"rows": [{"text": "x"', 422, "JSON decode error"),
        ('{"rows": []}', 422, "at least one row, at most 3; this one has 0"),
        ('{"rows": [{"text": "1"}, {"text": "2"}, {"text": "3"}, {"text": "4"}]}', 422, "at most 3; this one has 4"),
        ('{"rows": [{"txt": "x", "text": "y"}]}', 422, "Unknown key. A row has 'text'; a request has 'rows'."),
        ('{"rows": [{"t\\ud800": "x", "text": "y"}]}', 422, "valid string"),
        ('{"texts": ["x"]}', 422, "Field required"),
        ('{"rows": ["x"]}', 422, "This is no object"),
        ('{"rows": [{"text": 3}]}', 422, "valid string"),
        ('{"rows": [{"text": null}]}', 422, "valid string"),
        ('{"rows": [{"text": NaN}]}', 422, "valid string"),
        ('{"rows": [{"text": " \\n"}]}', 422, "The text is empty."),
        ("[" * 1900, 400, "cannot be read as JSON"),
        (b'{"rows": [{"text": "\xff"}]}', 400, "cannot be read as JSON"),
        ("", 422, "Field required"),
        ("x" * 2001, 413, "The body has more than 2,000 bytes. Send fewer or shorter rows."),
        ("x" * 3_000_000, 413, "more than 2,000 bytes"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_the_next_one_answered(
    model: tuple[Gated, str], body: str | bytes, status: int, said: str
) -> None:
    gated, address = model
    refused = fetch(address, "/predict", "POST", body, JSON)
    assert (refused.status, said in refused.text) == (status, True), refused.text
    assert len(refused.text) < 500
    assert gated.batches == []
    assert post(address, [{"text": "four"}]).body["predictions"][0]["label"] == "b"


def test_a_body_in_chunks_is_bounded_too(model: tuple[Gated, str]) -> None:
    parts = (b"x" * 500 for _ in range(9))
    refused = fetch(model[1], "/predict", "POST", parts, JSON)
    assert (refused.status, refused.headers["connection"]) == (413, "close")


def test_a_body_that_is_not_sent_as_json_is_refused(model: tuple[Gated, str]) -> None:
    body = json.dumps({"rows": [{"text": "x"}]})
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
        refused = fetch(model[1], "/predict", "POST", body, headers)
        assert (refused.status, "Content-Type: application/json" in refused.text) == (415, True)
    assert fetch(model[1], "/predict", "POST", body, {"Content-Type": "application/JSON; charset=utf-8"}).status == 200


def test_other_paths_and_methods_are_refused(model: tuple[Gated, str]) -> None:
    assert [fetch(model[1], "/predict").status, fetch(model[1], "/nothing").status] == [405, 404]


def test_many_problems_are_not_all_listed(tmp_path: Path) -> None:
    with served_at(gated_student(tmp_path, opened=True)[1]) as address:
        assert len(post(address, [{"x" * 500: 1}] * 200).body["detail"]) == 20


def test_a_body_that_does_not_arrive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_BODY_SECONDS", 0.2)
    with served_at(gated_student(tmp_path, opened=True)[1]) as address, connected(address) as client:
        client.sendall(head(1000) + b'{"rows"')
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


# requests beside one another --------------------------------------------------------------------


def head(length: int) -> bytes:
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def connected(address: str) -> socket.socket:
    where = urlsplit(address)
    return socket.create_connection((where.hostname, where.port), timeout=20)


def until_waiting(address: str, rows: int) -> None:
    """Wait until so many rows wait for the model."""
    end = time.monotonic() + 20
    while fetch(address, "/health").body["waiting"] != rows:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_waits_while_the_model_works_is_one_batch_in_the_order_of_arrival(tmp_path: Path) -> None:
    gated, served = gated_student(tmp_path)
    with served_at(served, Limits(max_batch=3)) as address, ThreadPoolExecutor(9) as clients:
        answers = [clients.submit(post, address, [{"text": "first"}])]
        assert gated.entered.acquire(timeout=20)
        for count, rows in enumerate((["a", "bb"], ["ccc", "dddd"]), start=1):
            answers.append(clients.submit(post, address, [{"text": text} for text in rows]))
            until_waiting(address, 2 * count)
        gated.gate.set()
        labels = [[row["label"] for row in answer.result().body["predictions"]] for answer in answers]
    assert gated.batches == [["first"], ["a", "bb", "ccc"], ["dddd"]]
    assert labels == [["a"], ["a", "b"], ["a", "b"]]


def test_a_free_model_waits_for_a_fuller_batch_only_if_told(tmp_path: Path) -> None:
    gated, served = gated_student(tmp_path, opened=True)
    with served_at(served, Limits(max_batch=2, max_wait=20_000)) as address, ThreadPoolExecutor(2) as clients:
        began = time.monotonic()
        assert {answer.status for answer in clients.map(lambda text: post(address, [{"text": text}]), ["x", "y"])} == {200}
        assert time.monotonic() - began < 15
    assert [len(batch) for batch in gated.batches] == [2]


def test_a_full_queue_says_when_to_come_back_and_the_others_are_answered(tmp_path: Path) -> None:
    gated, served = gated_student(tmp_path)
    with served_at(served, Limits(max_batch=4, max_rows=3, max_waiting=3)) as address, ThreadPoolExecutor(3) as clients:
        first = clients.submit(post, address, [{"text": "first"}])
        assert gated.entered.acquire(timeout=20)
        second = clients.submit(post, address, [{"text": "x"}, {"text": "y"}])
        until_waiting(address, 2)
        refused = post(address, [{"text": "x"}, {"text": "y"}])
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "2 rows wait already" in refused.text
        third = clients.submit(post, address, [{"text": "fits"}])
        until_waiting(address, 3)
        gated.gate.set()
        assert [answer.result().status for answer in (first, second, third)] == [200] * 3


def test_a_client_that_leaves_takes_its_rows_along_and_harms_nobody(tmp_path: Path) -> None:
    gated, served = gated_student(tmp_path)
    body = json.dumps({"rows": [{"text": "gone 1"}, {"text": "gone 2"}]}).encode()
    with served_at(served, Limits(max_batch=1)) as address, ThreadPoolExecutor(2) as clients:
        with connected(address) as client:
            client.sendall(head(len(body)) + body)
            assert gated.entered.acquire(timeout=20)
            other = clients.submit(post, address, [{"text": "stays"}])
            until_waiting(address, 2)
        until_waiting(address, 1)
        gated.gate.set()
        assert other.result().status == 200
    assert gated.batches == [["gone 1"], ["stays"]]


def test_a_client_that_leaves_in_its_body_harms_nobody(model: tuple[Gated, str]) -> None:
    with connected(model[1]) as client:
        client.sendall(head(1000) + b'{"rows"')
    assert post(model[1], [{"text": "four"}]).status == 200


def test_a_row_on_which_the_student_fails_fails_its_own_request_and_no_text_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    gated, served = gated_student(tmp_path)
    texts = ["first", "good", "poison secret", "fine"]
    with served_at(served) as address, ThreadPoolExecutor(4) as clients, caplog.at_level(logging.DEBUG):
        answers = [clients.submit(post, address, [{"text": texts[0]}])]
        assert gated.entered.acquire(timeout=20)
        for count, text in enumerate(texts[1:], start=1):
            answers.append(clients.submit(post, address, [{"text": text}]))
            until_waiting(address, count)
        gated.gate.set()
        assert [answer.result().status for answer in answers] == [200, 200, 500, 200]
        assert "The student failed on the rows of this request" in answers[2].result().text
        assert post(address, [{"text": "four"}]).status == 200
    assert gated.batches[1:5] == [texts[1:], ["good"], ["poison secret"], ["fine"]]
    assert "The student failed: ValueError in " in caplog.text
    assert "secret" not in caplog.text + "".join(capsys.readouterr())


def test_a_defect_of_the_server_is_logged_without_texts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> Any:
        raise KeyError("secret")

    monkeypatch.setattr(app, "row_values", broken)
    with served_at(gated_student(tmp_path, opened=True)[1]) as address:
        assert post(address, [{"text": "secret"}]).status == 500
    assert "A request failed: KeyError in " in caplog.text
    assert "secret" not in caplog.text


def test_predictions_that_are_not_one_per_row_are_a_failure(tmp_path: Path) -> None:
    gated, served = gated_student(tmp_path, opened=True)
    gated.predict = lambda examples: []  # type: ignore[method-assign]
    with served_at(served) as address:
        assert post(address, [{"text": "x"}]).status == 500


# what is served ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_batch": 0}, "max_batch is 0"),
        ({"max_wait": float("nan")}, "max_wait is nan"),
        ({"max_body": 2**40}, "max_body is"),
        ({"max_waiting": 100}, "less than the 256 rows of one request"),
    ],
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits(**changes)


def test_a_folder_without_a_student_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run at"):
        open_student(tmp_path / "nothing")
    with pytest.raises(RunError):
        open_student(tmp_path)
    with pytest.raises(RunError, match="no student of round 7"):
        open_student(finished_run("pair"), 7)


def test_a_student_says_its_name(tmp_path: Path) -> None:
    _, served = gated_student(tmp_path)
    assert str(served.found) == "round 1's student of 't'"
    assert str(replace(served.found, round=None)) == "student 't'"
