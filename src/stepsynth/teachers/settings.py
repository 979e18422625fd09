"""Sampling settings that a server may refuse without harm, and the error for those that it may not.

A setting may be left out if that does not change the answer (1.0 is the APIs' default), or if the user
did not set it: reasons are sampled at a lower temperature than rows, and temperature and top_p have
our defaults. The user's own settings are never changed silently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from stepsynth.errors import PermanentError
from stepsynth.teachers.error_body import read_error, server_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepsynth.config import TeacherConfig
    from stepsynth.types import Sampling

__all__ = [
    "FIXED",
    "OTHER_NAME",
    "WITHOUT_EFFECT",
    "is_refused",
    "may_be_left_out",
    "note_of",
    "one_of_two",
    "refused_setting",
    "without_again",
]

FIXED = ("temperature", "top_p")
# llama.cpp's and LM Studio's name for repetition_penalty, which they ignore without a word. Both names are sent.
OTHER_NAME = "repeat_penalty"
# Fields that may be left out of any request: an answer without them is as good.
WITHOUT_EFFECT = ("seed", "logprobs", OTHER_NAME)
_REFUSED = re.compile(
    r"not (?:be )?(?:supported|permitted|allowed|accepted|implemented|available)|unsupported|(?:n't|not) support|deprecated"
    r"|unknown|unrecogni[sz]ed|unexpected|extra inputs|cannot find field|only the default|invalid|fixed|both|only one"
    r"|(?:must|should|may|can|has to) (?:only |not )?be|only .{0,40} (?:is|are) (?:supported|allowed)|less than|greater than",
    re.IGNORECASE | re.DOTALL,
)
_OFF = {"temperature": "1.0", "top_p": "1.0", "min_p": "0.0", "repetition_penalty": "1.0"}


def may_be_left_out(config: TeacherConfig, sampling: Sampling, name: str) -> bool:
    """Whether a request may leave out a sampling setting.

    Args:
        config: the user's settings.
        sampling: the request's sampling.
        name: ``temperature`` or ``top_p``.
    """
    own = config.sampling
    return 1.0 in (getattr(sampling, name), getattr(own, name)) or name not in own.model_fields_set


def without_again(config: TeacherConfig, learned: Mapping[str, Any], notes: list[str], url: str) -> frozenset[str]:
    """Return the settings to leave out from the first request on, as learned earlier from the same teacher.

    Only settings that every request of this config may leave out, since the sampling may have changed.

    Args:
        config: the user's settings.
        learned: ``without`` names the refused settings.
        notes: gets a message about settings other than 1.0.
        url: the server's address.
    """
    names, own = learned.get("without"), config.sampling
    known = [name for name in (*WITHOUT_EFFECT, *FIXED) if isinstance(names, list) and name in names]
    free = [name for name in known if name in WITHOUT_EFFECT or getattr(own, name) == 1.0 or name not in own.model_fields_set]
    if changed := [name for name in free if name not in WITHOUT_EFFECT and getattr(own, name) != 1.0]:
        notes.append(note_of(url, config.model, changed))
    return frozenset(free)


def is_refused(text: str) -> bool:
    """Whether an error refuses something and does not just name it."""
    return _REFUSED.search(read_error(text).words) is not None


def one_of_two(text: str, names: list[str]) -> list[str]:
    """Return which of the named settings to leave out: of two that exclude each other only the second."""
    words = read_error(text).words.lower()
    both = set(FIXED) <= set(names) and any(word in words for word in ("both", "only one", "not allowed with", "mutually"))
    return [name for name in names if name != FIXED[0]] if both else names


def note_of(url: str, model: str, names: list[str]) -> str:
    """Return the message about settings that are left out from now on."""
    what = " and ".join(names)
    return f"{url}: {model!r} accepts only its default {what}: {'it is' if len(names) == 1 else 'they are'} left out from now on."


def refused_setting(config: TeacherConfig, text: str, sampling: Sampling, url: str) -> PermanentError | None:
    """Return the error for a refused setting of the user's; ``None`` if the refusal is about something else.

    Args:
        config: the user's settings.
        text: the body of the refusal.
        sampling: the request's sampling.
        url: the server's address.
    """
    message = server_message(text)
    error = read_error(text)
    options = error.named(config.options)
    names = error.named([name for name in _OFF if getattr(sampling, name) != float(_OFF[name]) or name in FIXED])
    if not names and not options:
        return None
    if set(names) & set(FIXED):
        # A model that fixes one of them fixes the other, too, so both are reported at once.
        names += [name for name in FIXED if name not in names and not may_be_left_out(config, sampling, name)]
    # Reasons have a lower temperature than rows; show the config's value, which the user knows.
    given = [f"{name} {getattr(config.sampling, name):g}" for name in names] + [f"teacher.options.{name}" for name in options]
    hints = [f"teacher.sampling.{name}: {_OFF[name]}" for name in names]
    hint = f"Set {' and '.join(hints)}, so that {'it is' if len(names) == 1 else 'they are'} not sent." if names else ""
    if options:
        hint = f"{hint} Correct or remove {' and '.join(f'teacher.options.{name}' for name in options)}.".strip()
    what = f"{url}: {config.model!r} refused {' and '.join(given)}: {message.rstrip('.')!r}."
    return PermanentError(what, hint=hint, kind="refused", final=True)
