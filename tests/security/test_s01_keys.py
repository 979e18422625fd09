"""S1: a key is never on disk or on the screen, whatever a server echoes and however talkative libraries are."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from loopback import Fault, LoopbackServer
from security.canary import KEY, hits, spellings, words_below
from stepsynth.config import TeacherConfig, parse_config
from stepsynth.errors import TeacherError
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.types import Message, Request, Sampling
from wire_site import run_values, ship_text, whole, write

if TYPE_CHECKING:
    from pathlib import Path

    from security.conftest import Performance


def test_s01_the_key_was_sent_and_came_back(performance: Performance) -> None:
    """Otherwise nothing below would be shown: the servers got it, and the journal has bodies that it was cut out of."""
    assert all(seen.headers["authorization"] == f"Bearer {KEY}" for seen in performance.good.requests)
    assert performance.strict.requests
    assert performance.failing.completions
    with closing(sqlite3.connect(performance.folder / "runs" / "run" / "journal.db")) as connection:
        bodies = [body for (body,) in connection.execute("SELECT raw FROM answers")]
    assert bodies
    assert all("Bearer [key]" in body and '"url": "[key]"' in body for body in bodies)


def test_s01_libraries_did_log(performance: Performance) -> None:
    """Asyncio's debug mode was on, so that its lines are among those that were searched."""
    logs = "".join(path.read_text() for path in performance.folder.rglob("attempt-*.log"))
    assert "DEBUG asyncio" in logs


def test_s01_the_commands_ended_as_they_should(performance: Performance) -> None:
    assert performance.code("report") == [0]
    assert performance.code("run", "/runs/run") == [0]
    assert performance.code("compare") == [0]
    for place in ("/strict", "/failing", "/down"):
        assert performance.code("run", place) == [2], performance.err[-2000:]
    assert "Traceback" not in performance.err


def test_s01_the_key_is_in_no_file(performance: Performance) -> None:
    """Journals and their cells, configs, pages, results, logs, models: in no spelling."""
    texts = list(words_below(performance.folder))
    names = {name for name, _ in texts}
    for wanted in ("config.json", "journal.db (cells)", "report.html", "results.json", "dataset.jsonl", "logs/attempt-1.log"):
        assert f"runs/run/{wanted}" in names
    assert hits(texts, spellings()) == []


def test_s01_the_key_is_in_nothing_that_was_printed(performance: Performance) -> None:
    assert "refused the key in STEPSYNTH_TEST_KEY" in performance.err
    assert hits([("out", performance.out), ("err", performance.err)], spellings()) == []


RARER = {
    "with slashes escaped, as PHP writes JSON": KEY.replace("/", "\\/"),
    "URL-encoded but for slashes": quote(KEY),
    "URL-encoded in small letters": quote(KEY, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "in base64 behind its scheme": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "in base64 for an address": base64.urlsafe_b64encode(f"a:{KEY}".encode()).decode(),
}


@pytest.mark.parametrize("how", RARER)
def test_s01_a_key_echoed_in_a_rarer_spelling_is_cut_out_of_answers_and_errors(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_TEST_KEY", KEY)
    request = Request((Message("user", "Hello"),), Sampling(), 0, "stage", 0, "")

    async def ask(teacher: OpenAITeacher) -> str:
        try:
            response = await teacher.generate(request)
            return f"{response.text} {response.raw}"
        except TeacherError as error:
            return str(error)
        finally:
            await teacher.close()

    with LoopbackServer() as server:
        config = TeacherConfig(
            backend="openai", model="loopback", base_url=server.base_url, api_key_env="STEPSYNTH_TEST_KEY", concurrency=1
        )
        # Bodies as bytes: a JSON library would escape nothing of this by itself.
        for code in (200, 400):
            text = f'{{"choices": [{{"message": {{"content": "x"}}}}], "error": {{"message": "no {RARER[how]}"}}}}'
            server.faults = dict.fromkeys(range(1, 9), Fault.status(code, body=text))
            assert hits([(str(code), asyncio.run(ask(OpenAITeacher(config))))], spellings()) == []


@pytest.mark.parametrize("before", ["", "a", "Bearer ", "user:"])
def test_s01_the_search_finds_the_key_in_every_spelling(tmp_path: Path, before: str) -> None:
    """In base64 whatever stands before it, which moves its bits; in a cell of a database; in UTF-16."""
    coded = base64.b64encode(f"{before}{KEY} and more".encode()).decode()
    (tmp_path / "coded.txt").write_text(coded)
    (tmp_path / "wide.txt").write_text(KEY, encoding="utf-16-le")
    (tmp_path / "clean.txt").write_text("nothing here")
    with closing(sqlite3.connect(tmp_path / "cells.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 5000 + KEY,))
    found = {line.split(" ")[0].rstrip(":") for line in hits(list(words_below(tmp_path)), spellings())}
    assert found == {"coded.txt", "wide.txt", "cells.db"}


@pytest.mark.parametrize("kind", ["answers", "errors"])
def test_s01_the_secret_of_a_header_is_nowhere_either(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was sent, it was echoed in bodies and errors, and it is in no file, no note and no error."""
    monkeypatch.setenv("STEPSYNTH_TEST_HEADER", KEY)
    with LoopbackServer() as server:
        server.answer = lambda body: {**whole(ship_text(body), body), "debug": [KEY, quote(KEY, safe="")]}
        if kind == "errors":
            server.faults = lambda _: Fault.status(400, {"X-Echo": KEY}, {"error": {"message": f"bad token {KEY}"}})
        values = run_values(server, headers={"X-Gateway-Token": {"env": "STEPSYNTH_TEST_HEADER"}})
        said: list[tuple[str, str]] = []
        try:
            found = write(values, tmp_path / "journal.db", shared=tmp_path / "answers.db")
            said = [("notes", " ".join([*found.notes, *found.lines]))]
        except TeacherError as error:
            said = [("error", f"{error!s} {error!r} {error.__context__!r}")]
        assert all(seen.headers["x-gateway-token"] == KEY for seen in server.requests)
    (tmp_path / "config.json").write_text(parse_config(values).model_dump_json())
    assert hits([*words_below(tmp_path), *said], spellings()) == []
