"""The properties S1 to S12 that SECURITY.md promises; every test here is named after the one that it shows.

Most of what must hold of files, output and network is looked at after one performance: a process
that goes through the commands under the worst conditions that are still allowed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from guard import children_guard as children_guard
from guard import network_guard as network_guard
from loopback import Fault, LoopbackServer, completion
from security.canary import ECHOED, KEY
from security.child import start
from world import LABELS, World, build_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback import Seen

# Every library may log all that it has to say; a command's end is told by a line of its own.
_PROGRAM = """
import json, logging, sys
from stepsynth.cli import main
logging.getLogger().setLevel(logging.DEBUG)
for name in ("asyncio", "aiohttp", "aiohttp.client", "aiohttp.internal"):
    logging.getLogger(name).setLevel(logging.DEBUG)
for arguments in json.loads(sys.argv[1]):
    sys.argv[:] = ["stepsynth", *arguments]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    print(f"\\nended {code} {json.dumps(arguments)}", flush=True)
"""


@dataclass
class Performance:
    """What is left of it.

    Attributes:
        folder: everything that was written.
        out: standard output.
        err: standard error.
        codes: exit codes of the commands, in order.
        commands: the commands.
        good: the server that answers, and repeats the key in every body and header.
        strict: the server that wants another key and says so with the key in it.
        failing: the server that repeats the key in errors of every kind.
        proxy: named as proxy; nobody should ask it.
        network: what the guard refused.
    """

    folder: Path
    out: str = ""
    err: str = ""
    codes: list[int] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    good: LoopbackServer = field(default_factory=LoopbackServer)
    strict: LoopbackServer = field(default_factory=LoopbackServer)
    failing: LoopbackServer = field(default_factory=LoopbackServer)
    proxy: LoopbackServer = field(default_factory=LoopbackServer)
    network: str = ""

    def code(self, name: str, *words: str) -> list[int]:
        """Return the exit codes of a command where it was given all of these words."""
        found = [(command, code) for command, code in zip(self.commands, self.codes, strict=True) if command[0] == name]
        return [code for command, code in found if all(any(word in part for part in command) for word in words)]


def _echoing(server: LoopbackServer) -> None:
    """Let a server answer as before, with the key as it came in every body."""
    plain = server.answer

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        found = plain(body)
        whole = found if isinstance(found, dict) else completion(found, body)
        return {**whole, "debug": {"authorization": f"Bearer {ECHOED[0]}", "url": ECHOED[1], "basic": ECHOED[2]}}

    server.answer = answer


def _errors(seen: Seen) -> Fault:
    """Repeat the key in the body and in the headers of every kind of error, one after the other."""
    codes = (400, 403, 404, 408, 422, 429, 500, 503, 301)
    spelling = ECHOED[seen.number % len(ECHOED)]
    message = f"Bad request with Authorization: Bearer {spelling} at /x?key={ECHOED[1]}"
    return Fault.status(
        codes[seen.number % len(codes)],
        {"Location": f"https://127.0.0.1/{spelling}", "X-Echo": spelling, "Retry-After": "0"},
        {"error": {"message": message, "code": spelling}},
    )


def _commands(world: World, folder: Path, play: Performance) -> list[list[str]]:
    def against(server: LoopbackServer, *more: str) -> list[str]:
        keys = (f"base_url={server.base_url}", "backend=openai", "model=loopback", "api_key_env=STEPSYNTH_TEST_KEY", *more)
        return [piece for key in keys for piece in ("--set", f"teacher.{key}")]

    config, rows, run = str(world.config_path), str(world.folder / "test.csv"), str(folder / "runs" / "run")
    return [
        ["presets"],
        ["models", "list"],
        ["plan", config, *against(play.good)],
        ["run", config, "--out", run, *against(play.good)],
        ["status", run],
        ["report", run],
        ["verify", run],
        ["predict", run, rows, "--out", str(folder / "predicted.csv")],
        ["predict", run, rows, "--out", str(folder / "predicted.jsonl")],
        ["import", rows, "--config", config, "--out", str(folder / "seed.jsonl")],
        ["compare", config, "--methods", "gold,zerogen", "--seeds", "1", "--out", str(folder / "compared"), "--quiet"],
        ["run", config, "--out", str(folder / "strict"), *against(play.strict)],
        ["run", config, "--out", str(folder / "failing"), *against(play.failing, "attempts=2", "timeout_s=2")],
        ["run", config, "--out", str(folder / "down"), *against(play.good, "base_url=http://127.0.0.1:9/v1", "attempts=1")],
        ["plan", config, *against(play.failing)],
    ]


@pytest.fixture(scope="session")
def performance(tmp_path_factory: pytest.TempPathFactory, children_guard: Path) -> Iterator[Performance]:
    """Go through the commands in one process: umask 000, debug mode, talkative libraries, a server that echoes the key."""
    world = build_world(tmp_path_factory.mktemp("world"))
    world.write_config({"method.seed_rows": 9, "method.rounds": 1, "method.rationales": 2, "student.epochs": 1})
    folder = tmp_path_factory.mktemp("left")
    with (
        LoopbackServer(labels=LABELS, api_key=KEY) as good,
        LoopbackServer(api_key="another") as strict,
        LoopbackServer(faults=_errors) as failing,
        LoopbackServer() as proxy,
    ):
        _echoing(good)
        play = Performance(folder, good=good, strict=strict, failing=failing, proxy=proxy)
        play.commands = _commands(world, folder, play)
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"), proxy.base_url)
        personal = {"USER": "zqcanaryuser", "LOGNAME": "zqcanaryuser", "HOSTNAME": "zqcanaryhost"}
        debug = {"PYTHONASYNCIODEBUG": "1", "STEPSYNTH_TEST_KEY": KEY}
        # Some failures are retried with a pause; the pauses are the executor's own tests' matter.
        done = start(
            json.dumps(play.commands), code=_PROGRAM, options=("-X", "dev"), umask=0, env={**proxies, **personal, **debug}
        )
        play.out, play.err = done.stdout, done.stderr
        play.codes = [int(line.split(" ", 2)[1]) for line in done.stdout.splitlines() if line.startswith("ended ")]
        assert len(play.codes) == len(play.commands), done.stderr[-3000:]
        play.network = children_guard.read_text(encoding="utf-8")
        yield play
