"""Engines that run an exported student: one module each, with the same functions.

An engine's module has ``FILE``, ``PACKAGES`` (by precision what it needs, and the extra that has it) and the functions of
`Engine`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.runtime.imports import importing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.generic]

__all__ = ["ENGINES", "PRECISIONS", "Engine", "Feed", "Opened", "Run", "choose", "library"]

ENGINES = {"onnx": "stepsynth.exporting.onnx", "openvino": "stepsynth.exporting.openvino"}
PRECISIONS = ("fp32", "int8")
# The inputs of one batch, by name.
Feed: TypeAlias = "Mapping[str, Array]"
# Returns the outputs of one batch, by name.
Run: TypeAlias = "Callable[[Feed], dict[str, Array]]"
# The names of the inputs, and the function that computes.
Opened: TypeAlias = "tuple[Sequence[str], Run]"


class Engine(Protocol):
    """What an engine's module offers."""

    FILE: str
    PACKAGES: Mapping[str, tuple[tuple[str, str], ...]]

    def convert(self, network: Any, feed: Mapping[str, Any], outputs: Sequence[str], file: Path) -> None:
        """Write a torch network in float32, for any number of rows and tokens.

        Args:
            network: takes the values of ``feed`` and returns one tensor per output.
            feed: an example batch of two rows, as tensors.
            outputs: the names of its outputs.
            file: where to.
        """

    def quantise(self, file: Path, out: Path, rows: Sequence[Feed]) -> None:
        """Write a float32 model in eight bits.

        Args:
            file: the model.
            out: where to.
            rows: batches of one row, as examples of what the model reads.
        """

    def open(self, file: Path) -> Opened:
        """Load a model."""


def choose(form: object, precision: object) -> Engine:
    """Return the engine of a form; its packages are there.

    Raises:
        ConfigError: the form or the precision is unknown, or a package is missing.
    """
    for value, known, what in ((form, ENGINES, "form of a student"), (precision, PRECISIONS, "precision of a student")):
        if not isinstance(value, str) or value not in known:
            raise ConfigError(f"the {what} is {value!r}.", hint=did_you_mean(str(value), known))
    engine = cast("Engine", import_module(ENGINES[str(form)]))
    for package, extra in engine.PACKAGES[str(precision)]:
        library(package, f"a student as {form} in {precision}", extra)
    return engine


def library(package: str, what: str, extra: str) -> Any:
    """Import an optional package without OpenVINO's telemetry, which is sent unless it cannot be imported.

    Args:
        package: the package.
        what: what needs it.
        extra: the extra of stepsynth that has it; empty: the package itself is to be installed.

    Raises:
        ConfigError: it is not installed.
    """
    import warnings

    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with importing(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(package)
    except ImportError as error:
        name = (error.name or package).partition(".")[0]
        wanted = f"'stepsynth[{extra}]'" if extra else package
        raise ConfigError(f"{what} needs the package {name}.", hint=f"Install it with: pip install {wanted}") from None
