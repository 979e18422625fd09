"""Read the body of a chat completion: its answers, and failures in spite of a status of 200.

Some gateways answer 200 and report inside that the model behind them failed. Its code decides whether
another attempt makes sense; such a body is never kept as an answer. `is_failure` finds those that an
older version kept.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from stepsynth.errors import PermanentError, TransientError
from stepsynth.teachers.error_body import read_error, server_message
from stepsynth.teachers.event_stream import is_event_stream, whole_body
from stepsynth.teachers.failures import error_in_place_of
from stepsynth.teachers.redaction import is_page, parsed_json, token_count, well_formed
from stepsynth.teachers.refusals import UNKNOWN_STATUS, classify, status_of
from stepsynth.teachers.replies import TRANSIENT, Reply
from stepsynth.types import FinishReason, Response, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepsynth.errors import TeacherError

__all__ = ["end_of", "failure_in", "is_failure", "plain_error", "read_choices", "read_completion"]

# Finish reasons in lower case, without what follows a colon. One that is in no list and matches none of `_LIKE` is a stop.
_CUT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit", "max_length"}
)
_REFUSED = frozenset(
    {
        *("content_filter", "content_filtered", "refusal", "safety", "prohibited_content", "recitation", "blocklist", "spii"),
        *("sensitive", "guardrail_intervened", "image_safety", "language", "moderation"),
    }
)
_FAILED = frozenset(
    {
        *("error", "abort", "aborted", "cancelled", "canceled", "network_error", "timeout", "failed"),
        *("insufficient_system_resource", "engine_overloaded", "overloaded"),
    }
)
# Also failures, but not for answers that were already kept.
_UNSAID = frozenset(
    {
        # The server itself does not know why the text ended, or the model wrote something other than text.
        *("finish_reason_unspecified", "unspecified", "other", "unknown", "finish_reason_other", "finish_reason_unknown"),
        *("malformed_function_call", "malformed_response", "unexpected_tool_call", "no_finish_reason"),
    }
)
# Patterns for other names, in this order: ``server_error``, ``max_total_tokens``, ``content_policy``.
_LIKE = (
    (
        "failed",
        re.compile(
            r"error|fail|time_?d?_?out|interrupt|disconnect|abort|cancel|exception|crash|preempt|incomplete"
            r"|rate_?limit|throttl|overload|unavailable|connection"
        ),
    ),
    ("length", re.compile(r"length|limit|(?<!stop_)tokens|max_?tok|truncat|budget")),
    ("refusal", re.compile(r"blocked|blocking|^block$|polic|safety|unsafe|filter|moderat|prohibit|guardrail|violat|refus")),
)
# Where gateways put an error code, and the values that are not failures.
_CODE_NAMES = ("code", "error_code", "errcode", "errorCode")
_NO_FAILURE = frozenset({"", "0", "200", "ok", "success", "true", "false", "none"})
# Only bodies with one of these words are parsed, because most answers are sound.
_SUSPECT = re.compile(r'"error"|"base_resp"|"(?:abort(?:ed)?|cancell?ed|network_error|failed|insufficient_system_resource)"')


def read_completion(
    raw: str, most: int = 1, refused: Callable[[Reply], TeacherError] | None = None, asked: str | None = None
) -> list[Response]:
    """Read the answers, at least one, from a completion's body.

    Args:
        raw: the body.
        most: how many choices to read.
        refused: makes the error for a failure inside a 200.
        asked: as for `read_choices`.

    Raises:
        TransientError: it holds no answer, or a temporary failure.
        PermanentError: it holds a permanent failure.
    """
    found = read_choices(raw, most, asked)
    answers = [answer for answer in found if isinstance(answer, Response)]
    if answers:
        return answers
    reply = next((entry for entry in found if isinstance(entry, Reply)), None)
    if reply is not None:
        error = (refused or plain_error)(reply)
        if isinstance(error, TransientError) and error.kind == "unavailable" and _was_written(raw):
            # Part of an answer came, and may be billed.
            error.kind = "damaged"
        raise error
    said = server_message(raw)
    what = "no choices" if isinstance(parsed_json(raw), dict) else "no valid JSON"
    if is_event_stream(raw):
        what = "an event stream that was not asked for and is incomplete"
    hint = "If it persists, look at the server's log."
    raise TransientError(f"the answer holds {what}: {said!r}.", hint=hint, kind="damaged")


def read_choices(raw: str, most: int = 1, asked: str | None = None) -> list[Response | Reply]:
    """Return each choice of a body: an answer, or the failure that it reports, as an HTTP reply.

    Args:
        raw: the body.
        most: how many choices to read.
        asked: the request's words; if given, a text that is only a gateway's error and does not occur in
            them is a failure.
    """
    value: object = whole_body(raw) if (streamed := is_event_stream(raw)) else parsed_json(raw)
    if isinstance(value, list):
        # Gemini's errors are arrays, whatever their status.
        value = next((member for member in value if isinstance(member, dict)), {})
    body = value if isinstance(value, dict) else {}
    if (failure := failure_in(body)) is not None:
        return [_failed(failure, _usage(body.get("usage")), raw)]
    everything = _ordered(body.get("choices"))
    choices = everything[:most]
    usages = _split(_of_all(_usage(body.get("usage")), everything, body.get("timings")), max(len(choices), 1))
    # Each row keeps only its own choice: the whole body in every row would grow quadratically.
    raws = [raw] if len(choices) == 1 and not streamed else [json.dumps({**body, "choices": [choice]}) for choice in choices]
    found = [_read(choice, usage, text) for choice, usage, text in zip(choices, usages, raws, strict=False)]
    return found if asked is None else [_without_errors(entry, asked) for entry in found]


def _without_errors(entry: Response | Reply, asked: str) -> Response | Reply:
    """Return an answer, or a failure if its whole text is one."""
    said = error_in_place_of(entry.text, asked) if isinstance(entry, Response) and entry.finish_reason == "stop" else ""
    return Reply(UNKNOWN_STATUS, said) if said else entry


def is_failure(response: Response) -> bool:
    """Whether a kept answer's body is a failure: an older version kept such bodies, and pages, as answers.

    Args:
        response: the kept answer.
    """
    raw = response.raw
    if response.finish_reason == "refusal":
        # A page is from something in between, but for a 451 ("Unavailable For Legal Reasons"), whose status decides.
        return is_page(raw) and "legal reasons" not in raw.lower()
    if not raw or not (_SUSPECT.search(raw) or not response.text.strip()):
        return False
    value = parsed_json(raw)
    if not isinstance(value, dict) or not ("choices" in value or "error" in value):
        return False
    if any(_ended(choice) == "failed" and _finish(choice) not in _FAILED for choice in _ordered(value.get("choices"))):
        return False
    found = read_choices(raw)
    return bool(found) and isinstance(found[0], Reply)


def plain_error(reply: Reply) -> TeacherError:
    """Return the error for a failure inside a 200, without knowledge of config and server."""
    what = f"the answer holds an error instead of a text ({reply.status}: {server_message(reply.text)!r})."
    if reply.status in TRANSIENT:
        return TransientError(what, hint="If it persists, look at the server's status.", kind="unavailable")
    return PermanentError(what, hint="Change teacher.model or the key.", kind="refused")


def failure_in(body: dict[str, Any]) -> Reply | None:
    """Return the failure that a body as a whole reports, if any."""
    error, state = body.get("error"), body.get("base_resp")
    if isinstance(error, dict) and not any(error.values()):
        # Some gateways send an empty error with every answer.
        error = None
    if error and not isinstance(error, bool):
        return _as_reply({"error": error})
    # MiniMax's form; 0 is success.
    code = state.get("status_code") if isinstance(state, dict) else 0
    if code and isinstance(code, int):
        return _as_reply({"base_resp": state})
    return None if body.get("choices") or body.get("content") else _told_by_a_code(body)


def _told_by_a_code(body: dict[str, Any]) -> Reply | None:
    """Return the failure in a gateway's ``{"code": 1001, "msg": ...}`` or ``{"success": false}``, if any."""
    code = next((body[name] for name in _CODE_NAMES if isinstance(body.get(name), int | str)), None)
    failed = code is not None and str(code).strip().lower() not in _NO_FAILURE
    if not (failed or body.get("success") is False):
        return None
    said = server_message(json.dumps(body))
    # A number alone would be read as a status.
    shown = f"code {code}" if failed else "success is false"
    return _as_reply({**body, "message": f"{shown}: {said}" if said else shown, **dict.fromkeys(("msg", "detail"))})


def _as_reply(body: dict[str, Any]) -> Reply:
    text = json.dumps(body)
    return Reply(status_of(read_error(text)), text)


def _ordered(choices: object) -> list[dict[str, Any]]:
    found = [choice for choice in choices if _is_choice(choice)] if isinstance(choices, list) else []
    if len(found) < 2:
        return found
    places = [choice.get("index") for choice in found]
    if all(isinstance(place, int) for place in places) and len(set(places)) == len(places):
        found.sort(key=lambda choice: int(choice["index"]))
    return found


def _is_choice(choice: object) -> bool:
    if not isinstance(choice, dict):
        return False
    has_text = isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str)
    return has_text or bool(choice.get("error")) or _ended(choice) in {"failed", "refusal"}


def _finish(choice: dict[str, Any]) -> str:
    return _plain(choice.get("finish_reason"))


def _plain(reason: object) -> str:
    return _plain_name(reason[:200]) if isinstance(reason, str) else ""


@lru_cache(maxsize=256)
def _plain_name(reason: str) -> str:
    return re.sub(r"[\s-]+", "_", reason.partition(":")[0].strip().lower())


def _ended(choice: dict[str, Any]) -> str:
    return end_of(choice.get("finish_reason"))


def end_of(reason: object) -> str:
    """Map a server's finish reason to ``failed``, ``length``, ``refusal`` or ``stop``.

    Args:
        reason: the value that the server sent.
    """
    return _end_of(_plain(reason))


@lru_cache(maxsize=256)
def _end_of(finish: str) -> str:
    for end, names in (("failed", _FAILED | _UNSAID), ("refusal", _REFUSED), ("length", _CUT)):
        if finish in names:
            return end
    return next((end for end, pattern in _LIKE if pattern.search(finish)), "stop")


def _read(choice: dict[str, Any], usage: Usage, raw: str) -> Response | Reply:
    message = choice.get("message")
    message = message if isinstance(message, dict) else {"content": choice.get("text")}
    refusal, finish, end = message.get("refusal"), _finish(choice), _ended(choice)
    text = _content(message.get("content") or refusal)
    if error := choice.get("error"):
        return _failed(_as_reply({"error": error}), usage, raw)
    if end == "failed":
        return _as_reply({"message": f"finish_reason {finish!r}"})
    if not (finish or text or any(message.get(name) for name in ("reasoning", "reasoning_content", "tool_calls"))):
        return _as_reply({"message": "an empty answer that does not say why it ended"})
    ended: FinishReason = "refusal" if refusal or end == "refusal" else "length" if end == "length" else "stop"
    return Response(text, ended, usage, raw)


def _failed(failure: Reply, usage: Usage, raw: str) -> Response | Reply:
    """Return the failure, or a refusal if moderation is the cause: asking again would give the same."""
    return Response("", "refusal", usage, raw) if classify(failure.status, failure.text) == "withheld" else failure


def _content(content: object) -> str:
    """Return the answer's text: a string, or the text parts of a list; thoughts are parts of another type."""
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    return well_formed(content) if isinstance(content, str) else ""


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or any(part.get(name) is True for name in ("thought", "reasoning", "thinking")):
        return ""
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return text if part.get("type", "text") in {"text", "output_text"} and isinstance(text, str) else ""


def _usage(value: object) -> Usage:
    counts = value if isinstance(value, dict) else {}
    read, written, both = (token_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    # Some servers count hidden thoughts only in the total.
    return Usage(read, max(written, both - read) if read else written, _dollars(counts))


def _dollars(counts: dict[str, Any]) -> float | None:
    """Return the cost that a gateway reports with the tokens, as OpenRouter does; ``None`` if it reports none.

    Zero counts only from a gateway that tells more about it: elsewhere it may stand for an unknown cost. With the user's own
    key at the provider (``is_byok``), the provider's bill comes on top of the gateway's.
    """
    cost, details = counts.get("cost"), counts.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, dict) else None
    parts: list[Any] = [cost, upstream] if counts.get("is_byok") is True else [cost]
    if not all(isinstance(part, int | float) and not isinstance(part, bool) and 0 <= part < math.inf for part in parts):
        return None
    total = float(sum(parts))
    return total if total or isinstance(details, dict) or "is_byok" in counts else None


def _of_all(usage: Usage, choices: list[dict[str, Any]], timings: object) -> Usage:
    """Return the usage of all choices; llama.cpp counts what it wrote for the first one only.

    Its timings are those of the first choice, too. Elsewhere, fewer tokens than words cannot be the count of all,
    since hardly a token holds more than a word. What the others took is estimated by their length: a cap on
    tokens must count them.
    """
    texts, written = [_text_of(choice) for choice in choices], usage.completion_tokens
    if len(texts) < 2 or not texts[0]:
        return usage
    of_one = isinstance(timings, dict) and timings.get("predicted_n") == written
    if not of_one and written >= sum(len(text.split()) for text in texts):
        return usage
    return Usage(usage.prompt_tokens, math.ceil(written * sum(map(len, texts)) / len(texts[0])), usage.cost_usd)


def _text_of(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    return _content(message.get("content") if isinstance(message, dict) else choice.get("text"))


def _split(usage: Usage, parts: int) -> list[Usage]:
    """Split the usage into equal shares; the first ones take the remainder."""
    if parts == 1:
        return [usage]
    read, written = divmod(usage.prompt_tokens, parts), divmod(usage.completion_tokens, parts)
    cost = None if usage.cost_usd is None else usage.cost_usd / parts
    return [Usage(read[0] + (i < read[1]), written[0] + (i < written[1]), cost) for i in range(parts)]


def _was_written(raw: str) -> bool:
    value = parsed_json(raw)
    body = value if isinstance(value, dict) else {}
    choices = _ordered(body.get("choices"))
    texts = (choice.get("message") for choice in choices)
    return _usage(body.get("usage")).completion_tokens > 0 or any(isinstance(m, dict) and m.get("content") for m in texts)
