"""What a refusal is about: this prompt, the account's money, the key, the model, or none of them.

    classify(400, body)  ->  "withheld"   the prompt or its answer was held back by a moderation
                             "money"      nothing can be paid any more
                             "key"        the key is wrong
                             "model"      the model does not exist
                             ""           something else

A body is read at its telling fields only (`read_error`): servers echo whole requests, and what a row
says must not end a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from stepsynth.teachers.bodies import parsed_json

__all__ = ["ErrorBody", "Refusal", "classify", "daily_limit", "read_error"]

Refusal = Literal["withheld", "money", "key", "model", ""]

_MOST_CHARS = 16_384
_MOST_VALUES = 2_000
_CODE_CHARS = 80
# Fields that hold a server's own words, and fields that hold its codes.
_WORDS = frozenset(
    [
        "message",
        "msg",
        "detail",
        "details",
        "error",
        "errors",
        "error_msg",
        "error_message",
        "error_description",
        "errormessage",
        "title",
        "raw",
        "description",
    ]
)
_CODES = frozenset(
    [
        "code",
        "type",
        "status",
        "status_code",
        "error_code",
        "errorcode",
        "reason",
        "reasons",
        "kind",
        "blockreason",
        "block_reason",
        "quotaid",
        "innercode",
    ]
)
# Fields that may hold what the row says.
_ECHOES = frozenset(["input", "prompt", "messages", "request", "body", "flagged_input", "ctx", "content"])
_TAG = re.compile(r"<[^<>]{0,500}>")

# Codes of moderations: Azure, OpenAI, DashScope, Gemini, Volcengine, Bedrock and the gateways in front of them.
_WITHHELD_CODES = frozenset(
    [
        "content_filter",
        "content_policy_violation",
        "content_policy",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "moderation",
        "moderation_blocked",
        "moderation_error",
        "content_moderation",
        "content_blocked",
        "inappropriate_content",
        "prohibited_content",
        "unsafe_content",
        "safety_violation",
        "sensitive_words_detected",
        "sensitivecontentdetected",
        "inputtextsensitivecontentdetected",
        "outputtextsensitivecontentdetected",
        "guardrail_intervened",
        "content_filtered",
        "safety",
        "blocklist",
        "spii",
    ]
)
_WITHHELD_WORDS = re.compile(
    r"content exists risk|inappropriate content|content[ _-]?(?:management|filter\w*|moderation|safety)|new_sensitive"
    r"|flagged (?:as|by|for|in)|(?:was|were|been) flagged|violat\w+ (?:\w+ ){0,4}(?:polic|guideline)|requires moderation"
    r"|(?:blocked|rejected|refused|stopped) (?:\w+ ){0,6}(?:safety|moderation|content polic|filter)"
    r"|safety (?:system|filter|setting)"
    r"|responsible ai|prohibited content|sensitive (?:content|word|information)|敏感|不安全",
    re.IGNORECASE,
)
# A code of Zhipu's.
_ZHIPU_WITHHELD, _ZHIPU_ARREARS = "1301", "1113"

_MONEY_CODES = frozenset(
    [
        "insufficient_quota",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "insufficient_user_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "arrearage",
        "account_deactivated",
        "account_suspended",
        "credit_balance_too_low",
        "exceeded_current_quota_error",
        "accountoverdueerror",
        "payment_required",
        "allocationquota.freetieronly",
    ]
)
_MONEY_WORDS = re.compile(
    r"insufficient[ _-](?:balance|credit|fund|quota|account balance)|(?:credit )?balance is too low|can only afford"
    r"|exceeded your monthly (?:included )?credit|billing hard limit|out of credits|not enough (?:credit|balance|fund)"
    r"|prepayment credits?|prepaid (?:credits?|balance) (?:is|are) (?:depleted|used|exhausted)|overdue payment|in arrears?\b"
    r"|account (?:\S+ ){0,3}(?:is|has been|was) (?:not active|suspended|deactivated)|organi[sz]ation has been disabled"
    r"|free tier of the model has been exhausted|余额不足|欠费",
    re.IGNORECASE,
)
# OpenAI says it of an empty account, Gemini of any limit.
_QUOTA_WORDS = re.compile(r"exceeded your current quota", re.IGNORECASE)
_LIMIT = re.compile(r"\blimit: (\d{1,12})", re.IGNORECASE)

_KEY_CODES = frozenset(["invalid_api_key", "api_key_invalid", "authentication_error", "invalidapikey"])
_KEY_WORDS = re.compile(
    r"api[ _-]?key (?:is )?(?:not valid|invalid|not found|expired)|(?:invalid|incorrect|expired) api[ _-]?key", re.IGNORECASE
)
_MODEL_CODES = frozenset(["model_not_found", "model_not_exist", "unknown_model", "deploymentnotfound", "invalid_model"])
_MODEL_WORDS = re.compile(r"model not exist|is not a valid model|\bmodel\b.{0,120}\bdoes not exist", re.IGNORECASE)

_DAILY = re.compile(
    r"per[ _-]?day|\bdaily\b|\b(?:TPD|RPD)\b|free-models-per-day|PerDay|requests? (?:a|each|every) day", re.IGNORECASE
)
_MONTHLY = re.compile(r"per[ _-]?month|\bmonthly\b|PerMonth", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error's body says, whatever its shape.

    Attributes:
        codes: lower-case codes, types and reasons.
        words: all messages, in one line.
        value: the JSON value, ``None`` where there is none.
    """

    codes: frozenset[str]
    words: str
    value: object


def read_error(text: str) -> ErrorBody:
    """Return the codes and the words of an error: an object, an array of them, a string, a page, or JSON in a string."""
    value = parsed_json(text)
    if value is None:
        return ErrorBody(frozenset(), " ".join(_TAG.sub(" ", text[:_MOST_CHARS]).split()), None)
    codes: set[str] = set()
    words: list[str] = [value] if isinstance(value, str) else []
    pending: list[tuple[str, object]] = [("", value)]
    for _ in range(_MOST_VALUES):
        if not pending:
            break
        name, found = pending.pop()
        if isinstance(found, dict):
            # Popped from the end: the first field is read first.
            named = [(str(key).lower().replace("-", "_"), member) for key, member in reversed(found.items())]
            pending += [(key, member) for key, member in named if key not in _ECHOES]
            if isinstance(found.get("flagged_input"), str):
                codes.add("moderation")
        elif isinstance(found, list):
            pending += [(name, member) for member in reversed(found[:_MOST_VALUES])]
        elif isinstance(found, str | int) and not isinstance(found, bool):
            _read_value(name, str(found), codes, words, pending)
    return ErrorBody(frozenset(codes), " ".join(" ".join(words)[:_MOST_CHARS].split()), value)


def _read_value(name: str, said: str, codes: set[str], words: list[str], pending: list[tuple[str, object]]) -> None:
    if name in _CODES and len(said) <= _CODE_CHARS:
        codes.add(said.lower())
    if name in _WORDS and said:
        # A gateway hands on the error of the server behind it as a string.
        inner = parsed_json(said) if said.lstrip()[:1] in ("{", "[") else None
        if isinstance(inner, dict | list):
            pending.append((name, inner))
        else:
            words.append(said)


def classify(status: int, text: str, *, wait: float | None = None) -> Refusal:
    """Return what a refusal is about.

    Args:
        status: of HTTP, not a 2xx.
        text: the body.
        wait: seconds that the server asks to wait; a limit that ends by waiting is no lack of money.
    """
    if status == 402:
        return "money"
    if status == 451:
        return "withheld"
    error = read_error(text)
    if status < 500 and _is_money(error, wait):
        return "money"
    if status == 401 or (status == 400 and (error.codes & _KEY_CODES or _KEY_WORDS.search(error.words))):
        return "key"
    if status not in {404, 407, 408, 429} and _is_withheld(status, error):
        return "withheld"
    if status in {400, 404, 422} and (error.codes & _MODEL_CODES or _MODEL_WORDS.search(error.words)):
        return "model"
    return ""


def _is_money(error: ErrorBody, wait: float | None) -> bool:
    if error.codes & _MONEY_CODES or _ZHIPU_ARREARS in error.codes or _MONEY_WORDS.search(error.words):
        return True
    if not _QUOTA_WORDS.search(error.words):
        return False
    limits = _LIMIT.findall(error.words)
    if limits and not any(int(limit) for limit in limits):
        # Gemini of a model that the plan does not include: no wait helps.
        return True
    return not wait and "resource_exhausted" not in error.codes


def _is_withheld(status: int, error: ErrorBody) -> bool:
    if error.codes & _WITHHELD_CODES or any(code.startswith("content_filter") for code in error.codes):
        return True
    if status in {400, 403} and _ZHIPU_WITHHELD in error.codes:
        return True
    return status < 500 and bool(_WITHHELD_WORDS.search(error.words))


def daily_limit(text: str) -> str:
    """Return ``daily limit`` or ``monthly limit`` where a body names one, else an empty text."""
    error = read_error(text)
    said = " ".join((error.words, *error.codes))
    return "daily limit" if _DAILY.search(said) else "monthly limit" if _MONTHLY.search(said) else ""
