"""A teacher in this process with transformers: any causal language model, on the CPU or a GPU.

Answers are made in batches of ``concurrency``. Each request draws with its own random numbers, made
from its seed, by inverting the cumulative distribution over tokens in falling order of probability;
neither its padding nor its neighbours' draws matter. The batch still affects the rounding of matrix
products: it moves probabilities by about 1e-6 in float32 (1e-2 in bfloat16), so a token differs when
a draw falls that close to a border. On one machine, at one ``concurrency``, the same requests in the
same order give the same answers.
"""

from __future__ import annotations

import os
import random
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from stepsynth.errors import AssetError, ConfigError, did_you_mean
from stepsynth.runtime.imports import importing
from stepsynth.teachers.redaction import well_formed
from stepsynth.teachers.structured import asked
from stepsynth.types import Response, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import torch

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Request

__all__ = ["TransformersTeacher", "local_model"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_OPTIONS = ("device", "dtype", "revision")
# The number of likeliest tokens to look at first; they usually contain the nucleus.
_FEW = 512
_DTYPES = ("auto", "bfloat16", "float16", "float32")


class TransformersTeacher:
    """An `EngineTeacher` with the ``generate`` of transformers.

    Only safetensors weights are loaded, and code that comes with a model is never run. A model without
    a chat template gets the plain turns, with blank lines between them.

    Args:
        config: ``model`` is a folder or a hub id; ``concurrency`` is the most sequences in one
            batch; ``options`` may hold ``device`` (a torch device; the GPU if there is one),
            ``dtype`` (float32 on the CPU, bfloat16 on a GPU) and ``revision`` (on the hub).

    Raises:
        ConfigError: an option is unknown, or the model does not exist.
        AssetError: the model cannot be loaded.
    """

    def __init__(self, config: TeacherConfig) -> None:
        with importing():
            import torch

        options = _checked(config)
        self._device = str(options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = str(options.get("dtype") or ("float32" if self._device == "cpu" else "bfloat16"))
        self.tokenizer, self._network = _loaded(config, self._device, dtype, options.get("revision"))
        self._ends = _end_tokens(self._network, self.tokenizer)
        # The model's own settings (sampling, penalties) must not mix with the configured ones.
        with importing():
            from transformers import GenerationConfig

        self._network.generation_config = GenerationConfig(
            do_sample=False, pad_token_id=self.tokenizer.pad_token_id, eos_token_id=self._ends or None
        )
        self._window = int(getattr(self._network.config.get_text_config(), "max_position_embeddings", 0) or 2**20)
        self._special = sorted({token for token in self.tokenizer.all_special_tokens if len(token) > 1}, key=len, reverse=True)
        self._width = config.concurrency
        self._structured = config.structured == "json"

    @staticmethod
    def check(config: TeacherConfig) -> str:
        """Check the options and the model without loading weights; return one sentence.

        Raises:
            ConfigError: an option is unknown, or the model does not exist.
        """
        _checked(config)
        local_model(config.model)
        return f"{config.model} in this process (transformers), no key, no server"

    def generate_batch(self, requests: Iterable[Request], seeds: Iterable[int]) -> Iterator[tuple[int, Response]]:
        """Yield ``(position, response)``, batch after batch; see `EngineTeacher`.

        A prompt that fills the model's window is answered with an empty text and ``length``.
        """
        waiting = enumerate(zip(requests, seeds, strict=False))
        while batch := list(islice(waiting, self._width)):
            ready: list[tuple[int, Request, int, list[int]]] = []
            for position, (request, seed) in batch:
                tokens = self._tokens(request)
                if len(tokens) >= self._window:
                    yield position, Response("", "length", Usage(len(tokens), 0, 0.0))
                else:
                    ready.append((position, request, seed, tokens))
            if ready:
                yield from self._answers(ready)

    def _answers(self, ready: Sequence[tuple[int, Request, int, list[int]]]) -> Iterator[tuple[int, Response]]:
        with importing():
            import torch
            from transformers import LogitsProcessorList, StoppingCriteriaList

        longest = max(len(tokens) for *_, tokens in ready)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(tokens)) + tokens for *_, tokens in ready], device=self._device)
        mask = torch.tensor([[0] * (longest - len(tokens)) + [1] * len(tokens) for *_, tokens in ready], device=self._device)
        limits = [min(request.sampling.max_tokens, self._window - len(tokens)) for _, request, _, tokens in ready]
        draws = _Draws([request for _, request, _, _ in ready], [seed for _, _, seed, _ in ready], mask, longest)
        with torch.inference_mode():
            output = self._network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(limits),
                logits_processor=LogitsProcessorList([draws]),
                stopping_criteria=StoppingCriteriaList([_Limits(longest, limits, self._device)]),
            )
        written = output[:, longest:].tolist()
        for (position, _, _, tokens), row, limit in zip(ready, written, limits, strict=True):
            yield position, self._response(row, limit, len(tokens))

    def _response(self, row: list[int], limit: int, read: int) -> Response:
        end = next((place for place, token in enumerate(row[:limit]) if token in self._ends), None)
        kept = row[:limit] if end is None else row[:end]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True))
        return Response(text, "length" if end is None else "stop", Usage(read, len(kept) + (end is not None), 0.0))

    def _tokens(self, request: Request) -> list[int]:
        turns = [{"role": m.role, "content": m.content} for m in request.messages]
        turns = asked(request) if self._structured else turns
        history = [{"role": turn["role"], "content": self._inert(turn["content"])} for turn in turns]
        if self.tokenizer.chat_template is None:
            text = "\n\n".join(turn["content"] for turn in history) + "\n\n"
            return list(self.tokenizer(text)["input_ids"])
        text = self._templated(history)
        # The template has already written the special tokens.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, history: list[dict[str, str]]) -> str:
        import jinja2

        try:
            return str(self.tokenizer.apply_chat_template(history, tokenize=False, add_generation_prompt=True))
        except jinja2.TemplateError as error:
            said = " ".join(str(error).split())[:200]
        if history[0]["role"] == "system" and len(history) > 1:
            # Some templates have no system turn, so its text goes to the start of the first turn.
            first = {"role": history[1]["role"], "content": f"{history[0]['content']}\n\n{history[1]['content']}"}
            return self._templated([first, *history[2:]])
        raise ConfigError(f"the chat template of the teacher's model fails: {said}.", hint="Use another model.")

    def _inert(self, text: str) -> str:
        """Break up control tokens in a text: they would start another turn."""
        text = well_formed(text)
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


class _Draws:
    """A logits processor that leaves one token per row, the greedy or the drawn one.

    Args:
        requests: one per row.
        seeds: one per row.
        mask: 1 at the tokens of a row's prompt, of shape (rows, longest prompt).
        longest: number of tokens in the longest prompt.
    """

    def __init__(self, requests: Sequence[Request], seeds: Sequence[int], mask: torch.Tensor, longest: int) -> None:
        import torch

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, device=mask.device, dtype=torch.float32).unsqueeze(1)

        samplings = [request.sampling for request in requests]
        self._greedy = column([float(s.temperature == 0.0) for s in samplings]) > 0
        self._temperature = column([s.temperature or 1.0 for s in samplings])
        self._top_p = column([s.top_p for s in samplings])
        self._min_p = column([s.min_p for s in samplings])
        self._penalty = column([s.repetition_penalty for s in samplings])
        self._penalised = any(s.repetition_penalty != 1.0 for s in samplings)
        self._generators = [random.Random(seed) for seed in seeds]
        self._first = longest - mask.sum(1, keepdim=True)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, tokens): -inf except at the chosen token."""
        import torch

        scores = self._without_repetition(input_ids, scores.float()) if self._penalised else scores.float()
        scaled = scores / self._temperature
        total = torch.logsumexp(scaled, dim=-1, keepdim=True)
        drawn = torch.tensor([[rng.random()] for rng in self._generators], device=scores.device, dtype=scaled.dtype)
        top, order = torch.topk(scaled, min(_FEW, scaled.shape[1]))
        shares = torch.exp(top - total)
        tokens = order.gather(1, self._places(shares, drawn, slice(None)))
        # A full sort costs as much as a small model's step, and few rows need one.
        enough = (shares.sum(1) >= self._top_p[:, 0]) | (shares[:, -1] < self._min_p[:, 0] * shares[:, 0]) | self._greedy[:, 0]
        if top.shape[1] < scaled.shape[1] and (rows := (~enough).nonzero()[:, 0]).numel():
            ordered, order = torch.sort(scaled[rows], descending=True, stable=True)
            places = self._places(torch.exp(ordered - total[rows]), drawn[rows], rows)
            tokens[rows] = order.gather(1, places)
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens, 0.0)

    def _places(self, shares: torch.Tensor, drawn: torch.Tensor, rows: Any) -> torch.Tensor:
        """Return the ranks, by falling probability, of the drawn tokens, of shape (rows, 1)."""
        import torch

        below = torch.cumsum(shares, dim=-1) - shares
        # The likeliest token always stays: nothing comes before it, and it is as likely as itself.
        kept = (below < self._top_p[rows]) & (shares >= self._min_p[rows] * shares[:, :1])
        mass = torch.cumsum(torch.where(kept, shares, torch.zeros_like(shares)), dim=-1)
        place = (mass <= drawn * mass[:, -1:]).sum(-1, keepdim=True)
        place = torch.minimum(place, kept.sum(-1, keepdim=True) - 1)
        return torch.where(self._greedy[rows], torch.zeros_like(place), place)

    def _without_repetition(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Penalise the tokens of a row's prompt and answer, without its padding (Keskar et al. 2019)."""
        import torch

        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        own = input_ids.gather(1, self._first)
        seen = torch.where(places >= self._first, input_ids, own)
        found = scores.gather(1, seen)
        return scores.scatter(1, seen, torch.where(found < 0, found * self._penalty, found / self._penalty))


class _Limits:
    """A stopping criterion: each row ends at its own ``max_tokens``."""

    def __init__(self, longest: int, limits: Sequence[int], device: str) -> None:
        import torch

        self._longest = longest
        self._limits = torch.tensor(limits, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Return which rows are done."""
        return self._limits <= input_ids.shape[1] - self._longest


def local_model(model: str) -> str:
    """Return the location of a model for transformers or vLLM: an existing folder, or a hub id unchanged.

    Raises:
        ConfigError: it is neither.
    """
    from pathlib import Path

    folder = Path(os.path.expanduser(model))
    if folder.is_dir():
        return str(folder.resolve())
    if _HUB_ID.fullmatch(model) and not folder.exists():
        return model
    raise ConfigError(
        f"teacher.model {model!r} is neither a folder nor a hub id.",
        hint="Example: a folder with config.json, model.safetensors and the tokenizer, or HuggingFaceTB/SmolLM2-135M-Instruct.",
    )


def _checked(config: TeacherConfig) -> dict[str, Any]:
    for name in config.options:
        if name not in _OPTIONS:
            raise ConfigError(f"unknown key {name!r} in teacher.options.", hint=did_you_mean(name, _OPTIONS))
    dtype = config.options.get("dtype")
    if dtype is not None and dtype not in _DTYPES:
        raise ConfigError(f"teacher.options.dtype is {dtype!r}.", hint=did_you_mean(str(dtype), _DTYPES))
    return config.options


def _loaded(config: TeacherConfig, device: str, dtype: str, revision: str | None) -> tuple[Any, Any]:
    with importing():
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

    where = local_model(config.model)
    more = {"revision": revision} if revision else {}
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with importing():
            tokenizer = AutoTokenizer.from_pretrained(where, padding_side="left", trust_remote_code=False, **more)
            network = AutoModelForCausalLM.from_pretrained(
                where, use_safetensors=True, trust_remote_code=False, dtype=dtype, **more
            ).to(device)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and its dependencies' errors
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise AssetError(
            f"teacher.model {config.model!r} cannot be loaded: {said}.",
            hint="It must be a causal language model with safetensors weights: a folder or a hub id.",
        ) from error
    finally:
        if shown:
            logging.enable_progress_bar()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer, network.eval()


def _end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the model's and the tokenizer's."""
    found = [getattr(network.generation_config, "eos_token_id", None), tokenizer.eos_token_id]
    ends = [end for entry in found if entry is not None for end in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(int(end) for end in ends))
