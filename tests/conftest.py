"""No test reaches further than this machine, and a counting server for those that ask one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guard import children_guard as children_guard
from guard import network_guard as network_guard
from loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def own_answers() -> Iterator[None]:
    """Keep answers beside the runs, never in the file that the user's own runs share; processes that tests start, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPSYNTH_ANSWERS", "answers.db")
        yield


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    """A running `LoopbackServer`; its settings (faults, models, ...) may be set on it."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests that train: a tiny network is slower on several threads, above all on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
