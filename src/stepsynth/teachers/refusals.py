"""Classify refusals: they are about the prompt, the account's money, the key, the model, or the load.

    classify(400, body)  ->  "withheld"   moderation blocked the prompt or its answer
                             "money"      the account is out of credit
                             "key"        the key is wrong
                             "model"      the model does not exist
                             "busy"       too much load at the moment, whatever the status
                             ""           something else

Failures inside a 200 are treated alike: `status_of` returns the status that they stand for.
"""

from __future__ import annotations

import re
from typing import Literal

from stepsynth.teachers.error_body import ErrorBody, read_error
from stepsynth.teachers.redaction import is_page

__all__ = ["UNKNOWN_STATUS", "Refusal", "classify", "daily_limit", "may_be_the_model", "status_of"]

Refusal = Literal["withheld", "money", "key", "model", "busy", ""]

# Moderation codes of Azure, OpenAI, DashScope, Gemini, Volcengine, Bedrock and the gateways in front of them.
_WITHHELD_CODES = frozenset(
    {
        *("content_filter", "content_policy_violation", "content_policy", "responsibleaipolicyviolation"),
        *("data_inspection_failed", "datainspectionfailed", "moderation", "moderation_blocked"),
        *("moderation_error", "content_moderation", "content_blocked", "inappropriate_content"),
        *("prohibited_content", "unsafe_content", "safety_violation", "sensitive_words_detected"),
        *("sensitivecontentdetected", "inputtextsensitivecontentdetected"),
        *("outputtextsensitivecontentdetected", "guardrail_intervened", "content_filtered", "safety"),
        *("blocklist", "spii"),
    }
)
_WITHHELD_WORDS = re.compile(
    r"content exists risk|inappropriate content|content[ _-]?(?:management|filter\w*|moderation|safety)|new_sensitive"
    r"|flagged (?:as|by|for|in)|(?:was|were|been) flagged|violat\w+ (?:\w+ ){0,4}(?:polic|guideline)|requires moderation"
    r"|(?:blocked|rejected|refused|stopped) (?:\w+ ){0,6}(?:safety|moderation|content polic|usage polic|filter|guardrail)"
    r"|(?:text|content|prompt|input|output|request)\b.{0,30}risk[ -]control|potentially (?:harmful|unsafe|dangerous)"
    r"|harmful (?:content|material)|(?:content|prompt|input|output|text)\b.{0,40}\bhigh[ _-]risk|^\W*high[ _-]risk\W*$"
    r"|(?:内容|输入|输出|文本|提示词?).{0,8}违规|违规(?:内容|信息|文本)"
    r"|safety (?:system|filter|setting)"
    r"|responsible ai|prohibited[ _-]content|sensitive (?:content|word|information)|敏感|不安全",
    re.IGNORECASE,
)
# Codes of Zhipu.
_ZHIPU_WITHHELD, _ZHIPU_ARREARS = "1301", "1113"

_MONEY_CODES = frozenset(
    {
        *("insufficient_quota", "insufficient_balance", "insufficient_credits", "insufficient_funds"),
        *("insufficient_user_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"),
        *("arrearage", "account_deactivated", "account_suspended", "credit_balance_too_low"),
        *("exceeded_current_quota_error", "accountoverdueerror", "payment_required"),
        *(
            "allocationquota.freetieronly",
            "blocked_api_access",
        ),
    }
)
_MONEY_WORDS = re.compile(
    r"insufficient[ _-](?:balance|credit|fund|quota|account balance)|(?:credit )?balance is too low|can only afford"
    r"|exceeded your monthly (?:included )?credit|billing hard limit|out of credits|not enough (?:credit|balance|fund)"
    r"|prepayment credits?|prepaid (?:credits?|balance) (?:is|are) (?:depleted|used|exhausted)|overdue payment|in arrears?\b"
    r"|account (?:\S+ ){0,3}(?:is|has been|was) (?:not active|suspended|deactivated)|organi[sz]ation has been disabled"
    r"|free tier of the model has been exhausted|spend(?:ing)? limit .{0,60}(?:reached|exceeded)|regain access on"
    r"|reached your (?:specified )?(?:api )?(?:usage|spend(?:ing)?) limit|余额不足|欠费",
    re.IGNORECASE,
)
# Mistral sends a 401 when a plan is used up.
_PLAN_WORDS = re.compile(r"\b(?:plan|subscription(?! key)|quota|credits?|billing|trial)\b", re.IGNORECASE)
# OpenAI says this for an empty account, Gemini for any limit.
_QUOTA_WORDS = re.compile(r"exceeded your current quota", re.IGNORECASE)
_LIMIT = re.compile(r"\blimit: (\d{1,12})", re.IGNORECASE)

_KEY_CODES = frozenset(["invalid_api_key", "api_key_invalid", "authentication_error", "invalidapikey"])
_KEY_WORDS = re.compile(
    r"api[ _-]?key (?:is )?(?:not valid|invalid|not found|expired)|(?:invalid|incorrect|expired) (?:api[ _-]?|subscription )key",
    re.IGNORECASE,
)
_MODEL_CODES = frozenset(["model_not_found", "model_not_exist", "unknown_model", "deploymentnotfound", "invalid_model"])
_MODEL_WORDS = re.compile(r"model not exist|is not a valid model|\bmodel\b.{0,120}\bdoes not exist", re.IGNORECASE)

_BUSY_CODES = frozenset(
    {
        *("rate_limit_exceeded", "rate_limit_error", "rate_limited", "ratelimitexceeded", "resource_exhausted", "throttling"),
        *("capacity_exceeded", "overloaded_error", "overloaded", "engine_overloaded", "server_overloaded", "throttlingexception"),
    }
)
# Groq's status for "no capacity"; for others it is an invalid token, and they say so.
_NO_CAPACITY = 498
# The status that a failure code stands for.
_STATUS = {
    **dict.fromkeys(_MONEY_CODES, 402), **dict.fromkeys(_KEY_CODES, 401), **dict.fromkeys(_MODEL_CODES, 404),
    **dict.fromkeys(_WITHHELD_CODES, 400), **dict.fromkeys(_BUSY_CODES, 429), "overloaded_error": 529, "insufficient_quota": 429,
    "unauthenticated": 401, "unauthorized": 401, "permission_error": 403, "permission_denied": 403, "forbidden": 403,
    "not_found": 404, "not_found_error": 404, "invalid_request_error": 400, "invalid_argument": 400, "bad_request": 400,
    "request_too_large": 413, "timeout_error": 504,
    **dict.fromkeys(
        ("unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_parameter", "invalid_value"), 400
    ),
}  # fmt: skip
UNKNOWN_STATUS = 502
# Words for a refused parameter without a code; `settings` finds out which one it is.
_FORM_WORDS = re.compile(
    r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|invalid) (?:request )?(?:parameter|argument|field|value|keyword)"
    r"|(?:parameter|argument|field|value)\b.{0,80}\b(?:not|n't) (?:be )?(?:support|allowed|permitted|accepted)"
    r"|does(?: not|n't) support .{0,40}\b(?:parameter|argument|temperature|top_p|seed|response_format)\b"
    r"|extra inputs are not permitted|only the default",
    re.IGNORECASE,
)
_RATE_WORDS = re.compile(r"rate[ _-]?limit|too many requests", re.IGNORECASE)

# Not certain enough to end a run: "not available" may be temporary. The list of models decides.
_MAYBE_MODEL = re.compile(
    r"\bmodel\b.{0,160}(?:not found|(?:not|n't) exist|unknown|is invalid|not available|no access|not have access)"
    r"|(?:unknown|invalid|no such|not a valid|unsupported) model|requested model.{0,160}not supported"
    r"|model_not_(?:found|supported)",
    re.IGNORECASE,
)

_DAILY = re.compile(
    r"per[ _-]?day|\bdaily\b|\b(?:TPD|RPD)\b|free-models-per-day|PerDay|requests? (?:a|each|every) day", re.IGNORECASE
)
_MONTHLY = re.compile(r"per[ _-]?month|\bmonthly\b|PerMonth", re.IGNORECASE)


def classify(status: int, text: str, *, wait: float | None = None) -> Refusal:
    """Classify a refusal.

    Args:
        status: the HTTP status, not a 2xx.
        text: the body.
        wait: seconds that the server asks to wait; a limit that ends by waiting is not a lack of money.
    """
    error = read_error(text)
    if status == 402 or (status < 500 and _is_money(status, error, wait)):
        return "money"
    if status == 451:
        return "withheld"
    if is_page(text):
        # A page is from something in between, such as a company's web filter, whatever words it uses.
        return "key" if status == 401 else ""
    if status == 401 or (status in {400, 498} and (_KEY_CODES & error.codes.keys() or _KEY_WORDS.search(error.words))):
        return "key"
    if status not in {404, 407, 408, 429} and _is_withheld(status, error):
        return "withheld"
    if status in {400, 404, 422} and (_MODEL_CODES & error.codes.keys() or _MODEL_WORDS.search(error.words)):
        return "model"
    if status == _NO_CAPACITY or (400 <= status < 500 and _BUSY_CODES & error.codes.keys()):
        return "busy"
    return ""


def status_of(error: ErrorBody) -> int:
    """Return the status that a failure inside a 200 stands for, by its number, else its codes or its words.

    Args:
        error: the failure.
    """
    for code in error.codes:
        number = int(code) if code.isascii() and code.isdigit() else 0
        if 400 <= number < 600:
            return number
        if (known := _STATUS.get(code)) is not None:
            return known
    if _MONEY_WORDS.search(error.words):
        return 402
    if _KEY_WORDS.search(error.words):
        return 401
    if _WITHHELD_WORDS.search(error.words) or _FORM_WORDS.search(error.words):
        return 400
    return 429 if _RATE_WORDS.search(error.words) else UNKNOWN_STATUS


def _is_money(status: int, error: ErrorBody, wait: float | None) -> bool:
    codes, words = error.codes.keys(), error.words
    if _MONEY_CODES & codes or _ZHIPU_ARREARS in codes or _MONEY_WORDS.search(words):
        return True
    if status == 401:
        return bool(_PLAN_WORDS.search(words)) and not (_KEY_WORDS.search(words) or _KEY_CODES & codes)
    if not _QUOTA_WORDS.search(words):
        return False
    limits = _LIMIT.findall(words)
    if limits and not any(int(limit) for limit in limits):
        # Gemini says this for a model that the plan does not include; waiting does not help.
        return True
    return not wait and "resource_exhausted" not in codes


def _is_withheld(status: int, error: ErrorBody) -> bool:
    if any(code in _WITHHELD_CODES or code.startswith("content_filter") for code in error.codes):
        return True
    if status in {400, 403} and _ZHIPU_WITHHELD in error.codes:
        return True
    return status < 500 and bool(_WITHHELD_WORDS.search(error.words))


def daily_limit(text: str) -> str:
    """Return ``daily limit`` or ``monthly limit`` if a body names one, else an empty text."""
    error = read_error(text)
    said = " ".join((error.words, *error.codes))
    return "daily limit" if _DAILY.search(said) else "monthly limit" if _MONTHLY.search(said) else ""


def may_be_the_model(status: int, text: str) -> bool:
    """Whether a refusal may mean that the model does not exist; some servers use a 400 for that.

    Args:
        status: the HTTP status.
        text: the body.
    """
    return status in {404, 405} or (status in {400, 422} and _MAYBE_MODEL.search(read_error(text).words) is not None)
