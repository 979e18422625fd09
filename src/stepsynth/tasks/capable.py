"""Templates for models of about a billion parameters and more; the others are in `stepsynth.tasks.templates`.

Such a model follows instructions but copies whatever it is shown, so it is shown only the task's own
rows, as if it had written them. A mistake is shown with its right label and the label that the student
predicted (S3, section 3.2), and ``form`` gives the length and style of a gold row drawn at random. The
part shared by all requests of a label comes first, so that an engine reads it once.
"""

from __future__ import annotations

from stepsynth.tasks.templates import DEFAULT_TEMPLATES

__all__ = ["CAPABLE_TEMPLATES"]

_MEANING = '"{{ label }}"{% if description %} ({{ description }}){% endif %}'
_TAKEN = '"{{ predicted }}"{% if predicted_description %} ({{ predicted_description }}){% endif %}'
_REASONS = "{% for reason in rationales %}\n- {{ reason }}{% endfor %}"
# At the end, where models follow it best.
_LENGTH = "{% if form %} Length and form: {{ form }}.{% endif %}"
# The end of each template: write only the text. In a list the 1.5B teacher made rows of the words "no title, no comment".
_NUMBERED = (
    "Number the texts from 1 to {{ count }}{% if not lines %}, one a line{% endif %}, each about something else, and write "
    "nothing else."
)
_ONLY = (
    f"{{% if count > 1 %}}{_NUMBERED}"
    "{% else %}Write only the text itself: no title, no comment, no placeholder such as [Name].{% endif %}"
)
_NOTES = (
    "{% if count > 1 %}Number the notes from 1 to {{ count }} and write nothing else{% else %}Write only the note{% endif %}."
)
_EXAMPLES = "{% if count > 1 %}{{ count }} different examples{% else %}an example{% endif %}"
_APART = "{% if count > 1 %}, each about another subject{% endif %}"
_EACH = "{% if count > 1 %}of each{% else %}of it{% endif %}"

# classification and multi_label ---------------------------------------------------------
_TASK = "Task: {{ instruction }}\n"
_WANTED = "{% if count > 1 %}{{ count }} texts, each of them {{ a_text_kind }},{% else %}{{ a_text_kind }}{% endif %}"
# Gold rows as the model's own answers. The request is repeated word for word, so that a model of a billion parameters
# imitates the rows' style with a new subject each time. Any other last turn gets the same few sentences, or an echo of itself.
_SHOWN = f"{{{{ instruction }}}} Write {{{{ a_text_kind }}}} for which the answer is {_MEANING}. Write only the text itself."
# The same for several rows in an answer: what is shown is an earlier list like the one that is asked for. The mistake is alone in
# its list, so that it is told which row was taken for another label.
_OTHERS = "{% set others = (examples[:2] + ([] if predicted else [text])) | map('trim') | select | list %}"
_ONE = (
    f"{{{{ instruction }}}} Write {{{{ a_text_kind }}}} for which the answer is {_MEANING}. Number it 1 and write nothing else."
)


def _several(count: str) -> str:
    """Return the request for so many texts, the same for those that are shown and for the new ones."""
    number = f"{{{{ {count} }}}}"
    wanted = f"{number} texts, each of them {{{{ a_text_kind }}}},"
    return f"{{{{ instruction }}}} Write {wanted} for which the answer is {_MEANING}. {_NUMBERED.replace('{{ count }}', number)}"


def _list_of(texts: str) -> str:
    """Return texts as a numbered list; only where real texts have several lines do they keep theirs."""
    text = "{{ text if lines else text.split() | join(' ') }}"
    return (
        f"{{% for text in {texts} if text %}}{{% if loop.index > 1 %}}\n{{% endif %}}{{{{ loop.index }}}}. {text}{{% endfor %}}"
    )


_DIFFERENT_REASONS = "{% if count > 1 %}{{ count }} different reasons{% else %}a reason{% endif %}"
# One reason, and short: of several the model writes a list, and a whole sentence it copies.
_ABOUT = (
    "{% if rationales %} {% if count > 1 %}Each is about one of these{% else %}It is about{% endif %}: "
    "{{ rationales | join('; ') }}.{% endif %}"
)
_HASTY = f"{{% if predicted %}} A hasty reader takes it for {_TAKEN}.{{% endif %}}"
_HASTY_ALL = f"{{% if predicted %}} A hasty reader takes them for {_TAKEN}.{{% endif %}}"

_CLASSIFICATION = {
    "rationale": f"""\
--- user
{_TASK}Name {_DIFFERENT_REASONS} why the answer for {{{{ a_text_kind }}}} may be {_MEANING}{_APART}. Two to five words\
{{% if count > 1 %}} each, no sentences. Number them from 1 to {{{{ count }}}} and write nothing else\
{{% else %}}, no sentence. Write only the reason{{% endif %}}.
""",
    "seed": f"""\
--- user
{_TASK}Write {_WANTED} for which the answer is {_MEANING}.{_ABOUT}
{_ONLY}{_LENGTH}
""",
    "zerogen": f"""\
--- user
{_TASK}Write {_WANTED} for which the answer is {_MEANING}.
{_ONLY}
""",
    "extrapolate": f"""\
--- user
{{% if count == 1 %}}{_SHOWN}{{% endif %}}
--- assistant
{{% if count == 1 %}}{{{{ examples[0] }}}}{{% endif %}}
--- user
{{% if count == 1 %}}{_SHOWN}{{% else %}}{_OTHERS}{{% if others | length == 1 %}}{_ONE}{{% else %}}\
{_several("others | length")}{{% endif %}}{{% endif %}}
--- assistant
{{% if count == 1 %}}{{{{ examples[1] }}}}{{% else %}}{_OTHERS}{_list_of("others")}{{% endif %}}
--- user
{{% if count == 1 %}}{_SHOWN}{_HASTY}{{% elif predicted %}}{_ONE}{_HASTY}{{% endif %}}
--- assistant
{{% if count == 1 %}}{{{{ text }}}}{{% elif predicted %}}{_list_of("[text]")}{{% endif %}}
--- user
{{% if count == 1 %}}{_SHOWN}{_HASTY}{{% else %}}{_several("count")}{_HASTY_ALL}{{% endif %}}
""",
    "answer": DEFAULT_TEMPLATES["classification"]["answer"],
}

# pairs ----------------------------------------------------------------------------------
_KEPT = "{{ context_name[:1] | upper }}{{ context_name[1:] }}: {{ context }}\n"
_WRITTEN = "{{ text_name[:1] | upper }}{{ text_name[1:] }}: {{ text }}\n"
_PAIR_TASK = "Here is a task about two texts, {{ a_context_name }} and {{ a_text_name }}: {{ instruction }}\n"
_PAIR_WANTED = "{% if count > 1 %}{{ count }} texts, each of them {{ a_text_name }}{% else %}{{ a_text_name }}{% endif %}"

# Without other rows' answers before it, a model of a billion parameters copies the context word for word (docs/decisions.md).
# The wrong label is told with the mistake only: repeated at the end, it makes such a model copy, too.
_PAIR_HASTY = "{% if predicted %} A hasty reader takes it for " + _TAKEN + ".{% endif %}"


def _asked(context: str) -> str:
    """Return the request for a text about a context, the same for each that is shown and for the new one."""
    kept = _KEPT.replace("{{ context }}", f"{{{{ {context} }}}}")
    return f"{_PAIR_TASK}{kept}Write {{{{ a_text_name }}}} for which the right answer is {_MEANING}. Write only the text itself."


def _alone(shown: str) -> str:
    """Return what is shown as an answer, as a list of one where several are asked for."""
    return f"{{% if count > 1 %}}{_list_of(f'[{shown} | trim]')}{{% else %}}{{{{ {shown} }}}}{{% endif %}}"


def _listed(context: str, count: str = "") -> str:
    """Return the request of `_asked`; where several rows are asked for, as one for a list.

    Args:
        context: the variable of the context.
        count: the variable of how many; a list of one by default, since one text is shown for a context.
    """
    one = _asked(context).removesuffix("Write only the text itself.")
    if not count:
        return f"{{% if count > 1 %}}{one}Number it 1 and write nothing else.{{% else %}}{_asked(context)}{{% endif %}}"
    several = one.replace("Write {{ a_text_name }}", f"Write {{{{ {count} }}}} texts, each of them {{{{ a_text_name }}}},")
    return f"{several}{_NUMBERED}"


_PAIR = {
    "rationale": f"""\
--- user
{_PAIR_TASK}One of the answers is {_MEANING}.
Think of {_EXAMPLES} of how the {{{{ text_name }}}} could be written, given the {{{{ context_name }}}}, so that the right \
answer is "{{{{ label }}}}". Say {_EACH} in a note of three to ten words. {_NOTES}
""",
    "seed": f"""\
--- user
{_listed("example_contexts[0]")}
--- assistant
{_alone("examples[0]")}
--- user
{_listed("example_contexts[1]")}
--- assistant
{_alone("examples[1]")}
--- user
{{% if examples[0] %}}{{% if count > 1 %}}{_listed("context", "count")}{{% else %}}{_asked("context")}{{% endif %}}\
{{% else %}}{_PAIR_TASK}{_KEPT}Write {_PAIR_WANTED} for which the right answer is {_MEANING}.\
{{% if rationales %}} It may be like this (choose what fits the {{{{ context_name }}}}):{_REASONS}{{% endif %}}
{_ONLY}{_LENGTH}{{% endif %}}
""",
    "zerogen": f"""\
--- user
{_PAIR_TASK}{_KEPT}Write {_PAIR_WANTED} for which the right answer is {_MEANING}.
{_ONLY}
""",
    "extrapolate": f"""\
--- user
{_listed("example_contexts[0]")}
--- assistant
{_alone("examples[0]")}
--- user
{_listed("context")}{_PAIR_HASTY}
--- assistant
{_alone("text")}
--- user
{{% if count > 1 %}}{_listed("context", "count")} Say other things about it than before.{{% else %}}\
{_asked("context")} Write about something else in it than before.{{% endif %}}
""",
    "answer": DEFAULT_TEMPLATES["pair"]["answer"],
}

# extractive question answering --------------------------------------------------------------
_PASSAGE = "Passage: {{ context }}\n"
_QUESTIONS = "{% if count > 1 %}{{ count }} questions{% else %}a question{% endif %}"
_ANSWERED = f'Write {_QUESTIONS} about the passage whose answer is exactly "{{{{ answer }}}}" (there: {{{{ cloze }}}}).'
_QUESTION_ONLY = (
    'Do not use the words "{{ answer }}". '
    "{% if count > 1 %}Number the questions from 1 to {{ count }}, one a line, and write nothing besides."
    "{% else %}Write only the question.{% endif %}"
)

_EXTRACTIVE_QA = {
    "rationale": f"""\
--- user
Somebody writes questions about {{{{ a_text_kind }}}} that can only be answered by careful reading. Name \
{{% if count > 1 %}}{{{{ count }}}} different things that make{{% else %}}one thing that makes{{% endif %}} such a question \
hard, in a note of three to ten words. {_NOTES}
""",
    "seed": f"""\
--- user
{_PASSAGE}{_ANSWERED}\
{{% if rationales %}} What may make it hard:{_REASONS}{{% endif %}}
{_QUESTION_ONLY}{_LENGTH}
""",
    "zerogen": f"""\
--- user
{_PASSAGE}{_ANSWERED}
{_QUESTION_ONLY}
""",
    "extrapolate": f"""\
--- user
{_PASSAGE}Question: {{{{ text }}}}
The right answer is "{{{{ answer }}}}".\
{{% if predicted %}} A reader wrongly answered "{{{{ predicted }}}}".{{% endif %}}
Write {{% if count > 1 %}}{{{{ count }}}} other questions{{% else %}}another question{{% endif %}} about the passage whose \
answer is exactly "{{{{ answer }}}}", too, and easy to get wrong in the same way.
{_QUESTION_ONLY}{_LENGTH}
""",
    "answer": DEFAULT_TEMPLATES["extractive_qa"]["answer"],
}

CAPABLE_TEMPLATES: dict[str, dict[str, str]] = {
    "classification": _CLASSIFICATION,
    "multi_label": {**_CLASSIFICATION, "answer": DEFAULT_TEMPLATES["multi_label"]["answer"]},
    "pair": _PAIR,
    "extractive_qa": _EXTRACTIVE_QA,
}
