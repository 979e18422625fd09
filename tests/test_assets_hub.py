"""Teachers named as a GGUF of the hub, with a server on this machine that speaks the endpoints of the hub's client."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from stepsynth.config import TeacherConfig
from stepsynth.errors import AssetError, ConfigError
from stepsynth.model_cache import resolve
from stepsynth.model_cache.hub_files import HubFile, parse_hub_file
from stepsynth.teachers import probe_teacher
from tiny_gguf import build_tiny_gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Files by (repository, revision, path); answers as huggingface.co does for files in large file storage.

    Attributes:
        files: what there is.
        etag: sent in the place of the right one.
        cut: bytes after which a connection breaks, once.
        status: sent in the place of an answer.
        seen: method and path of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.etag: str | None = None
        self.cut = 0
        self.status = 0
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    # Head and body are written one after the other; Nagle would keep the body back for 40 ms.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub = self.server
        hub.seen.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", unquote(self.path))
        if hub.status or not found:
            return self._refuse(hub.status or 404, {})
        repo, revision, file = found.groups()
        if not any(key[0] == repo for key in hub.files):
            return self._refuse(401, {"X-Error-Code": "RepoNotFound"})
        if not any(key[:2] in ((repo, revision), (repo, "main")) and revision in (key[1], COMMIT) for key in hub.files):
            return self._refuse(404, {"X-Error-Code": "RevisionNotFound"})
        data = hub.files.get((repo, revision, file)) or hub.files.get((repo, "main", file))
        if data is None:
            return self._refuse(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hub.etag or hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            end = len(data)
            if hub.cut:
                end, hub.cut = hub.cut, 0
                self.close_connection = True
            self.wfile.write(data[start:end])
        return None

    def _refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does when the client is imported."""
    from huggingface_hub import constants, file_download

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))
    point_at(server.url, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def model(tmp_path: Path, hub: Hub) -> bytes:
    data = build_tiny_gguf(tmp_path / "built.gguf").read_bytes()
    hub.files["owner/name", "main", "model-q8_0.gguf"] = data
    return data


def test_it_is_downloaded_once_and_checked(hub: Hub, model: bytes) -> None:
    said: list[str] = []
    path = resolve("owner/name:model-q8_0.gguf", kind="teacher", report=said.append)
    assert isinstance(path, Path)
    assert path.read_bytes() == model
    assert any(line.startswith("owner/name:model-q8_0.gguf: downloading") for line in said)
    asked = len(hub.seen)
    assert resolve("owner/name:model-q8_0.gguf", kind="teacher") == path
    assert len(hub.seen) == asked


def test_the_teacher_answers_with_it(hub: Hub, model: bytes) -> None:
    config = TeacherConfig(backend="openvino", model="owner/name:model-q8_0.gguf", concurrency=2)
    said: list[str] = []
    assert probe_teacher(config, said.append).startswith("owner/name:model-q8_0.gguf in this process")
    assert said
    assert config.identity()["model"] == "owner/name:model-q8_0.gguf"


@pytest.mark.parametrize("name", ["owner/name@v2:sub/m.gguf", "owner/name:sub/m.gguf@v2"])
def test_a_revision_and_a_folder_can_be_named(name: str, hub: Hub, model: bytes) -> None:
    hub.files["owner/name", "v2", "sub/m.gguf"] = model
    path = resolve(name, kind="teacher")
    assert isinstance(path, Path)
    assert path.read_bytes() == model
    assert hub.seen[0] == "HEAD /owner/name/resolve/v2/sub/m.gguf"


def test_types_that_the_engine_does_not_read_are_converted(hub: Hub, tmp_path: Path) -> None:
    hub.files["owner/name", "main", "m.gguf"] = build_tiny_gguf(tmp_path / "q5.gguf", "Q5_1").read_bytes()
    path = resolve("owner/name:m.gguf", kind="teacher")
    assert isinstance(path, Path)
    assert path.is_relative_to(tmp_path / "cache" / "models")


def test_a_file_with_another_sha256_than_the_hub_names_is_refused(hub: Hub, model: bytes) -> None:
    hub.etag = "a" * 64
    for _ in range(2):  # when it comes, and out of the cache
        with pytest.raises(AssetError, match=r"its sha256 is .*, the hub's aaaaaaaaaaaa\.+ Delete .* and try again"):
            resolve("owner/name:model-q8_0.gguf", kind="teacher")


def test_a_file_without_a_sha256_is_refused_before_it_is_downloaded(hub: Hub, model: bytes) -> None:
    hub.etag = "b" * 40
    with pytest.raises(AssetError, match=r"gives no sha256 for .* so it cannot be checked"):
        resolve("owner/name:model-q8_0.gguf", kind="teacher")
    assert [line.split()[0] for line in hub.seen] == ["HEAD"]


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, model: bytes) -> None:
    hub.cut = 100_000
    path = resolve("owner/name:model-q8_0.gguf", kind="teacher")
    assert isinstance(path, Path)
    assert path.read_bytes() == model
    assert [line.split()[0] for line in hub.seen].count("GET") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/name:other.gguf", r"'owner/name' has no file 'other\.gguf' .*listed at https://huggingface\.co/owner/name"),
        ("owner/name@v9:model-q8_0.gguf", r"'owner/name' has no revision 'v9'"),
        ("owner/nobody:m.gguf", r"the hub does not give 'owner/nobody' to anonymous users: .* set HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(name: str, said: str, hub: Hub, model: bytes) -> None:
    with pytest.raises(AssetError, match=said) as caught:
        resolve(name, kind="teacher")
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    way_out = r"Download 'm\.gguf' of https://huggingface\.co/owner/name .* and give the file's path as teacher\.model"
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(AssetError, match=rf"could not be fetched from the hub \(ConnectError\)\. {way_out}"):
        resolve("owner/name:m.gguf", kind="teacher")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match=rf"HF_HUB_OFFLINE is set.* {way_out}"):
        resolve("owner/name:m.gguf", kind="teacher")


def test_a_hub_that_fails_is_one_line(hub: Hub, model: bytes) -> None:
    hub.status = 418
    with pytest.raises(AssetError, match=r"could not be fetched from the hub \(\w+ 418\)"):
        resolve("owner/name:model-q8_0.gguf", kind="teacher")


def test_too_little_disk_is_told_before_the_download(hub: Hub, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(AssetError, match=r"'owner/name:model-q8_0\.gguf' needs .* GB of disk"):
        resolve("owner/name:model-q8_0.gguf", kind="teacher")
    assert [line.split()[0] for line in hub.seen] == ["HEAD"]


def test_the_address_of_the_hub_is_the_clients_own_variable(hub: Hub, model: bytes, tmp_path: Path) -> None:
    """As a user sets it: a mirror by HF_ENDPOINT, a cache by HF_HUB_CACHE, in a process of its own."""
    code = "from stepsynth.model_cache import resolve; print(resolve('owner/name:model-q8_0.gguf', kind='teacher'))"
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "own"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "own")


@pytest.mark.parametrize("file", ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf"])
def test_a_part_of_a_split_file_is_refused_before_the_hub_is_asked(file: str, hub: Hub) -> None:
    with pytest.raises(ConfigError, match=r"one part of a split GGUF.*llama-gguf-split --merge"):
        resolve(f"owner/name:{file}", kind="teacher")
    assert hub.seen == []


@pytest.mark.parametrize(
    "name", ["owner/name", "owner/name:", "owner/name:m.bin", "owner/../name:m.gguf", "owner/name:../m.gguf", "a/b/c:m.gguf"]
)
def test_what_is_no_file_of_the_hub_is_not_asked_for(name: str, hub: Hub) -> None:
    with pytest.raises(ConfigError, match="neither an embedded model nor an existing path"):
        resolve(name, kind="teacher")
    assert hub.seen == []


def test_a_repository_without_a_file_is_told_the_form(hub: Hub) -> None:
    with pytest.raises(ConfigError, match=r"Write owner/name:file\.gguf for a GGUF file on the hub"):
        resolve("owner/name", kind="teacher")


def test_names_are_taken_apart() -> None:
    assert parse_hub_file("a/b:c.gguf") == HubFile("a/b", "c.gguf")
    assert parse_hub_file("a/b@refs/pr/1:c d/e.gguf") == HubFile("a/b", "c d/e.gguf", "refs/pr/1")
    assert str(parse_hub_file("a/b@v1:c.gguf")) == "a/b@v1:c.gguf"
    assert parse_hub_file("a/b:c-00001-of-00001.gguf") == HubFile("a/b", "c-00001-of-00001.gguf")
    with pytest.raises(ConfigError, match="names two revisions"):
        parse_hub_file("a/b@v1:c.gguf@v2")
