"""Under which conditions tests train, and how far what was learned lies from what is asked of it.

`tests/sweep.py` runs the tests that train again with other threads, seeds and instruction sets, which it
sets in the environment. What a test asks of a trained student goes through `Margin`, so that the
sweep can tell how near to failing it came.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["LOG_VARIABLE", "SEED", "SEED_VARIABLE", "THREADS", "THREADS_VARIABLE", "Margin", "import_late", "training_threads"]

LOG_VARIABLE = "STEPSYNTH_SWEEP_LOG"
SEED_VARIABLE = "STEPSYNTH_SWEEP_SEED"
THREADS_VARIABLE = "STEPSYNTH_SWEEP_THREADS"

# Of training, and of the random weights that tiny models begin with.
SEED = int(os.environ.get(SEED_VARIABLE, "0"))
# A tiny network is slower on several threads, above all on a busy machine.
THREADS = int(os.environ.get(THREADS_VARIABLE, "1"))


_IMPORTED_LATE = (
    *("accelerate", "jinja2.sandbox", "matplotlib.backends.backend_svg", "matplotlib.figure", "scipy.stats"),
    *("sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection", "transformers.models.bert.modeling_bert"),
    *("stepsynth.report", "stepsynth.students.classifier", "stepsynth.students.curve", "stepsynth.students.probe"),
)


def import_late() -> None:
    """Import what a run imports late, so that it can be put out of the garbage collector's sight before a test trains."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer  # noqa: F401

    for name in _IMPORTED_LATE:
        importlib.import_module(name)


@contextmanager
def training_threads() -> Iterator[None]:
    """Train with `THREADS` threads, whatever torch would take."""
    import torch

    import_late()
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Margin:
    """Thresholds on what a training came to.

    Args:
        test: the test's name, for the sweep's table.
    """

    test: str

    def above(self, value: float, threshold: float, what: str = "") -> None:
        """Fail unless ``value`` is above ``threshold``; ``what`` tells several of one test apart."""
        self._record(value, threshold, what, "above")
        assert value > threshold, f"{what or self.test}: {value} is not above {threshold}"

    def below(self, value: float, threshold: float, what: str = "") -> None:
        """Fail unless ``value`` is below ``threshold``."""
        self._record(value, threshold, what, "below")
        assert value < threshold, f"{what or self.test}: {value} is not below {threshold}"

    def _record(self, value: float, threshold: float, what: str, side: str) -> None:
        if LOG_VARIABLE not in os.environ:
            return
        entry = {"test": self.test, "what": what, "side": side, "threshold": threshold, "value": float(value)}
        with open(os.environ[LOG_VARIABLE], "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
