"""`stepsynth serve` as a command: how it starts, how it ends, what it refuses, and the image that runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from command import stepsynth
from finished_runs import finished_run
from served import fetch, post
from stepsynth.cli import app
from stepsynth.errors import ConfigError
from stepsynth.serving import server

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "examples" / "serve" / "Dockerfile"
ROWS = [{"text": "kalm"}]


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command in a process of its own; yield it and its address."""
    command = [sys.executable, "-m", "stepsynth", "serve", str(finished_run("classification")), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.search(r"on (http://127\.0\.0\.1:\d+) \(try it: \1/docs\)", said)
            assert found, said + (process.stderr.read() if process.stderr and not said else "")
            yield process, found[1]
        finally:
            process.kill()


def begin(address: str, body: bytes) -> socket.socket:
    """Send half of a request."""
    host, port = address.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body[:5])
    # Its headers are read when a later request has been answered.
    assert fetch(address, "/health").status == 200
    return client


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stop_answers_what_is_in_progress(number: signal.Signals, code: int) -> None:
    body = json.dumps({"rows": ROWS}).encode()
    with started() as (process, address):
        assert post(address, ROWS).status == 200
        with begin(address, body) as client:
            process.send_signal(number)
            end = time.monotonic() + 20
            while time.monotonic() < end:
                try:
                    socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=5).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.05)
            else:
                pytest.fail("it still accepts connections")
            client.sendall(body[5:])
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"predictions"' in answer
        _, error = process.communicate(timeout=20)
        assert process.returncode == code
    assert error.splitlines() in (["Stopped; every request in progress was answered."], [error.rstrip()])
    assert "every request in progress was answered" in error


@pytest.mark.slow
def test_a_second_signal_stops_at_once() -> None:
    with started() as (process, address), begin(address, b"x" * 1000):
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, error = process.communicate(timeout=15)
    assert (process.returncode, error.strip()) == (130, "stepsynth: stopped.")


# refusals ---------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command; return its one line on standard error."""
    done = stepsynth(capsys, "serve", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done
    return done.err


def test_what_cannot_be_served_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = finished_run("classification")
    assert "there is no run at" in refused(capsys, tmp_path / "nothing", "--port", 0)
    assert "no student of round 9" in refused(capsys, run, "--port", 0, "--round", 9)
    assert "the teacher answered itself" in refused(capsys, finished_run("classification", "teacher"), "--port", 0)
    assert "--threshold is 2.0" in refused(capsys, run, "--threshold", 2)
    assert "max_rows is 0" in refused(capsys, run, "--max-rows", 0)
    assert "the port is 70000" in refused(capsys, run, "--port", 70000)


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, finished_run("classification"), "--port", port)
    assert f"cannot listen on '127.0.0.1', port {port}: Address already in use. Another program uses it" in said


def test_a_host_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **settings: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    said = refused(capsys, finished_run("classification"), "--host", "no.such.host")
    assert "the host 'no.such.host' is unknown: Name or service not known. Use 127.0.0.1" in said


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_is_one_line(package: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(capsys, finished_run("classification"))
    assert said == (f"stepsynth: stepsynth serve needs the package {package}. Install it with: pip install 'stepsynth[serve]'\n")


def test_an_open_address_is_pointed_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    anywhere = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **settings: [anywhere])
    monkeypatch.setattr(server, "serve", lambda *arguments, started, **settings: started())
    done = stepsynth(capsys, "serve", finished_run("classification"), "--host", "0.0.0.0", "--port", 0)
    assert done.code == 0
    assert "there is no login and no encryption" in done.err
    assert "on http://0.0.0.0:" in done.out
    done = stepsynth(capsys, "serve", finished_run("classification"), "--port", 1)
    assert "there is no login and no encryption" in done.err


def test_addresses_of_ipv6_are_written_as_urls() -> None:
    try:
        opened = server.listen("::1", 0)
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    with opened:
        assert server.address_of(opened) == f"http://[::1]:{opened.getsockname()[1]}"
        assert server.is_private(opened)


# the image --------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_runs_an_ordinary_user_and_the_command() -> None:
    steps = instructions()
    names = [name for name, _ in steps]
    (user,) = (rest for name, rest in steps if name == "USER")
    assert user not in ("root", "0")
    assert f" {user}" in next(rest for name, rest in steps if "useradd" in rest)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not [rest for name, rest in steps[names.index("USER") :] if name == "RUN"]
    command = json.loads(dict(steps)["ENTRYPOINT"])
    assert command[:2] == ["stepsynth", "serve"]
    group = typer.main.get_command(app)
    parsed = group.commands["serve"].make_context("serve", command[2:], resilient_parsing=False)  # type: ignore[attr-defined]
    assert (str(parsed.params["folder"]), parsed.params["host"]) == ("/student", "0.0.0.0")
    port = str(parsed.params["port"])
    assert dict(steps)["EXPOSE"] == port
    check = json.loads(dict(steps)["HEALTHCHECK"].partition("CMD ")[2])
    compile(check[2], "health check", "exec")
    assert f":{port}/health" in check[2]


def test_the_image_has_the_pinned_versions() -> None:
    steps = instructions()
    base = dict(steps)["FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    installs = [rest for name, rest in steps if name == "RUN" and "pip install" in rest]
    assert all("constraints.txt" in line for line in installs)
    assert not re.search(r"[\w-]+==\d", DOCKERFILE.read_text(encoding="utf-8")), "versions stand in constraints.txt only"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()[1:])
    assert {"torch", "fastapi", "starlette", "uvicorn", "h11", "pydantic"} <= set(pins)
    copied = [name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.skipif(not os.environ.get("STEPSYNTH_DOCKER"), reason="set STEPSYNTH_DOCKER=1 to build the image with docker")
@pytest.mark.slow
def test_the_image_builds() -> None:
    subprocess.run(["docker", "build", "-f", str(DOCKERFILE), "-t", "stepsynth-serve-test", str(ROOT)], check=True)
