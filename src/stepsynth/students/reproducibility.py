"""Restores the process state that training changes: random states, kernel choices, verbosity.

with quiet(), seeded(0):
    ...  # transformers prints nothing; random numbers start at seed 0

Library users have their own random generators and log level; both are restored afterwards.
These states belong to the process, so trainings in several threads take turns.
"""

from __future__ import annotations

import os
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stepsynth.runtime.imports import importing

__all__ = ["quiet", "seeded"]

_turn = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch and request deterministic kernels; restore all random states at the end.

    The Trainer also seeds ``random`` and NumPy, so those are restored, too.
    """
    import numpy

    with importing():
        import torch

    memory: Any = torch.utils.deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # With the devices listed, torch does not warn on machines with many.
    with _turn, torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        # The other interface, `use_deterministic_algorithms`, imports the compiler, which takes a second and is not used here.
        deterministic = torch.get_deterministic_debug_mode()
        fill, states = memory.fill_uninitialized_memory, (random.getstate(), numpy.random.get_state())
        torch.manual_seed(seed)
        torch.set_deterministic_debug_mode("warn")
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            memory.fill_uninitialized_memory = fill
            torch.set_deterministic_debug_mode(deterministic)
            random.setstate(states[0])
            numpy.random.set_state(states[1])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and notices (such as the one about a fresh head)."""
    with _turn:
        # Also in turn: a first import by several threads at once fails.
        with importing():
            from transformers.utils import logging as transformers_logging

        logging: Any = transformers_logging
        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()
