"""A teacher in this process with vLLM: ``LLM.chat`` with one ``SamplingParams`` per request.

vLLM is an optional dependency: ``pip install 'stepsynth[vllm]'``. Each request has its own seed; for
the rounding of batched arithmetic see vLLM's documentation, "Reproducibility". Its scheduler keeps the
batch full within a portion of requests; portions are several times the number that runs at once, so
that the tail of each costs little.
"""

from __future__ import annotations

import os
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepsynth.errors import AssetError, ConfigError
from stepsynth.teachers.local_transformers import local_model
from stepsynth.teachers.redaction import well_formed
from stepsynth.teachers.structured import asked, schema_of
from stepsynth.types import Response, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request

__all__ = ["VllmTeacher"]

# Requests per portion, in multiples of the number that runs at once.
_AHEAD = 4


class VllmTeacher:
    """An `EngineTeacher` with vLLM's offline engine.

    Args:
        config: ``model`` is a folder or a hub id; ``concurrency`` is the most sequences at once;
            ``options`` are passed to ``vllm.LLM`` unchanged (``dtype``, ``max_model_len``,
            ``tensor_parallel_size``, ``gpu_memory_utilization``, ``quantization``, ...).

    Raises:
        ConfigError: vLLM is not installed, or the model does not exist.
        AssetError: vLLM cannot load the model or does not accept an option.
    """

    def __init__(self, config: TeacherConfig) -> None:
        self._vllm = _vllm()
        settings = {"max_num_seqs": config.concurrency, "seed": 0, **config.options}
        try:
            self._engine = self._vllm.LLM(model=local_model(config.model), trust_remote_code=False, **settings)
        except ConfigError:
            raise
        except Exception as error:  # vLLM raises its own and its dependencies' errors
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise AssetError(
                f"vLLM cannot open {config.model!r}: {said}.", hint="Check teacher.model and teacher.options."
            ) from error
        self._portion = _AHEAD * config.concurrency
        self._structured = config.structured == "json"

    @staticmethod
    def check(config: TeacherConfig) -> str:
        """Check the package and the model without loading weights; return one sentence.

        Raises:
            ConfigError: vLLM is not installed, or the model does not exist.
        """
        _vllm()
        local_model(config.model)
        return f"{config.model} in this process (vLLM), no key, no server"

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        """Yield ``(position, response)``, portion after portion; see `EngineTeacher`."""
        waiting = enumerate(zip(requests, seeds, strict=False))
        while portion := list(islice(waiting, self._portion)):
            chats = [self._chat(request) for _, (request, _) in portion]
            settings = [self._sampling(request, seed) for _, (request, seed) in portion]
            outputs = self._engine.chat(chats, settings, use_tqdm=False)
            for (position, _), output in zip(portion, outputs, strict=True):
                yield position, _response(output)

    def _chat(self, request: Request) -> list[dict[str, str]]:
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        turns = asked(request) if self._structured else turns
        # A control token in a text would start another turn, so it is broken up.
        return [{"role": turn["role"], "content": well_formed(turn["content"]).replace("<|", "< |")} for turn in turns]

    def _sampling(self, request: Request, seed: int) -> Any:
        sampling = request.sampling
        return self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=sampling.max_tokens,
            seed=seed,
            **(self._structure(request) if self._structured else {}),
        )

    def _structure(self, request: Request) -> dict[str, Any]:
        """Return the setting that enforces the schema; its name differs between versions."""
        parameters = self._vllm.sampling_params
        if hasattr(parameters, "StructuredOutputsParams"):
            return {"structured_outputs": parameters.StructuredOutputsParams(json=schema_of(request))}
        return {"guided_decoding": parameters.GuidedDecodingParams(json=schema_of(request))}


def _response(output: Any) -> Response:
    answer = output.outputs[0]
    usage = Usage(len(output.prompt_token_ids or ()), len(answer.token_ids), 0.0)
    return Response(well_formed(str(answer.text)), "length" if answer.finish_reason == "length" else "stop", usage)


def _vllm() -> Any:
    # Otherwise vLLM reports usage statistics.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    vllm: Any
    try:
        vllm = import_module("vllm")
        import_module("vllm.sampling_params")
    except ImportError:
        vllm = None
    if vllm is None:
        raise ConfigError("backend 'vllm' needs the package vllm.", hint="Install it with: pip install 'stepsynth[vllm]'")
    return vllm
