"""Remove control tokens of chat templates that a server left around an answer.

A token is removed with its role's word, and so is anything after the end of the model's turn. Inside a
text a token is an ordinary word: a text may be about it.
"""

from __future__ import annotations

import re

__all__ = ["without_first_token", "without_tokens"]

_ROLE = r"(?:assistant|model|ASSISTANT|Assistant)(?![\w/])"
_START = (
    rf"(?:<\|im_start\|>(?!assistant/)(?:\s?{_ROLE})?|<start_of_turn>(?!assistant/)(?:\s?{_ROLE})?|<\|turn>(?!assistant/)(?:\s?{_ROLE})?"
    rf"|<\|start_header_id\|>\s?{_ROLE}\s?<\|end_header_id\|>|<\|header_start\|>\s?{_ROLE}\s?<\|header_end\|>"
    rf"|<\|start_of_role\|>\s?{_ROLE}\s?<\|end_of_role\|>|<\|start\|>\s?{_ROLE}(?!<\|channel)|<\|(?:assistant|Assistant|bot)\|>"
    r"|<\uff5cAssistant\uff5c>|<\|(?:begin_of_text|CHATBOT_TOKEN|START_OF_TURN_TOKEN)\|>|<bos>|<s>|\[/?INST\])"
)
_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|eot|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>"),
    *("<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<|user|>", "<|end_of_role|>", "<|end_of_sentence|>", "<|EOT|>"),
    *(
        "<end_of_turn>",
        "<turn|>",
        "<eos>",
        "</s>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "[/INST]",
        "[INST]",
        "<|im_start|>",
    ),
    *("<start_of_turn>", "<end_of_utterance>", "[/s]"),
)
_END = "|".join(re.escape(token) for token in _ENDS)
_FIRST = re.compile(rf"(?:\s{{0,20}}(?:{_START}|(?:{_END})(?!assistant/)))+")
# The end of a turn and the start of another.
_NEXT = re.compile(
    rf"(?:{_END})\s{{0,5}}(?:<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>|<\|(?:user|system|assistant)\|>|\[INST\]|<s>|<\|turn>)"
)
_SIGNS = ("<", "[INST]", "[/INST]")


def without_first_token(text: str) -> str:
    """Remove the tokens at the start of an answer.

    Args:
        text: an answer's text.
    """
    first = _FIRST.match(text) if any(sign in text[:200] for sign in _SIGNS) else None
    return text[first.end() :] if first else text


def without_tokens(text: str) -> str:
    """Remove the tokens around an answer, and the turns after it.

    Args:
        text: an answer's text without thoughts.
    """
    if not any(sign in text for sign in _SIGNS):
        return text
    found = without_first_token(text)
    if following := _NEXT.search(found):
        found = found[: following.start()]
    while (bare := found.rstrip()).endswith(_ENDS):
        found = next(bare.removesuffix(token) for token in _ENDS if bare.endswith(token))
    return found
