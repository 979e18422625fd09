"""The embedded teacher: a GGUF model in this process, with OpenVINO GenAI.

Requests go into the engine's queue (continuous batching) as soon as it has room, so that the batch
stays full until the end, and not before the beginning that they share with another one has been read
(see `stepsynth.teachers.shared_prefixes`). The same requests in the same order get the same answers; the
engine samples for the whole batch, so an answer may differ among other requests.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsynth.errors import AssetError, ConfigError
from stepsynth.teachers.redaction import well_formed
from stepsynth.teachers.shared_prefixes import PrefixOrder
from stepsynth.teachers.structured import asked
from stepsynth.types import Message, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request

__all__ = ["OpenVinoTeacher", "chat_prompt", "engine_library", "engine_settings", "open_engine"]

# Chosen by measurement: see docs/decisions.md, "Precision of the embedded teacher".
PRECISION = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}


class OpenVinoTeacher:
    """An `EngineTeacher` over an OpenVINO GenAI continuous-batching pipeline.

    Args:
        config: ``model`` is an embedded model's name, a GGUF file (a local path, or
            ``owner/name:file.gguf`` on the hub), or a folder with an OpenVINO model; ``concurrency``
            is the most sequences in one batch.
        report: called with one sentence per slow step.

    Raises:
        AssetError: the model cannot be fetched or the engine cannot read it.
    """

    def __init__(self, config: TeacherConfig, *, report: Callable[[str], None] | None = None) -> None:
        from stepsynth.model_cache import resolve

        path = resolve(config.model, kind="teacher", report=report)
        self._pipeline = open_engine(path, config)
        self.tokenizer = self._pipeline.get_tokenizer()
        self._width = config.concurrency
        self._structured = config.structured == "json"

    @staticmethod
    def check(config: TeacherConfig, report: Callable[[str], None] | None = None) -> str:
        """Fetch the model if necessary, load nothing; return one sentence.

        Raises:
            ConfigError: the model does not exist.
            AssetError: it cannot be fetched.
        """
        from stepsynth.model_cache import needed_memory, resolve, shortage

        path = resolve(config.model, kind="teacher", report=report)
        found = f"{config.model} in this process (OpenVINO GenAI), no key, no server"
        # A warning, not an error: memory may be freed before it is needed, and the estimate is high.
        if short := shortage(needed_memory(Path(path))):
            if report is not None:
                report(f"teacher {config.model}: {short}; it may be slow or get killed. A smaller model needs less.")
            found += f"; {short}"
        return found

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        """Yield ``(position, response)`` as answers finish; see `EngineTeacher`."""
        waiting = enumerate(zip(requests, seeds, strict=False))
        held: dict[int, tuple[Any, Any]] = {}
        handles: dict[int, tuple[Any, int]] = {}
        order = PrefixOrder()
        while True:
            # As many again are read ahead, so that there is a choice of beginnings.
            for position, (request, seed) in islice(waiting, 2 * self._width - len(held) - len(handles)):
                held[position] = self._tokens(request), engine_settings(request, seed)
                order.add(position, held[position][0].data[0].tolist())
            while len(handles) < self._width and (chosen := order.take()) is not None:
                tokens, settings = held.pop(chosen)
                handles[chosen] = self._pipeline.add_request(chosen, tokens, settings), int(tokens.shape[1])
            if not handles:
                return
            self._pipeline.step()
            for position in order.reading:
                if handles[position][0].can_read() or _finished(handles[position][0]):
                    order.has_read(position)
            for position in [p for p, (handle, _) in handles.items() if _finished(handle)]:
                handle, prompt_tokens = handles.pop(position)
                yield position, self._response(handle, prompt_tokens)

    def _tokens(self, request: Request) -> Any:
        return self.tokenizer.encode(self._prompt(request), add_special_tokens=False).input_ids

    def _prompt(self, request: Request) -> str:
        messages = request.messages
        if self._structured:
            messages = tuple(Message(turn["role"], turn["content"]) for turn in asked(request))  # type: ignore[arg-type]
        return chat_prompt(self.tokenizer, messages)

    def _response(self, handle: Any, prompt_tokens: int) -> Response:
        output = handle.read_all()[0]
        tokens = list(output.generated_ids)
        reason = "length" if "LENGTH" in str(output.finish_reason) else "stop"
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Response(text, reason, Usage(prompt_tokens, len(tokens), 0.0))  # type: ignore[arg-type]


def engine_library() -> Any:
    """Import OpenVINO GenAI without its telemetry.

    ``import openvino`` reports to Google Analytics, with a client id stored in the user's home,
    unless its telemetry package cannot be imported.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino_genai

    return openvino_genai


def open_engine(path: Path | str, config: TeacherConfig) -> Any:
    """Return the teacher's continuous-batching pipeline.

    Raises:
        ConfigError: the engine is not installed.
        AssetError: it cannot read the model.
    """
    try:
        openvino_genai = engine_library()
    except ImportError:
        raise ConfigError(
            "backend 'openvino' needs openvino-genai.", hint="Install it with: pip install openvino-genai"
        ) from None
    from stepsynth.model_cache import KV_CACHE_GB

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = config.concurrency
    scheduler.max_num_batched_tokens = 512
    scheduler.cache_size = KV_CACHE_GB  # 18,000 tokens for a 1.5B model, more for smaller ones
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    try:
        return openvino_genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", dict(PRECISION))
    except (RuntimeError, LookupError, ValueError, MemoryError) as error:
        reason = " ".join((str(error) or type(error).__name__).split())[-200:]
        raise AssetError(f"the engine cannot read {str(path)!r}: {reason}", hint=_what_it_reads(Path(path))) from None


def _what_it_reads(path: Path) -> str:
    """Return a hint for a model that the engine refused."""
    from stepsynth.model_cache import ARCHITECTURES, gguf_architecture

    kind = gguf_architecture(path)
    if kind and kind not in ARCHITECTURES:
        return f"It is a {kind!r} model; the engine reads GGUF files of {', '.join(ARCHITECTURES)}."
    return "Give a GGUF file or an OpenVINO folder."


def chat_prompt(tokenizer: Any, messages: tuple[Message, ...]) -> str:
    """Return a chat as one text for the model to continue."""
    # A control token in a text would start another turn, so it is broken up.
    history = [{"role": m.role, "content": well_formed(m.content).replace("<|", "< |")} for m in messages]
    if not tokenizer.chat_template:
        # A base model.
        return "\n\n".join(turn["content"] for turn in history) + "\n\n"
    try:
        return str(tokenizer.apply_chat_template(history, add_generation_prompt=True))
    except RuntimeError as error:
        # The engine's own advice comes first.
        said = " ".join(str(error).split()).rpartition("error: ")[2][:200]
    raise ConfigError(f"the chat template of the teacher's model fails: {said}.", hint="Use another model.")


def engine_settings(request: Request, seed: int) -> Any:
    """Return a request's sampling as the engine's settings."""
    openvino_genai = engine_library()
    sampling = request.sampling
    config = openvino_genai.GenerationConfig()
    config.apply_chat_template = False
    config.max_new_tokens = sampling.max_tokens
    config.do_sample = sampling.temperature > 0
    if config.do_sample:
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.min_p = sampling.min_p
        config.rng_seed = seed
    config.repetition_penalty = sampling.repetition_penalty
    return config


def _finished(handle: Any) -> bool:
    return bool(handle.get_status() != engine_library().GenerationStatus.RUNNING)
