"""Students as ONNX, for onnxruntime: exported by torch's own exporter, in eight bits with dynamic quantisation.

Weights are quantised per channel, activations while the model runs, so no rows are needed for it (docs/decisions.md has the
figures of the other ways).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsynth.exporting.engines import Feed, Opened, library

__all__ = ["FILE", "PACKAGES", "convert", "open", "quantise"]

FILE = "model.onnx"
_RUNTIME = (("onnxruntime", "onnx"),)
PACKAGES = {"fp32": (("onnx", "onnx"), *_RUNTIME), "int8": (("onnx", "onnx"), *_RUNTIME)}
# Known by onnxruntime since 2022, and by the tools around it.
_OPSET = 17
_WHAT = "an ONNX student"


def convert(network: Any, feed: Mapping[str, Any], outputs: Sequence[str], file: Path) -> None:
    """Write the model; see `stepsynth.exporting.engines.Engine`."""
    import torch

    axes: dict[str, dict[int, str]] = {name: {0: "rows", 1: "tokens"} for name in feed}
    # Logits of labels have a fixed second axis, those of tokens do not.
    axes |= {name: {0: "rows", 1: "tokens"} if name != "logits" else {0: "rows"} for name in outputs}
    with warnings.catch_warnings():
        # The newer exporter takes ten times as long for the same file; this one warns of it, and of each shape that it traces.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            tuple(feed.values()),
            str(file),
            input_names=list(feed),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


def quantise(file: Path, out: Path, rows: Sequence[Feed]) -> None:
    """Write the model in eight bits; see `stepsynth.exporting.engines.Engine`. The rows are not needed."""
    del rows
    onnx, tools = library("onnx", _WHAT, "onnx"), library("onnxruntime.quantization", _WHAT, "onnx")
    utils = library("onnxruntime.quantization.quant_utils", _WHAT, "onnx")
    model = onnx.load(str(file))
    # Otherwise it advises to optimise the model first, through the root logger. What runs the model does so anyway.
    utils.add_pre_process_metadata(model)
    tools.quantize_dynamic(model, str(out), weight_type=tools.QuantType.QInt8, per_channel=True)


def open(file: Path) -> Opened:
    """Load the model; see `stepsynth.exporting.engines.Engine`."""
    runtime = library("onnxruntime", _WHAT, "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> dict[str, Any]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return [taken.name for taken in session.get_inputs()], run
