"""What servers send, drawn from the grammars of the providers, mixed and damaged: bodies, headers and statuses.

Every thought holds `THOUGHT` and every error `ERROR`; `ANSWER` stands where the server writes the answer
proper. A row that holds one of the first two was never meant as one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

__all__ = ["ANSWER", "ERROR", "THOUGHT", "Scene", "scenes"]

THOUGHT, ERROR, ANSWER = "zzthought", "zzerror", "@@answer@@"
_PONDER = f"Hm, {THOUGHT}: the user wants one.\n\nSo {THOUGHT} I write"


@dataclass(frozen=True)
class Scene:
    """One reply.

    Attributes:
        status: of HTTP.
        body: `ANSWER` in it becomes the answer.
        headers: besides the length.
        damage: what happens to the encoded bytes, as name and share.
    """

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    damage: tuple[str, float] = ("none", 0.0)

    def encoded(self, answer: str) -> tuple[bytes, int]:
        """Return the bytes to send, and the length to promise."""
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        inner = answer if isinstance(self.body, str) else json.dumps(answer)[1:-1]
        text = text.replace(ANSWER, inner)
        kind, share = self.damage
        charsets = {"utf-16": "utf-16", "latin-1": "latin-1", "utf-32": "utf-32-be"}
        data = text.encode(charsets.get(kind, "utf-8"), "replace")
        at = int(len(data) * share)
        shapes = {
            "cut": data[:at], "doubled": data + data, "blank-lines": b"\n\n \n" + data, "bom": b"\xef\xbb\xbf" + data,
            "zero": data[:at] + b"\0" + data[at:], "stream": b"data: " + data + b"\n\ndata: [DONE]\n\n",
            "wrong-bytes": data + b"\xff\xfe",
            "broken-off": data[:at],
        }  # fmt: skip
        found = shapes.get(kind, data)
        return found, len(data) + 1 if kind == "broken-off" else len(found)


# thoughts -----------------------------------------------------------------------------------------

_TAGS = ("think", "thinking", "thought", "reasoning", "THINK", "Thinking", "scratchpad", "analysis", "ns:think", "reflection")
_IN_CONTENT = [
    *(f"<{tag}>{_PONDER}</{tag}>\n\n{ANSWER}" for tag in _TAGS),
    *(f"<{tag}>\n{_PONDER}\n</{tag}>{ANSWER}" for tag in _TAGS[:3]),
    f"{_PONDER}</think>\n{ANSWER}",
    f"<think></think>{ANSWER}",
    f"<think>\n\n</think>\n\n{ANSWER}",
    f"<think>{_PONDER}",
    f"<think>{_PONDER} <think> {_PONDER}</think>{ANSWER}",
    f"<think>{_PONDER}</think><think>{_PONDER}</think>{ANSWER}",
    f"<think id='1'>{_PONDER}</think >{ANSWER}",
    f"[THINK]{_PONDER}[/THINK]{ANSWER}",
    f"[THINK]{_PONDER}",
    f"◁think▷{_PONDER}◁/think▷{ANSWER}",
    f"&lt;think&gt;{_PONDER}&lt;/think&gt;{ANSWER}",
    f"<|begin_of_thought|>{_PONDER}<|end_of_thought|><|begin_of_solution|>{ANSWER}<|end_of_solution|>",
    f"<|START_THINKING|>{_PONDER}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    f"<|channel|>analysis<|message|>{_PONDER}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
    f"<|channel|>analysis<|message|>{_PONDER}",
    f"analysis{_PONDER}assistantfinal{ANSWER}",
    f"Here is my thought process: {_PONDER}\nHere is my response: {ANSWER}",
    f"<think>{_PONDER}</think><answer>{ANSWER}</answer>",
    f'<think>{_PONDER} {{"text": "{THOUGHT}"}}</think>{{"text": "{ANSWER}"}}',
]
_NOTHING: st.SearchStrategy[Any] = st.sampled_from([None, "", " ", "\n", [], {}, 0, False])
_WRONG = st.one_of(
    _NOTHING,
    st.sampled_from([True, 7, -1, 1.5, 10**30, 10**400, "word", ["a"], {"a": {"b": []}}, [[[]]], "\ud800"]),
    st.integers(-(2**70), 2**70),
)
_PARTS = st.sampled_from(
    [
        {"type": "text", "text": ANSWER},
        {"type": "output_text", "text": ANSWER},
        {"type": "thinking", "thinking": [{"type": "text", "text": _PONDER}]},
        {"type": "thinking", "thinking": _PONDER, "signature": "x"},
        {"type": "redacted_thinking", "data": THOUGHT},
        {"type": "reasoning", "text": _PONDER},
        {"type": "reasoning_content", "reasoning_content": {"text": _PONDER}},
        {"text": _PONDER, "thought": True},
        {"type": "refusal", "refusal": ERROR},
        {"type": "error", "error": {"message": ERROR}, "text": ERROR},
        {"type": "text", "text": f"<think>{_PONDER}</think>{ANSWER}"},
    ]
)
_CONTENT = st.one_of(
    st.just(ANSWER),
    st.just(ANSWER),
    st.sampled_from(_IN_CONTENT),
    st.lists(st.one_of(_PARTS, _WRONG), max_size=4),
    _PARTS,
    _WRONG,
)
_THOUGHT_FIELDS = st.dictionaries(
    st.sampled_from(["reasoning", "reasoning_content", "thinking", "reasoning_details", "thoughts", "provider_specific_fields"]),
    st.sampled_from([_PONDER, None, "", [{"type": "reasoning.text", "text": _PONDER}], {"content": _PONDER}]),
    max_size=2,
)


# errors -------------------------------------------------------------------------------------------

_SAYINGS = st.sampled_from(
    [
        "no", "Rate limit reached, try again in {n}s", "You exceeded your current quota", "Content Exists Risk",
        "Insufficient Balance",
        "Incorrect API key provided: sk-abc", "max_tokens is not supported, use max_completion_tokens",
        "temperature must be 1",
        "top_p is not supported", "seed: Extra inputs are not permitted", "system role not supported", "roles must alternate",
        "Only one completion choice is allowed (n)", "Model Not Exist", "overloaded", "Your plan is used up",
        "spend limit reached",
        "maximum context length is 4096 tokens", "Please retry in {n}ms", "requests per day (RPD): limit {n}",
        "Provider returned error",
        "response_format is not supported", "服务器繁忙", "limit: 0", "Retry after {n} seconds", "",
    ]
)  # fmt: skip
_CODES = st.one_of(
    st.sampled_from(
        [
            "insufficient_quota", "rate_limit_exceeded", "invalid_api_key", "content_filter", "invalid_request_error",
            "api_error",
            "overloaded_error", "authentication_error", "billing_error", "not_found_error", "server_error",
            "unsupported_parameter",
            "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNAUTHENTICATED", "model_not_found", "1301", "1113",
            "capacity_exceeded",
        ]
    ),
    st.sampled_from([400, 401, 402, 403, 404, 408, 413, 429, 498, 500, 502, 503, 529, "429", "502", 1004, 1026, 0, -1]),
    _WRONG,
)  # fmt: skip


@st.composite
def _errors(draw: st.DrawFn, depth: int = 0) -> Any:
    """Draw an error's body in one of the shapes that servers have for it."""
    said = f"{draw(_SAYINGS).replace('{n}', str(draw(st.integers(0, 10**6))))} {ERROR}"
    code = draw(_CODES)
    plain = {
        "message": said,
        "code": code,
        "type": draw(_CODES),
        "param": draw(st.sampled_from([None, "seed", "temperature", 3])),
    }
    shape = draw(st.integers(0, 15))
    if shape == 12 and depth < 3:
        raw = json.dumps(draw(_errors(depth + 1)))
        return {"error": {"message": "Provider returned error", "code": code, "metadata": {"raw": raw, "provider_name": "p"}}}
    if shape == 13 and depth < 3:
        return {"error": draw(_errors(depth + 1))}
    details = [{"@type": "RetryInfo", "retryDelay": draw(_WAITS)}, {"violations": [{"quotaId": "RequestsPerDay"}]}]
    flagged = {"reasons": ["hate"], "flagged_input": f"x {ERROR}"}
    return [
        {"error": plain}, [{"error": {**plain, "status": code, "details": details}}], {"detail": said},
        {"detail": [{"loc": ["body", "seed"], "msg": said, "input": ANSWER}]}, {"error": said}, said,
        f"<html><title>{said}</title></html>",
        {"type": "error", "error": {"type": code, "message": said}}, {"object": "error", "message": said,
        "type": code, "code": code},
        {"base_resp": {"status_code": code, "status_msg": said}}, {"errors": [plain, plain]}, {"error": {"code": code,
        "message": said, "metadata": flagged}},
        {"message": said}, {"error": plain, "choices": None}, {"error": {"headers": {"Retry-After": draw(_WAITS)},
        **plain}}, draw(_WRONG),
    ][shape]  # fmt: skip


# headers ------------------------------------------------------------------------------------------

_WAITS = st.one_of(
    st.sampled_from(
        [
            "5", "0", "-3", "0.25", "1m30s", "120ms", "2h", "PT41S", "41s", "nan", "inf", "1e9", "soon", "", "1" * 400,
            "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "2026-11-28T00:00:00Z", "1795824000",
            "1795824000123",
        ]
    ),
    st.integers(-5, 10**7).map(str),
)  # fmt: skip
_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Retry-After", "retry-after-ms", "x-ms-retry-after-ms", "x-ratelimit-reset-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset", "anthropic-ratelimit-requests-reset", "anthropic-ratelimit-requests-remaining",
            "RateLimit", "location",
        ]
    ),
    st.one_of(_WAITS, st.sampled_from(['"minute";r=0;t=30', "limit=100, remaining=0, reset=30", "http://127.0.0.1:9/"])),
    max_size=3,
)  # fmt: skip
_TYPES = st.sampled_from(
    ["application/json", "text/html", "text/event-stream", "application/json; charset=utf-16", "application/octet-stream", "x"]
)
_DAMAGE = st.tuples(
    st.sampled_from(
        [
            *["none"] * 12,
            "cut",
            "doubled",
            "blank-lines",
            "bom",
            "utf-16",
            "utf-32",
            "latin-1",
            "zero",
            "stream",
            "wrong-bytes",
            "broken-off",
        ]
    ),
    st.floats(0.0, 0.999),
)


# answers ------------------------------------------------------------------------------------------

_USAGES = st.one_of(
    st.fixed_dictionaries({"prompt_tokens": st.integers(1, 60), "completion_tokens": st.integers(1, 60)}),
    st.dictionaries(
        st.sampled_from(
            ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cache_read_input_tokens"]
        ),
        st.one_of(st.integers(0, 100), _WRONG),
    ),
    st.just({"completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}),
    _WRONG,
)
_FINISHES = st.one_of(
    st.sampled_from(
        ["stop", "stop", "stop", "eos", "eos_token", "end_turn", "STOP", "COMPLETE", "stop_sequence", "tool_calls", None]
    ),
    st.sampled_from(
        ["length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter", "SAFETY", "content_filter: PROHIBITED_CONTENT"]
    ),
    st.sampled_from(["error", "abort", "network_error", "insufficient_system_resource", "refusal", "sensitive", "pause_turn"]),
    _WRONG,
)


_FAILURES = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})


def _spoilt(found: dict[str, Any]) -> dict[str, Any]:
    """Return a body or a choice that failed with a text all the same: half of one, which must never be a row."""
    spoilt: dict[str, Any] = json.loads(json.dumps(found).replace(ANSWER, f"Half {ERROR}"))
    return spoilt


@st.composite
def _choices(draw: st.DrawFn) -> Any:
    """Draw a choice: an answer with or without thoughts, or one that failed."""
    if draw(st.integers(0, 9)) == 0:
        return draw(_WRONG)
    message = {"role": "assistant", "content": draw(_CONTENT), **draw(_THOUGHT_FIELDS)}
    if draw(st.integers(0, 7)) == 0:
        message["refusal"] = draw(st.sampled_from([None, ERROR, "", 5]))
    choice: dict[str, Any] = {"index": draw(st.sampled_from([0, 0, 1, 2, None, "x", -1])), "finish_reason": draw(_FINISHES)}
    choice |= draw(
        st.sampled_from([{"message": message}, {"message": message}, {"message": message}, {"text": ANSWER}, {"delta": message}])
    )
    if draw(st.integers(0, 5)) == 0:
        error = draw(_errors())
        choice["error"] = error.get("error", error) if isinstance(error, dict) else error
    failed = ERROR in json.dumps(choice.get("error")) or str(choice["finish_reason"]) in _FAILURES
    return _spoilt(choice) if failed else choice


@st.composite
def _completions(draw: st.DrawFn) -> Any:
    found = {
        "id": "x", "object": "chat.completion", "model": "m", "choices": draw(st.lists(_choices(), max_size=4)),
        "usage": draw(_USAGES)
    }  # fmt: skip
    if draw(st.integers(0, 7)) == 0:
        found |= draw(
            st.sampled_from([{"error": None}, {"error": {"message": "", "code": None}}, {"base_resp": {"status_code": 0}}])
        )
    if draw(st.integers(0, 7)) == 0:
        error = draw(_errors())
        found |= error if isinstance(error, dict) else {"error": error}
    if ERROR in json.dumps(found.get("error")):
        found = _spoilt(found)
    return _damaged(draw, found)


@st.composite
def _messages(draw: st.DrawFn) -> Any:
    stop = draw(st.one_of(st.sampled_from(["end_turn", "stop_sequence"]), _FINISHES))
    found = {"id": "x", "type": "message", "content": draw(st.lists(st.one_of(_PARTS, _WRONG), max_size=4)), "stop_reason": stop}
    found["usage"] = draw(_USAGES)
    if draw(st.integers(0, 7)) == 0:
        error = draw(_errors())
        found |= error if isinstance(error, dict) else {"error": error}
    if ERROR in json.dumps(found.get("error")):
        found = _spoilt(found)
    return _damaged(draw, found)


def _damaged(draw: st.DrawFn, found: dict[str, Any]) -> Any:
    """Draw what becomes of a body: mostly nothing, else a field of another type, or the whole in something else."""
    what = draw(st.integers(0, 11))
    if what == 0:
        lost = draw(st.sampled_from(sorted(found)))
        return {**_sound_without(lost, found), lost: draw(_WRONG)}
    if what == 1:
        return draw(
            st.sampled_from([[found], {"response": found}, {"data": [found]}, json.dumps(json.dumps(found)), [found, found]])
        )
    if what == 2:
        lost = draw(st.sampled_from(sorted(found)))
        return {key: value for key, value in _sound_without(lost, found).items() if key != lost}
    return found


def _sound_without(lost: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a body as it is without a field: where that was its error, nobody can tell that its texts are half ones."""
    if lost != "error":
        return found
    sound: dict[str, Any] = json.loads(json.dumps(found).replace(f"Half {ERROR}", ANSWER))
    return sound


_STATUSES = st.sampled_from(
    [
        *(400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 424, 425, 429, 429, 429, 431, 451, 498, 499),
        *(500, 501, 502, 503, 504, 507, 520, 524, 529, 599, 201, 202, 206, 204, 301, 302, 307, 600, 999),
    ]
)


@st.composite
def scenes(draw: st.DrawFn, *, anthropic: bool) -> Scene:
    """Draw one reply in the one format or the other."""
    answers = _messages() if anthropic else _completions()
    kind = draw(st.integers(0, 9))
    headers = {**draw(_HEADERS), "Content-Type": draw(_TYPES)}
    if kind < 5:
        return Scene(200, draw(answers), headers, draw(_DAMAGE))
    if kind < 6:
        return Scene(draw(_STATUSES), draw(answers), headers, draw(_DAMAGE))
    if kind < 7:
        return Scene(200, draw(_errors()), headers, draw(_DAMAGE))
    return Scene(draw(_STATUSES), draw(_errors()), headers, draw(_DAMAGE))
