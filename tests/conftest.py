"""No test reaches further than this machine, and a counting server for those that ask one."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

# What is computed here is too small for several threads, which wait for one another busily; the sweep sets other numbers.
# Read by torch, and by numpy's and scipy's linear algebra, when they are imported, and by processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and they test what it does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from conditions import Margin, training_threads
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


_modules_frozen = 0


@pytest.fixture(autouse=True)
def little_to_collect() -> None:
    """Take what libraries made when they were imported out of the garbage collector's sight.

    transformers collects after every training, and looks through a million objects for it: most of the time of a tiny one.
    """
    global _modules_frozen
    if len(sys.modules) > _modules_frozen + 100:
        gc.collect()
        gc.freeze()
        _modules_frozen = len(sys.modules)


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    """A running `LoopbackServer`; its settings (faults, models, ...) may be set on it."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests that train: one thread, unless the sweep asks for another number."""
    with training_threads():
        yield


@pytest.fixture
def margin(request: pytest.FixtureRequest) -> Margin:
    """What a test asks of a trained student goes through this, and the test is marked ``learns``."""
    if request.node.get_closest_marker("learns") is None:
        pytest.fail("a test that uses margin needs the marker learns, or the sweep does not run it")
    return Margin(request.node.nodeid)
