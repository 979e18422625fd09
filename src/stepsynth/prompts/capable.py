"""The templates for models of about a billion parameters and more; see `stepsynth.prompts.templates` for the others.

Such a model follows an instruction, and copies whatever it is shown: so nothing is shown but the task's
own rows. A mistake is shown with its right label and the label that the student took it for (S3, section
3.2), and ``form`` says how long a row is to be and how it is written, as one gold row drawn at random is.
What all requests of a label have in common comes first, so that an engine reads it once.
"""

from __future__ import annotations

from stepsynth.prompts.templates import DEFAULT_TEMPLATES

__all__ = ["CAPABLE_TEMPLATES"]

_MEANING = '"{{ label }}"{% if description %} ({{ description }}){% endif %}'
_TAKEN = '"{{ predicted }}"{% if predicted_description %} ({{ predicted_description }}){% endif %}'
_ONLY = "Write only the text itself: no title, no comment, no placeholder such as [Name]"
_REASONS = "{% for reason in rationales %}\n- {{ reason }}{% endfor %}"
_OTHERS = "{% for example in examples if example %}\n- {{ example }}{% endfor %}"
_FORM = "{% if form %}Form: {{ form }}.\n{% endif %}"

# classification and multi_label ---------------------------------------------------------
_TASK = "Here is a task: {{ instruction }}\n"
_UNNAMED = f'{_ONLY}. Do not use the words "{{{{ label }}}}".'

_CLASSIFICATION = {
    "rationale": f"""\
--- user
{_TASK}One of the answers is {_MEANING}.
Name one thing that could stand in {{{{ a_text_kind }}}} so that a reader decides for "{{{{ label }}}}". \
Be concrete. Answer with one short phrase of three to ten words.
""",
    "seed": f"""\
--- user
{_TASK}Write {{{{ a_text_kind }}}} for which the right answer is {_MEANING}.\
{{% if rationales %}} What may stand in it (choose what goes together):{_REASONS}{{% endif %}}
{_FORM}{_UNNAMED}
""",
    "zerogen": f"""\
--- user
{_TASK}Write {{{{ a_text_kind }}}} for which the right answer is {_MEANING}.
{_UNNAMED}
""",
    "extrapolate": f"""\
--- user
{_TASK}This is {{{{ a_text_kind }}}} for which the right answer is {_MEANING}:
{{{{ text }}}}
{{% if predicted %}}A reader wrongly took it for {_TAKEN}.
{{% endif %}}{{% if examples[0] %}}Others with the answer "{{{{ label }}}}":{_OTHERS}
{{% endif %}}Write another {{{{ text_kind }}}} for which the right answer is "{{{{ label }}}}"\
{{% if predicted %}}, and that somebody might take for "{{{{ predicted }}}}" in the same way{{% endif %}}. \
It is about something else, in other words.
{_FORM}{_UNNAMED}
""",
    "answer": DEFAULT_TEMPLATES["classification"]["answer"],
}

# pairs ----------------------------------------------------------------------------------
_KEPT = "{{ context_name[:1] | upper }}{{ context_name[1:] }}: {{ context }}\n"
_WRITTEN = "{{ text_name[:1] | upper }}{{ text_name[1:] }}: {{ text }}\n"
_PAIR_TASK = "Here is a task about two texts, {{ a_context_name }} and {{ a_text_name }}: {{ instruction }}\n"
_PAIR_ONLY = "Write only the {{ text_name }} itself: no title, no comment, no explanation."

_PAIR = {
    "rationale": f"""\
--- user
{_PAIR_TASK}One of the answers is {_MEANING}.
Name one way in which the {{{{ text_name }}}} could be written, given the {{{{ context_name }}}}, so that the right answer is \
"{{{{ label }}}}". Answer with one short phrase of three to ten words.
""",
    "seed": f"""\
--- user
{_PAIR_TASK}{_KEPT}Write {{{{ a_text_name }}}} for which the right answer is {_MEANING}.\
{{% if rationales %}} It may be like this (choose what fits the {{{{ context_name }}}}):{_REASONS}{{% endif %}}
{_FORM}{_PAIR_ONLY}
""",
    "zerogen": f"""\
--- user
{_PAIR_TASK}{_KEPT}Write {{{{ a_text_name }}}} for which the right answer is {_MEANING}.
{_PAIR_ONLY}
""",
    "extrapolate": f"""\
--- user
{_PAIR_TASK}{_KEPT}{_WRITTEN}The right answer is {_MEANING}.\
{{% if predicted %}} A reader wrongly took it for {_TAKEN}.{{% endif %}}
Write another {{{{ text_name }}}} for the same {{{{ context_name }}}} for which the right answer is "{{{{ label }}}}", too\
{{% if predicted %}}, and that somebody might take for "{{{{ predicted }}}}" in the same way{{% endif %}}. \
It says something else about it.
{_FORM}{_PAIR_ONLY}
""",
    "answer": DEFAULT_TEMPLATES["pair"]["answer"],
}

# extractive question answering --------------------------------------------------------------
_PASSAGE = "Passage: {{ context }}\n"
_QUESTION_ONLY = 'The question does not hold the words "{{ answer }}". Write only the question.'
_ANSWERED = 'Write a question about the passage whose answer is exactly these words of it: "{{ answer }}" (there: {{ cloze }}).'

_EXTRACTIVE_QA = {
    "rationale": """\
--- user
Somebody writes questions about {{ a_text_kind }} that can only be answered by careful reading. Name one thing that makes such a \
question hard to answer. Answer with one short phrase of three to ten words.
""",
    "seed": f"""\
--- user
{_PASSAGE}{_ANSWERED}\
{{% if rationales %}} What may make it hard:{_REASONS}{{% endif %}}
{_FORM}{_QUESTION_ONLY}
""",
    "zerogen": f"""\
--- user
{_PASSAGE}{_ANSWERED} {_QUESTION_ONLY}
""",
    "extrapolate": f"""\
--- user
{_PASSAGE}Question: {{{{ text }}}}
The right answer is "{{{{ answer }}}}".\
{{% if predicted %}} A reader wrongly answered "{{{{ predicted }}}}".{{% endif %}}
Write another question about the passage whose answer is exactly "{{{{ answer }}}}", too, and that is as easy to get wrong. \
It asks in another way, in other words.
{_FORM}{_QUESTION_ONLY}
""",
    "answer": DEFAULT_TEMPLATES["extractive_qa"]["answer"],
}

CAPABLE_TEMPLATES: dict[str, dict[str, str]] = {
    "classification": _CLASSIFICATION,
    "multi_label": {**_CLASSIFICATION, "answer": DEFAULT_TEMPLATES["multi_label"]["answer"]},
    "pair": _PAIR,
    "extractive_qa": _EXTRACTIVE_QA,
}
