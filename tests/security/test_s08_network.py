"""S8: no surprise network. Only the configured backend is asked, and the hub only if the config names it; no telemetry."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from security.child import start

if TYPE_CHECKING:
    from pathlib import Path

    from security.conftest import Performance

OUTSIDE = (
    "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 9), timeout=1)\nexcept OSError:\n    print('swallowed')\n"
)
OTHERS = ("example.org", "8.8.8.8", "127.0.0.1.example.org", "2001:db8::1")


@pytest.mark.parametrize("environment", ["as it is", "sys.path alone"])
def test_s08_the_guard_sees_a_child_that_swallows_the_error(children_guard: Path, environment: str) -> None:
    """Otherwise nothing here would be shown; the log is put back so that this test may pass."""
    before = children_guard.read_bytes()
    env = dict(os.environ)
    if environment == "sys.path alone":
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", OUTSIDE], capture_output=True, text=True, env=env, check=False)
    found = children_guard.read_text(encoding="utf-8")
    children_guard.write_bytes(before)
    assert done.stdout == "swallowed\n", done.stderr
    assert "'192.0.2.1'" in found


@pytest.mark.parametrize("host", OTHERS)
def test_s08_the_guard_refuses_names_and_addresses_of_other_machines(network_guard: list[str], host: str) -> None:
    with pytest.raises(PermissionError, match="do not leave this machine"):
        socket.getaddrinfo(host, 80)
    assert network_guard
    network_guard.clear()


@pytest.mark.parametrize("host", OTHERS)
def test_s08_the_guard_of_children_refuses_them_too(children_guard: Path, host: str) -> None:
    before = children_guard.read_bytes()
    done = start(code=f"import socket\nsocket.getaddrinfo({host!r}, 80)")
    found = children_guard.read_text(encoding="utf-8")
    children_guard.write_bytes(before)
    assert "PermissionError" in done.stderr
    assert f"socket.getaddrinfo {host!r}" in found


def test_s08_no_command_leaves_this_machine(performance: Performance) -> None:
    """Plan, run, status, report, predict, import, compare: nothing is looked up or connected to, not even in vain."""
    assert performance.network == ""
    for command in (("plan", performance.good.base_url), ("status",), ("predict",), ("import",), ("presets",), ("models",)):
        assert set(performance.code(*command)) == {0}, command


AS_IT_IS = (
    "from openvino_telemetry.utils.sender import TelemetrySender\nTelemetrySender.send = lambda *_, **__: None\nimport openvino"
)
OURS = "from stepsynth.teachers.local_openvino import engine_library\nengine_library()"


@pytest.mark.parametrize(("code", "tells"), [(AS_IT_IS, True), (OURS, False)], ids=["as it is", "ours"])
def test_s08_the_embedded_engine_tells_nobody_that_it_is_used(tmp_path: Path, code: str, tells: bool) -> None:
    """Imported as it is, OpenVINO makes up a client id, keeps it in the user's home and sends it: the first case shows that."""
    pytest.importorskip("openvino_genai")
    # In somebody's CI it keeps quiet of itself.
    done = start(code=code, env={"CI": "", "TF_BUILD": "", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert bool(list(tmp_path.rglob("*ga_cid*"))) is tells


def test_s08_only_the_configured_server_is_asked_and_only_for_completions_and_models(performance: Performance) -> None:
    """A proxy of the environment is not told of a server on this machine."""
    asked = {(seen.method, seen.path) for seen in performance.good.requests}
    assert asked == {("GET", "/v1/models"), ("POST", "/v1/chat/completions")}
    assert performance.proxy.requests == []


def test_s08_nothing_identifies_the_user_to_the_server(performance: Performance) -> None:
    """No cookie, no user name, no host name, no folder in any header or body."""
    allowed = {"host", "accept", "accept-encoding", "user-agent", "content-length", "content-type", "authorization"}
    assert performance.good.requests
    for seen in performance.good.requests:
        assert set(seen.headers) <= allowed, seen.headers
        whole = f"{dict(seen.headers)} {seen.body.decode()}"
        assert "zqcanary" not in whole
        assert socket.gethostname() not in whole
        assert str(performance.folder) not in whole
