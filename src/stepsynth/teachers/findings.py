"""What replies reveal about a server: where thoughts are, what it counts, its limits, its models. Sends nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from stepsynth.runtime.counting import counted
from stepsynth.teachers.learned import LearningTeacher
from stepsynth.teachers.reading import hidden_tokens
from stepsynth.teachers.redaction import parsed_json, without_keys
from stepsynth.teachers.retry_after import retry_after
from stepsynth.teachers.served import model_ids, serves
from stepsynth.teachers.settings import OTHER_NAME
from stepsynth.teachers.thoughts import without_thoughts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import TeacherConfig
    from stepsynth.teachers.replies import Reply
    from stepsynth.types import Response

__all__ = [
    "Finding",
    "State",
    "address_of",
    "finish_of",
    "is_prose",
    "limits_of",
    "listed",
    "one_line",
    "rate_headers",
    "sample_findings",
    "thought_tokens",
    "thoughts_of",
    "usage_of",
    "wait_of",
]

State = Literal["taken", "refused", "ignored", "none", "not tried", "seen"]
_MOST_CHARS = 200
_MOST_HEADERS = 24
_RATE = re.compile(r"rate-?limit|^retry-after|-retry-after|quota|^x-(?:tokens|requests)-(?:limit|remaining)", re.IGNORECASE)
_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thoughts")
# Names in model lists for the limits on the context and on an answer, in tokens.
_CONTEXT = ("context_length", "max_model_len", "context_window", "max_context_length", "inputTokenLimit", "max_input_tokens")
_OUTPUT = ("max_completion_tokens", "max_output_tokens", "outputTokenLimit", "max_tokens")
_INSIDE = ("top_provider", "meta", "limits", "capabilities")


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding about one setting.

    Attributes:
        state: ``taken`` (sent and not refused), ``refused``, ``ignored`` (observed to have no effect),
            ``none`` (the API does not have it), ``not tried``, or ``seen`` for anything that is not a setting.
        found: details, on one line.
    """

    state: State
    found: str = ""

    def __str__(self) -> str:
        """Return the state and the details."""
        words = one_line(self.found)
        if self.state == "seen":
            return words
        return f"{self.state}: {words}" if words else self.state


def one_line(text: str, most: int = 400) -> str:
    """Make a server's words safe to print: one line, no control characters, no keys."""
    kept = "".join(sign if sign.isprintable() else " " for sign in without_keys(text[: 4 * most]))
    line = " ".join(kept.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def address_of(url: str | None) -> str | None:
    """Return an address without user, query and fragment."""
    if not url:
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def thought_tokens(response: Response) -> int:
    """Return how many of an answer's tokens were thoughts, including those counted only in the total."""
    counts = _body(response).get("usage")
    counts = counts if isinstance(counts, dict) else {}
    read, written, both = (_count(counts.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    hidden = both - read - written if read and both else 0
    return max(hidden_tokens(response), hidden)


def thoughts_of(response: Response) -> Finding:
    """Find where an answer's thoughts are."""
    body, count = _body(response), thought_tokens(response)
    blocks, message = body.get("content"), _message(body)
    tokens = f" ({count:,} tokens)" if count else ""
    if isinstance(blocks, list) and any(_is_thought(block) for block in blocks):
        return Finding("seen", f"in separate blocks{tokens}")
    if field := next((name for name in _FIELDS if message.get(name)), ""):
        return Finding("seen", f"in the field {field!r}{tokens}")
    if isinstance(message.get("content"), list) and any(_is_thought(part) for part in message["content"]):
        return Finding("seen", f"in parts of the content{tokens}")
    if response.text and without_thoughts(response.text) != response.text:
        return Finding("seen", f"in the content, before the answer; they are removed{tokens}")
    return Finding("seen", f"hidden{tokens}" if count else "none seen")


def is_prose(text: str) -> bool:
    """Whether an answer, apart from its thoughts, holds no JSON."""
    words = without_thoughts(text).strip()
    return bool(words) and not {"{", "["} & set(words) and parsed_json(words) is None


def usage_of(response: Response) -> Finding:
    """Return an answer's tokens, and how many of them were thoughts."""
    usage, count = response.usage, thought_tokens(response)
    if not (usage.prompt_tokens or usage.completion_tokens):
        return Finding("none", "nothing is counted, so caps on tokens and dollars assume the worst case")
    more = f", {count:,} of them thoughts" if count else ""
    return Finding("seen", f"{usage.prompt_tokens:,} tokens read, {usage.completion_tokens:,} written{more}")


def finish_of(response: Response) -> Finding:
    """Return why an answer ended, in the server's word and ours."""
    body = _body(response)
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    own = first.get("finish_reason", body.get("stop_reason"))
    same = own is None or own == response.finish_reason
    return Finding("seen", response.finish_reason if same else f"{own!r}, read as {response.finish_reason}")


def rate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the rate-limit headers, unchanged."""
    found = [name for name in headers if _RATE.search(name)][:_MOST_HEADERS]
    return {one_line(name, 80): one_line(headers[name], _MOST_CHARS) for name in found}


def wait_of(reply: Reply) -> Finding:
    """Return how long a server asks to wait; it may say so with an answer, too."""
    seconds = retry_after(reply.headers, "" if reply.ok else reply.text)
    if seconds is None:
        return Finding("seen", "none given" if reply.ok else f"refused with HTTP {reply.status}, without a wait")
    when = "until a limit resets" if reply.ok else f"asked for with HTTP {reply.status}"
    return Finding("seen", f"{seconds:,.3g} s {when}")


def listed(replies: list[tuple[str, Reply]], model: str) -> Finding:
    """Return whether a model is in the list of models.

    Args:
        replies: path and reply of the requests other than for answers.
        model: the config's model.
    """
    if not replies:
        return Finding("not tried", "this API has no model list")
    path, reply = replies[-1]
    if reply.ok and not path.partition("?")[0].endswith("/models"):
        return Finding("seen", "there")
    ids = model_ids(reply)
    if ids is None:
        if reply.status in (401, 403):
            return Finding("seen", f"not shown: the key was refused (HTTP {reply.status})")
        how = "" if reply.ok else f" (HTTP {reply.status})"
        return Finding("seen", f"the server lists no models{how}")
    many = f"among {len(ids):,} models" if len(ids) > 1 else "the only model"
    others = f"not listed; the server lists {counted(len(ids), 'other model')}"
    return Finding("seen", f"there, {many}" if serves(model, ids) else others)


def limits_of(replies: list[tuple[str, Reply]], model: str) -> Finding | None:
    """Return the token limits in the list of models; ``None`` if it has none."""
    for _, reply in replies:
        value = parsed_json(reply.text) if reply.ok else None
        rows = value.get("data", [value]) if isinstance(value, dict) else value
        entries = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        entry = next((row for row in entries if serves(model, [str(row.get("id"))])), {})
        places = [entry, *(inner for name in _INSIDE if isinstance(inner := entry.get(name), dict))]
        found = {what: _first(places, names) for what, names in (("context", _CONTEXT), ("answer", _OUTPUT))}
        said = [f"{what} {count:,} tokens" for what, count in found.items() if count]
        if said:
            return Finding("seen", ", ".join(said))
    return None


def sample_findings(config: TeacherConfig, teacher: object, answers: Sequence[Response]) -> str:
    """Summarise in one line what a sample revealed about a server; empty if it accepts everything.

    Args:
        config: the teacher's config.
        teacher: the teacher that answered.
        answers: the answers of the sample.
    """
    learned = teacher.learned() if isinstance(teacher, LearningTeacher) else {}
    # A second name of a setting that is sent anyway.
    without = [name for name in cast("Sequence[str]", learned.get("without", ())) if name != OTHER_NAME]
    found = [f"takes no {' and no '.join(without)}"] if without else []
    if "limit" in learned:
        found.append(f"needs {learned['limit']}")
    if learned.get("folded"):
        found.append("takes no system turn")
    if learned.get("form") or learned.get("schema") is False:
        found.append("takes json_object but no schema" if learned.get("form") == 1 else "is asked for JSON in words")
    if learned.get("many") is False:
        found.append("gives one answer per request")
    thought, written = sum(thought_tokens(a) for a in answers), sum(a.usage.completion_tokens for a in answers)
    if thought:
        found.append(f"{thought:,} of {written:,} tokens were thoughts (teacher.reasoning_tokens: {config.reasoning_tokens:,})")
    return "; ".join(found)


def _first(places: list[dict[str, Any]], names: tuple[str, ...]) -> int:
    return next((count for place in places for name in names if (count := _count(place.get(name)))), 0)


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _body(response: Response) -> dict[str, Any]:
    value = parsed_json(response.raw) if response.raw else None
    return value if isinstance(value, dict) else {}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = first.get("message")
    return message if isinstance(message, dict) else {}


def _is_thought(part: object) -> bool:
    if not isinstance(part, dict):
        return False
    flagged = any(part.get(name) is True for name in ("thought", "reasoning", "thinking"))
    return flagged or any(word in str(part.get("type")) for word in ("think", "reasoning"))
