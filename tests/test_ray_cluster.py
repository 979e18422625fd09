"""The connection to a Ray cluster: made once, left by the last, and without a trace in this process. With a stand-in for Ray."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from stepsynth.errors import ConfigError, RunError
from stepsynth.runtime import ray_cluster
from stepsynth.runtime.ray_cluster import address_of, join, leave, other_versions


class Ray(ModuleType):
    """What of the module is used."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.running = False
        self.inits: list[dict[str, Any]] = []
        self.refuses: list[Exception] = []
        self.printing = print
        self._private = SimpleNamespace(worker=SimpleNamespace(print_to_stdstream=self.printing))

    def is_initialized(self) -> bool:
        return self.running

    def init(self, **settings: Any) -> None:
        self.inits.append(settings)
        if self.refuses:
            raise self.refuses.pop(0)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        self.running = True

    def shutdown(self) -> None:
        self.running = False


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ray]:
    found = Ray()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "_members", 0)
    monkeypatch.setattr(ray_cluster, "_ours", False)
    before = signal.getsignal(signal.SIGTERM)
    yield found
    signal.signal(signal.SIGTERM, before)


def test_the_last_one_to_leave_ends_the_connection(fake: Ray) -> None:
    join("", print)
    join("", print)
    assert len(fake.inits) == 1
    leave()
    assert fake.running
    leave()
    assert not fake.running
    join("", print)
    assert len(fake.inits) == 2
    leave()


def test_a_connection_of_the_program_itself_stays(fake: Ray) -> None:
    fake.running = True
    join("", print)
    leave()
    assert fake.running
    assert not fake.inits
    assert fake._private.worker.print_to_stdstream is fake.printing


def test_rays_handler_of_sigterm_and_its_lines_do_not_stay(fake: Ray) -> None:
    """A stop is ours to handle, and what nodes report of lost workers would be in the output of ``--json``."""
    before = signal.getsignal(signal.SIGTERM)
    join("", print)
    assert signal.getsignal(signal.SIGTERM) == before
    assert fake._private.worker.print_to_stdstream is not fake.printing
    leave()
    assert fake._private.worker.print_to_stdstream is fake.printing


def test_a_local_cluster_is_started_only_if_none_was_named(fake: Ray) -> None:
    said: list[str] = []
    fake.refuses = [ConnectionError("none")]
    join("", said.append)
    leave()
    assert said == ["Ray: no cluster runs here, so a local one is started."]
    assert [settings.get("address") for settings in fake.inits] == ["auto", None]
    fake.refuses = [ConnectionError("a\n b")]
    with pytest.raises(RunError, match="cannot use the Ray cluster at 'auto': ConnectionError: a b"):
        join("auto", said.append)


def test_an_address_of_rays_client_is_refused(fake: Ray) -> None:
    with pytest.raises(ConfigError, match="'ray://head:10001' is an address of Ray's client"):
        join(address_of("ray://head:10001"), print)
    assert not fake.inits


def test_other_versions_are_named_beside_ours() -> None:
    said = other_versions("an engine", "host", {"torch": "1"}, {"torch": "2", "numpy": "3"}).message
    assert said == "an engine (on host) has other versions: torch 1 (here 2), numpy none (here 3)."
    assert (
        "an engine (on host) cannot do stepsynth's jobs: no module"
        in other_versions("an engine", "host", "no module", {}).message
    )
