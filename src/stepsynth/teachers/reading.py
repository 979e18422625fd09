"""Read an answer's text after the journal: remove thoughts, parse the JSON of ``structured: json``, count thought tokens."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from stepsynth.teachers.redaction import parsed_json
from stepsynth.teachers.structured import text_of, texts_of
from stepsynth.teachers.thoughts import without_thoughts
from stepsynth.teachers.turn_tokens import without_first_token, without_tokens

if TYPE_CHECKING:
    from stepsynth.config import TeacherConfig
    from stepsynth.types import Response

__all__ = ["answer_probability", "answer_text", "answer_texts", "hidden_tokens", "is_cut_off_in_thought"]

_FENCE = re.compile(r'\s{0,20}(?:```[\w-]{0,20}\s{0,20})?(?:\{|\[\s{0,20}["{])')
# Servers' names for thought tokens: in `completion_tokens_details`, `output_tokens_details`, or beside the others.
_COUNTED = re.compile(
    r'"(?:reasoning_tokens|thinking_tokens|thoughts_token_count|reasoning_token_count)"\s{0,5}:\s{0,5}(\d{1,9})\b'
)

# Rounded log-probabilities may be a hair above that of a certain token.
_CERTAIN = 1e-3
_COUNT_WORDS = ("reasoning_token", "thinking_tokens", "thoughts_token")


def answer_text(config: TeacherConfig, response: Response) -> str:
    """Return an answer's text without the thoughts before it and the chat template's tokens around it.

    Args:
        config: tells whether the answer is JSON.
        response: the answer as it came.
    """
    text = response.text
    if config.structured != "json":
        return without_tokens(without_thoughts(without_first_token(text)))
    return without_tokens(without_thoughts(text_of(_outside_thoughts(text))))


def answer_texts(config: TeacherConfig, response: Response) -> list[str] | None:
    """Return the texts of an answer that is a JSON list of them, each as by `answer_text`; ``None`` if it is none.

    Args:
        config: tells whether the answer is JSON.
        response: the answer as it came.
    """
    found = texts_of(_outside_thoughts(response.text)) if config.structured == "json" else None
    return None if found is None else [without_tokens(without_thoughts(text)) for text in found]


def _outside_thoughts(text: str) -> str:
    # An object at the start is the answer, whatever its text holds; JSON among thoughts is not.
    text = without_first_token(text)
    return text if _FENCE.match(text) else without_thoughts(text)


def answer_probability(response: Response) -> float | None:
    """Return the probability that the model gave its answer, as a server's log-probabilities tell it.

    It is the product over the answer's tokens. Thoughts are tokens, too: for models that think aloud it says little.

    Args:
        response: the answer as it came.

    Returns:
        From 0 to 1; ``None`` if the answer came without log-probabilities.
    """
    if "logprob" not in response.raw:
        return None
    body = parsed_json(response.raw)
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    told = choice.get("logprobs")
    tokens = told.get("content") if isinstance(told, dict) else None
    members = tokens if isinstance(tokens, list) else []
    values = [token.get("logprob") if isinstance(token, dict) else None for token in members]
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    # Some servers send a hair above 0 for a certain token; others, numbers that are no logarithms.
    total = sum(numbers)
    if not numbers or len(numbers) < len(values) or math.isnan(total) or max(numbers) > _CERTAIN:
        return None
    return min(math.exp(total), 1.0)


def hidden_tokens(response: Response) -> int:
    """Return how many of an answer's tokens were thoughts, by the server's count or else by their share of the text."""
    written = response.usage.completion_tokens
    told = any(word in response.raw for word in _COUNT_WORDS)
    counted = [int(count) for count in _COUNTED.findall(response.raw)] if told else []
    if counted:
        return min(max(counted), written) if written else max(counted)
    rest = without_thoughts(response.text)
    if rest == response.text or not response.text:
        return 0
    return round(written * (1 - len(rest) / len(response.text)))


def is_cut_off_in_thought(config: TeacherConfig, response: Response) -> bool:
    """Whether an answer reached its limit before any text."""
    return response.finish_reason == "length" and not answer_text(config, response).strip()
