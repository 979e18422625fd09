"""A teacher made of hashes: free, instant, the same answers in every process.

    teacher = FakeTeacher(blemishes={}, faults={"transient": 0.2})
    response = await teacher.generate(request)

It answers in a small invented language. Each label has a `vocabulary` of made-up words; a text
mixes some of them with English filler words that all labels share, so a student has something
real to learn. Seed texts use only the first half of a vocabulary. `gold_text` uses all of it, so a
student trained on seeds makes mistakes on gold texts; extrapolated texts pick up the words of the
mistake in the prompt, which is why a round of extrapolation helps.

Questions use the words around their answer. Asked to decide itself, it counts words of each
label's vocabulary.

An answer depends only on the request's key, label, answer and stage, never on order or time.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from typing import TYPE_CHECKING

from stepsynth.config import TeacherConfig
from stepsynth.errors import ConfigError, TransientError, did_you_mean
from stepsynth.types import FinishReason, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stepsynth.types import Request, Span

__all__ = ["BLEMISHES", "FakeTeacher", "from_config", "gold_text", "vocabulary"]

BLEMISHES: Mapping[str, float] = {"quoted": 0.08, "wrapped": 0.08, "refused": 0.02, "empty": 0.02, "duplicate": 0.03}
FAULTS = ("transient", "refusal", "empty", "truncated")
REFUSAL = "I'm sorry, but I can't help with that request."

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kl", "pl", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_WORDS_PER_LABEL = 48
_FILLER = tuple(
    re.findall(
        r"\w+",
        """the a this that every some one another our their while after before during with without about around near
        over under whole early late evening morning story scene moment line page part piece people someone nobody
        again often rarely mostly almost really still even just only somewhere felt seemed looked turned came
        stayed kept made gave left long short quiet open small""",
    )
)
_REASONS = (
    "it keeps to {0} and {1}, {2}",
    "the {0} part feels {1} {2}",
    "there is {0} throughout, then {2} {1}",
    "one notices {0} {2} next to {1}",
)


def vocabulary(label: str) -> tuple[str, ...]:
    """Return the label's 48 invented words; the first half is common, the second rare.

    Args:
        label: any string; two labels practically never share words.
    """
    words: dict[str, None] = {}
    rng = _rng("vocabulary", label)
    while len(words) < _WORDS_PER_LABEL:
        words["".join(_pick(rng, _ONSETS) + _pick(rng, _VOWELS) for _ in range(3))] = None
    return tuple(words)


def gold_text(label: str, seed: int | str) -> str:
    """Return a text as if written by a person, with common and rare words of the label.

    Args:
        label: whose vocabulary to use.
        seed: distinguishes texts.
    """
    words = vocabulary(label)
    half = words[len(words) // 2 :] if _rng("gold", label, str(seed)).random() < 0.5 else words
    return _sentence(_rng("gold text", label, str(seed)), half)


class FakeTeacher:
    """A deterministic `AsyncTeacher` for tests, demonstrations and dry runs.

    Args:
        script: replaces the built-in answers; an exception that it returns is raised.
        faults: rates in [0, 1] of ``transient`` (a `TransientError`), ``refusal`` (withheld by
            the provider), ``empty`` and ``truncated`` (half the text, finish reason
            ``length``). Drawn per key and attempt: the second attempt may succeed, and a new
            process sees the same sequence.
        blemishes: rates of the flaws of ordinary answers, see `BLEMISHES`: ``quoted``,
            ``wrapped`` ("Here is a text: ..."), ``refused`` (in words), ``empty`` and
            ``duplicate``. Drawn per key.
        latency: seconds per answer, or a function of the request that returns them.
        identity: the `TeacherConfig.identity` that request keys are made with; by default that
            of a default config.

    Attributes:
        calls: the key of each attempted request, in order.

    Raises:
        ConfigError: a fault or blemish is unknown, or rates are negative or sum to more than 1.
    """

    def __init__(
        self,
        script: Callable[[Request], Response | Exception] | None = None,
        *,
        faults: Mapping[str, float] | None = None,
        blemishes: Mapping[str, float] = BLEMISHES,
        latency: float | Callable[[Request], float] = 0.0,
        identity: Mapping[str, object] | None = None,
    ) -> None:
        self._script = script
        self._faults = _checked("faults", faults or {}, FAULTS)
        self._blemishes = _checked("blemishes", blemishes, tuple(BLEMISHES))
        self._latency = latency
        self._identity = dict(identity or TeacherConfig(backend="fake").identity())
        self._attempts: dict[str, int] = {}
        self.calls: list[str] = []

    async def generate(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            TransientError: a ``transient`` fault.
            Exception: whatever the script returned as its answer.
        """
        key = request.key(self._identity)
        self.calls.append(key)
        attempt = self._attempts.get(key, 0)
        self._attempts[key] = attempt + 1
        await asyncio.sleep(self._latency(request) if callable(self._latency) else self._latency)
        fault = _draw(_rng("fault", key, str(attempt)), self._faults)
        if fault == "transient":
            raise TransientError(f"the fake teacher is overloaded (attempt {attempt + 1}).", hint="Ask again.")
        answer = self._script(request) if self._script is not None else self.answer(request)
        if isinstance(answer, Exception):
            raise answer
        return _faulty(answer, fault)

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def answer(self, request: Request) -> Response:
        """Return the built-in answer with blemishes, but without faults or script.

        ``stage`` decides the kind: ``round-0/rationales`` gives a reason, ``round-1/extrapolate``
        a text that uses words of the prompt, ``answer`` or ``reading`` a label or a piece of the passage,
        anything else a seed text; with an answer given, a question.
        """
        key = request.key(self._identity)
        text = _blemished(request, key, _draw(_rng("blemish", key), self._blemishes))
        words = text.split()
        finish: FinishReason = "stop"
        if len(words) > request.sampling.max_tokens:
            text, finish = " ".join(words[: request.sampling.max_tokens]), "length"
        read = sum(len(message.content.split()) for message in request.messages)
        return Response(text, finish, Usage(read, min(len(words), request.sampling.max_tokens)))


def from_config(config: TeacherConfig) -> FakeTeacher:
    """Return the teacher of ``backend: fake``."""
    return FakeTeacher(identity=config.identity())


def _check(config: TeacherConfig) -> str:
    return "fake: deterministic invented texts, for tests"


from_config.check = _check  # type: ignore[attr-defined]


def _blemished(request: Request, key: str, blemish: str) -> str:
    rng = _rng("style", key)
    if blemish == "duplicate":
        return _clean(request, f"duplicate of {request.label} {int(rng.random() * 2)}")
    text = _clean(request, key)
    if blemish == "quoted":
        return f'"{text}"' if rng.random() < 0.5 else f"\u201c{text}\u201d"
    if blemish == "wrapped":
        return f'Here is a text: "{text}"' if rng.random() < 0.5 else f"Sure! Here is a text:\n\n{text}"
    return {"refused": REFUSAL, "empty": ""}.get(blemish, text)


def _clean(request: Request, seed: str) -> str:
    purpose = request.stage.rpartition("/")[2]
    words = vocabulary(request.label)
    common = words[: len(words) // 2]
    rng = _rng(purpose, request.label, seed)
    if purpose == "rationales":
        return _pick(rng, _REASONS).format(_pick(rng, common[::2]), _pick(rng, common[1::2]), _pick(rng, _FILLER))
    if purpose in ("answer", "annotate", "reading"):
        return _decision(request.messages[-1].content)
    if request.answer is not None:
        return _question(rng, request.context, request.answer)
    if purpose != "extrapolate":
        return _sentence(rng, common)
    seen = {word.strip(".,;:!?\"'").lower() for message in request.messages for word in message.content.split()}
    echoed = [word for word in words if word in seen]
    return _sentence(rng, words, echoed)


def _decision(prompt: str) -> str:
    """Return the listed label with the most words in the text, or the passage's first word that the question lacks."""
    labels: list[str] = re.findall(r"^- ([^:\n]+)", prompt, re.MULTILINE)
    asked = prompt.rpartition("\n")[2]
    words = set(re.findall(r"\w+", asked.lower()))
    if labels:
        return max(labels, key=lambda label: len(words.intersection(vocabulary(label))))
    passage: list[str] = re.findall(r"\w+", prompt.rpartition("\n")[0].rpartition("Passage: ")[2])
    return next((word for word in passage if word.lower() not in words), "")


def _question(rng: random.Random, context: str, answer: Span) -> str:
    before, after = context[: answer.start].split(), context[answer.start + len(answer.text) :].split()
    around = [word.strip(".,;:!?\"'()") for word in (*before[-4:], *after[:4])]
    return f"{_pick(rng, ('What', 'Which', 'Who'))} {_pick(rng, _FILLER)} {' '.join(filter(None, around))}?"


def _sentence(rng: random.Random, words: Sequence[str], first: Sequence[str] = ()) -> str:
    """Mix four to six of ``words`` (half of them from ``first``, if any) with as much filler."""
    count = 4 + int(rng.random() * 3)
    chosen = [_pick(rng, first if first and i % 2 == 0 else words) for i in range(count)]
    filler = [_pick(rng, _FILLER) for _ in range(count + int(rng.random() * 3))]
    mixed = sorted((rng.random(), word) for word in chosen + filler)
    text = " ".join(word for _, word in mixed)
    return f"{text[0].upper()}{text[1:]}."


def _faulty(answer: Response, fault: str) -> Response:
    if fault == "refusal":
        return Response("", "refusal", answer.usage, answer.raw)
    if fault == "empty":
        return Response("", "stop", answer.usage, answer.raw)
    if fault == "truncated":
        words = answer.text.split()
        return Response(" ".join(words[: len(words) // 2]), "length", answer.usage, answer.raw)
    return answer


def _checked(what: str, rates: Mapping[str, float], known: tuple[str, ...]) -> dict[str, float]:
    for name, rate in rates.items():
        if name not in known:
            raise ConfigError(f"unknown entry {name!r} in {what}.", hint=did_you_mean(name, known))
        if not 0.0 <= rate <= 1.0:
            raise ConfigError(f"{what}[{name!r}] is {rate!r}.", hint="Give a rate from 0 to 1.")
    if sum(rates.values()) > 1.0 + 1e-9:
        raise ConfigError(f"the rates in {what} sum to {sum(rates.values()):g}.", hint="They must sum to at most 1.")
    # In a fixed order, whatever the caller's.
    return {name: rates[name] for name in known if name in rates}


def _draw(rng: random.Random, rates: Mapping[str, float]) -> str:
    """Return the name that a uniform draw falls on; empty for none."""
    left = rng.random()
    for name, rate in rates.items():
        left -= rate
        if left < 0:
            return name
    return ""


def _rng(*parts: str) -> random.Random:
    """Return a generator that is the same in every process; only its ``random()`` is used."""
    text = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]
