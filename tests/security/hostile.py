"""Texts that are cheap to send and could be dear to read: 100,000 characters for every kind of pattern."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LENGTH", "long_texts", "scaled"]

LENGTH = 100_000

# What patterns repeat over: white space, quotes, marks, digits, words that open an answer, combining letters.
_UNITS = (
    *(
        "a",
        " ",
        "\n",
        "\t",
        "\r\n",
        "\u2028",
        "\u200b",
        "0",
        "_",
        "-",
        ".",
        "?",
        "!",
        ",",
        ":",
        "'",
        '"',
        "`",
        "*",
        "#",
        "(",
        ")",
        "[",
        "{",
    ),
    *("a ", "a. ", ". ", "a.\n", "- ", "1. ", "1) ", "# ", "\n\n", "\n ", "``", "``` ", "**", "__", "<|", "<|a|>", "<s>", "</s>"),
    *("sure, ", "here is ", "this is a: ", "the question is: ", "assistant: ", "[output] 1: ", "the ", "a the an "),
    *(
        "i'm sorry ",
        "i am really so very ",
        "as an ai ",
        "it shows: ",
        "the sentence is ",
        "\u0300",
        "e\u0301",
        "\ufdfa",
        "\U0001f469\u200d",
    ),
    *(
        "A.",
        "AT&T",
        "a-",
        "a'",
        "1,",
        "1:1/",
        "Mr. ",
        "St. A",
        "of the ",
        "A of ",
        "May 5 ",
        "$1 ",
        "none ",
        "no label ",
        "kalm ",
        "|",
    ),
)
_WRAPPERS = (
    *(("", ""), ("x", "x"), ("```", "```"), ("```\n", "x"), ("```x\n", "\n``"), ('"', '"'), ("sure", "!"), ("here is ", ":")),
    *(("assistant:", "x"), ("<|", ""), ("I'm sorry", "but"), (".", "x"), ("$1", "x")),
)


def scaled(unit: str, length: int = LENGTH) -> str:
    """Return a unit as often as a length has room for it."""
    return unit * (length // len(unit))


def long_texts(length: int = LENGTH) -> Iterator[str]:
    """Yield every unit, repeated, between every pair of wrappers."""
    for unit in _UNITS:
        body = scaled(unit, length)
        for before, behind in _WRAPPERS:
            yield f"{before}{body}{behind}"
