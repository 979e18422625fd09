"""Students for OpenVINO: converted straight from torch, in eight bits with NNCF's quantisation after training.

It quantises activations, too, and takes their ranges from rows that the student reads (docs/decisions.md has the figures of the
other ways). The float32 parts are computed in float32 on every processor.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsynth.exporting.engines import Feed, Opened, library

__all__ = ["FILE", "PACKAGES", "convert", "open", "quantise"]

FILE = "model.xml"
PACKAGES = {"fp32": (("openvino", ""),), "int8": (("openvino", ""), ("nncf", "int8"))}
# By default, processors with bfloat16 compute in it, and answers differ between machines.
_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}
_WHAT = "an OpenVINO student"


def convert(network: Any, feed: Mapping[str, Any], outputs: Sequence[str], file: Path) -> None:
    """Write the model; see `stepsynth.exporting.engines.Engine`."""
    openvino = library("openvino", _WHAT, "")
    with warnings.catch_warnings():
        # One for each shape that is traced.
        warnings.simplefilter("ignore")
        model = openvino.convert_model(network, example_input=tuple(feed.values()))
    for port, name in (*zip(model.inputs, feed, strict=True), *zip(model.outputs, outputs, strict=True)):
        port.get_tensor().set_names({name})
    openvino.save_model(model, str(file), compress_to_fp16=False)


def quantise(file: Path, out: Path, rows: Sequence[Feed]) -> None:
    """Write the model in eight bits; see `stepsynth.exporting.engines.Engine`."""
    openvino, nncf = library("openvino", _WHAT, ""), library("nncf", "an OpenVINO student in int8", "int8")
    model = openvino.Core().read_model(str(file))
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # It draws progress bars.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = nncf.quantize(
                model,
                nncf.Dataset([dict(row) for row in rows]),
                subset_size=len(rows),
                model_type=nncf.ModelType.TRANSFORMER,
            )
    finally:
        logger.setLevel(level)
    openvino.save_model(small, str(out), compress_to_fp16=False)


def open(file: Path) -> Opened:
    """Load the model; see `stepsynth.exporting.engines.Engine`."""
    openvino = library("openvino", _WHAT, "")
    compiled = openvino.Core().compile_model(str(file), "CPU", dict(_PRECISION))
    names = [port.get_any_name() for port in compiled.outputs]

    def run(feed: Feed) -> dict[str, Any]:
        # A request of its own: one cannot serve two threads.
        found = compiled.create_infer_request().infer(dict(feed), share_outputs=False)
        return {name: found[name] for name in names}

    return [port.get_any_name() for port in compiled.inputs], run
