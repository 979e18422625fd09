"""The push to the hub, by the hub's own client, against a server on this machine: what is sent, and every way to fail."""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from command import stepsynth
from finished_runs import finished_run
from stepsynth.errors import ConfigError
from stepsynth.exporting.push import check_repository

TOKEN = "hf_" + "x1" * 16


class Hub(ThreadingHTTPServer):
    """The endpoints of the hub that a push uses.

    ``fault`` is the status of every answer to a path that ``at`` matches, or ``reset``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen: list[tuple[str, str, Any]] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.fault: int | str = 0
        self.at = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """One request to the `Hub`."""

    server: Hub

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def answer(self, body: bytes) -> None:
        hub = self.server
        hub.seen.append((self.command, self.path, dict(self.headers)))
        if hub.fault and re.search(hub.at, self.path):
            if hub.fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.send({"error": "scripted"}, int(hub.fault))
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
            known = name in hub.private
            hub.private.setdefault(name, asked.get("private") or asked.get("visibility") == "private")
            self.send({"url": f"{hub.url}/{name}"}, 409 if known else 200)
            return
        found = re.match(
            r"/api/((?:model|dataset)s/[^/]+/[^/]+)(?:/(preupload|commit|revision)/.*)?$", self.path.partition("?")[0]
        )
        if found is None:
            self.send({}, 200 if "yaml" in self.path else 404)
        elif found[2] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.send({"files": files})
        elif found[2] == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    hub.files.setdefault(found[1], {})[line["value"]["path"]] = content
            self.send({"commitOid": "0" * 40, "commitUrl": f"{hub.url}/{found[1]}/commit/{'0' * 40}"})
        elif found[1] not in hub.private:
            self.send({"error": "Repository not found"}, 404)
        else:
            name = found[1].partition("/")[2]
            self.send({"id": name, "private": hub.private[found[1]], "sha": "0" * 40, "siblings": [], "tags": []})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda _: None)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def export(capsys: pytest.CaptureFixture[str], out: Path, *options: object) -> Any:
    return stepsynth(capsys, "export", finished_run("classification"), out, *options)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rows_and_student_go_to_two_private_repositories(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    outcome = export(capsys, out, "--data", "jsonl", "--student", "safetensors", "--push", "anna/tickets", "--json")
    assert outcome.code == 0, outcome.err
    assert hub.private == {"datasets/anna/tickets": True, "models/anna/tickets": True}
    assert hub.files["datasets/anna/tickets"] == content_of(out / "data")
    assert hub.files["models/anna/tickets"] == content_of(out / "student")
    told = json.loads(outcome.out)
    assert [push["kind"] for push in told["push"]] == ["dataset", "model"]
    assert all(push["url"] for push in told["push"])
    assert TOKEN not in outcome.out + outcome.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    # Once more, from the folder alone.
    again = export(capsys, out, "--push", "anna/tickets")
    assert again.code == 0, again.err
    assert "pushed" in again.out


def test_a_public_repository_is_made_only_on_request(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(capsys, tmp_path / "out", "--data", "csv", "--push", "anna/open", "--public").code == 0
    assert hub.private == {"datasets/anna/open": False}
    hub.files.clear()
    refused = export(capsys, tmp_path / "out", "--push", "anna/open")
    assert refused.code == 2
    assert "exists and is public" in refused.err
    assert not hub.files


def test_a_dry_run_sends_nothing(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = export(capsys, tmp_path / "out", "--data", "csv", "--push", "anna/tickets", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert not hub.seen
    for name in content_of(tmp_path / "out" / "data"):
        assert name in outcome.out
    assert "Nothing was sent" in outcome.out
    assert outcome.out.rstrip().endswith("--push anna/tickets")
    again = export(capsys, tmp_path / "two words", "--data", "csv", "--push", "anna/tickets", "--public", "--dry-run")
    assert again.out.rstrip().endswith(f"'{tmp_path / 'two words'}' --push anna/tickets --public")


@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [
        (401, "create", "does not know you (401)"),
        (403, "create", "(403)"),
        (403, "commit", "(403)"),
        (409, "commit", "at the same time (409)"),
        (500, "commit", "answered 500"),
        ("reset", "preupload", "was not pushed"),
    ],
)
def test_a_hub_that_refuses_costs_one_line_and_nothing_else(
    fault: int | str, at: str, said: str, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert export(capsys, out, "--data", "csv").code == 0
    before = content_of(out)
    hub.fault, hub.at = fault, at
    outcome = export(capsys, out, "--push", "anna/tickets")
    assert outcome.code == 2
    lines = [line for line in outcome.err.splitlines() if line.startswith("stepsynth:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in outcome.err
    assert TOKEN not in outcome.out + outcome.err
    assert content_of(out) == before
    hub.fault = 0
    assert export(capsys, out, "--push", "anna/tickets").code == 0


@pytest.mark.parametrize("name", ["tickets", "a/b/c", "anna/", "/x", "an na/x", "anna/..", "anna/x.git", 3, "anna/x\n"])
def test_names_that_no_repository_has(name: object) -> None:
    with pytest.raises(ConfigError, match="is not OWNER/NAME"):
        check_repository(name)


def test_a_folder_without_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = export(capsys, tmp_path / "none", "--push", "anna/tickets")
    assert outcome.code == 2
    assert "there is no export" in outcome.err
