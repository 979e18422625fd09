"""Proxies of the environment: which one is asked, and that every failure on the way names it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from loopback import Fault, LoopbackServer
from openai_client import make_config, use
from stepsynth.errors import ConfigError, PermanentError, TeacherError, TransientError
from stepsynth.teachers import create_teacher, probe_teacher
from stepsynth.teachers.anthropic import AnthropicTeacher
from stepsynth.teachers.openai import OpenAITeacher
from stepsynth.teachers.proxies import find_proxy
from stepsynth.types import Message, Request, Sampling

AWAY = "http://teacher.invalid:8000/v1"
NAMES = [spelling for name in ("http", "https", "all", "no") for spelling in (f"{name}_proxy", f"{name}_PROXY".upper())]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{free.getsockname()[1]}"


def failure(base_url: str = AWAY) -> TeacherError:
    request = Request((Message("user", "Write."),), Sampling(), 0, "seed", 0, "")
    with pytest.raises(TeacherError) as caught:
        use(make_config(base_url), lambda teacher: teacher.generate(request))
    return caught.value


@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:1", "socks5h://me:secret@127.0.0.1:1", "socks4://127.0.0.1:1", "SOCKS5://h:1"]
)
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_case_24_errors_do_not_name_the_proxy_socks(monkeypatch: pytest.MonkeyPatch, value: str, variable: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        probe_teacher(make_config(AWAY))
    said = str(caught.value)
    assert f"{variable} sets the proxy 'socks" in said
    assert "SOCKS proxies are not supported" in said
    assert f"unset {variable}" in said
    assert "'teacher.invalid' to NO_PROXY" in said
    assert "secret" not in said


@pytest.mark.parametrize("write", ["http://{}", "{}", "http://me:secret@{}"])
@pytest.mark.parametrize("base_url", [AWAY, AWAY.replace("http", "https")])
def test_case_24_errors_do_not_name_the_proxy_down(
    monkeypatch: pytest.MonkeyPatch, closed: str, write: str, base_url: str
) -> None:
    variable = f"{base_url.partition(':')[0]}_proxy"
    monkeypatch.setenv(variable, write.format(closed))
    error = failure(base_url)
    assert isinstance(error, TransientError)
    assert f"cannot connect to the proxy http://{closed} (from {variable}), which is used for {base_url}" in error.message
    assert f"unset {variable}" in error.hint
    assert "secret" not in str(error)
    assert error.__context__ is None


def test_a_proxy_that_wants_credentials_is_named_and_they_are_not_shown(
    loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = loopback.base_url.removesuffix("/v1").removeprefix("http://")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:wrong-secret@{host}")
    loopback.faults = {1: Fault.status(407, body="<html>Proxy says no</html>")}
    error = failure()
    assert isinstance(error, PermanentError)
    assert error.final
    assert f"the proxy http://{host} (from HTTP_PROXY) requires a user name and a password (HTTP 407)" in error.message
    assert "wrong-secret" not in str(error)
    headers = loopback.requests[0].headers
    assert headers["proxy-authorization"].startswith("Basic ")
    assert "authorization" not in headers


@pytest.mark.parametrize(("status", "kind"), [(407, PermanentError), (503, TransientError), (403, TransientError)])
def test_a_proxy_that_opens_no_tunnel_is_named(monkeypatch: pytest.MonkeyPatch, status: int, kind: type) -> None:
    with OneAnswer(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as address:
        monkeypatch.setenv("https_proxy", f"http://{address}")
        error = failure(AWAY.replace("http", "https"))
    assert isinstance(error, kind)
    assert f"the proxy http://{address} (from https_proxy)" in error.message
    assert f"HTTP {status}" in error.message


@pytest.mark.parametrize("sign_in", ["", "me:word@"])
@pytest.mark.parametrize("backend", ["openai", "anthropic"])
def test_a_proxy_that_opens_a_tunnel_is_not_told_the_key(monkeypatch: pytest.MonkeyPatch, backend: str, sign_in: str) -> None:
    """Nor the user's own headers: the way to the proxy is not encrypted."""
    monkeypatch.setenv("A_KEY", "key-0123456789")
    monkeypatch.setenv("A_TOKEN", "token-0123456789")
    proxy = OneAnswer("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    with proxy as address:
        monkeypatch.setenv("https_proxy", f"http://{sign_in}{address}")
        headers = {"X-Gateway": {"env": "A_TOKEN"}, "X-Plain": "plain-value"}
        config = make_config("https://teacher.invalid/v1", backend=backend, api_key_env="A_KEY", headers=headers)
        teacher = create_teacher(config)
        assert isinstance(teacher, OpenAITeacher | AnthropicTeacher)

        async def asked() -> None:
            try:
                await teacher.generate(Request((Message("user", "Write."),), Sampling(), 0, "seed", 0, ""))
            finally:
                await teacher.close()

        with pytest.raises(TeacherError):
            asyncio.run(asked())
    said = proxy.heard.decode().lower()
    assert said.startswith("connect teacher.invalid:443 ")
    assert not any(part in said for part in ("key-0123456789", "token-0123456789", "plain-value", "x-gateway", "x-api-key"))
    assert ("proxy-authorization: basic " in said) == bool(sign_in)


@pytest.mark.parametrize("through", [True, False])
def test_a_sign_in_page_is_not_an_answer(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, through: bool) -> None:
    page = "<!doctype html><html><head><title>Hotel network</title></head><body>Please sign in</body></html>"
    loopback.faults = {1: Fault("status", 200, {"Content-Type": "text/html"}, page)}
    if through:
        monkeypatch.setenv("http_proxy", loopback.base_url.removesuffix("/v1"))
    error = failure(AWAY if through else loopback.base_url)
    assert isinstance(error, TransientError)
    assert "Hotel network Please sign in" in error.message
    assert ("from http_proxy" in error.message) == through
    assert "sign in first" in error.hint


@pytest.mark.parametrize("kind", ["close", "reset", "hang", "truncated"])
def test_a_lost_answer_names_the_proxy(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("http_proxy", loopback.base_url.removesuffix("/v1"))
    loopback.faults = {1: Fault(kind)}
    request = Request((Message("user", "Write."),), Sampling(), 0, "seed", 0, "")
    with pytest.raises(TransientError, match=r"teacher\.invalid.*through the proxy http://127.*from http_proxy"):
        use(make_config(AWAY, timeout_s=0.5), lambda teacher: teacher.generate(request))


def test_a_page_of_the_proxy_s_own_says_whose_it_is(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", loopback.base_url.removesuffix("/v1"))
    loopback.faults = {1: Fault.status(503, body="<html><body>Cache manager: the host is unreachable</body></html>")}
    error = failure()
    assert "the host is unreachable" in error.message
    assert "from http_proxy" in error.message


@pytest.mark.parametrize(
    ("environment", "url", "variable"),
    [
        ({"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}, AWAY, "http_proxy"),
        ({"HTTP_PROXY": "http://b:1"}, AWAY, "HTTP_PROXY"),
        ({"https_proxy": "http://a:1"}, AWAY, None),
        ({"https_proxy": "http://a:1"}, "https://teacher.invalid/v1", "https_proxy"),
        ({"ALL_PROXY": "http://a:1"}, "https://teacher.invalid/v1", "ALL_PROXY"),
        ({"ALL_PROXY": "http://a:1", "http_proxy": "http://b:1"}, AWAY, "http_proxy"),
        ({"http_proxy": "http://a:1", "no_proxy": "teacher.invalid"}, AWAY, None),
        ({"http_proxy": "http://a:1", "NO_PROXY": ".invalid"}, AWAY, None),
        ({"ALL_PROXY": "socks5://a:1", "NO_PROXY": "*"}, AWAY, None),
        ({"http_proxy": "http://a:1", "no_proxy": "other.example"}, AWAY, "http_proxy"),
        ({"http_proxy": "http://a:1"}, "http://localhost:8000/v1", None),
        ({"http_proxy": "http://a:1"}, "http://127.0.0.1:8000/v1", None),
        ({"http_proxy": ""}, AWAY, None),
    ],
    ids=range(13),
)
def test_the_environment_is_read_as_usual(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, variable: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_proxy(url)
    assert (found and found.variable) == variable
    OpenAITeacher(make_config(url))


@pytest.mark.parametrize("value", ["ftp://a:1", "http://", "::::", "http://a:99999999"])
def test_a_value_that_is_no_address_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(ConfigError, match="http_proxy sets the proxy"):
        OpenAITeacher(make_config(AWAY))


class OneAnswer:
    """A socket that gives one raw answer to whoever connects, and keeps what it heard."""

    heard = b""

    def __init__(self, raw: str) -> None:
        from threading import Thread

        self._raw = raw.encode()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self.heard = connection.recv(65536)
            connection.sendall(self._raw)

    def __enter__(self) -> str:
        self._thread.start()
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._thread.join(5)
