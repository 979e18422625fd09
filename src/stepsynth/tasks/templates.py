"""The default templates, by family and purpose; every one can be replaced in ``task.prompts``.

They are worded for models of 135 million parameters as well as for large ones: turns about other
domains show the form of an answer, and the request is repeated word for word as if the rows before
it had been the model's own answers. ``zerogen`` shows nothing: it is the plain zero-shot prompt
(ZeroGen, Ye et al. 2022). ``answer`` asks the teacher to decide itself; gold rows are shown by filling
it in once for each, with the right answer as the teacher's own.
"""

from __future__ import annotations

__all__ = ["ANY_OF", "DEFAULT_TEMPLATES", "ONE_OF"]

_DESCRIBED = "{% if description %} ({{ description }}){% endif %}"

# classification and multi_label ---------------------------------------------------------
_WRITE = f"Write {{{{ a_text_kind }}}}. Category: {{{{ label }}}}{_DESCRIBED}."
_LABELS = "{% for name, meaning in labels.items() %}\n- {{ name }}{% if meaning %}: {{ meaning }}{% endif %}{% endfor %}"
# Requests for one label, and for any number of labels.
ONE_OF = "Answer with one of these words and nothing else:"
ANY_OF = "Answer with all that hold, separated by commas, or with none:"
_ASK = f"{{{{ instruction }}}} {ONE_OF}{_LABELS}\nText: "

_CLASSIFICATION = {
    "rationale": """\
--- user
An e-mail belongs to "invitation": the sender asks someone to come. What could it say? Answer in a few words.
--- assistant
it names a day and a place to meet
--- user
A product review belongs to "complaint": the customer is unhappy. What could it say? Answer in a few words.
--- assistant
something broke soon after it was bought
--- user
{{ a_text_kind[:1] | upper }}{{ a_text_kind[1:] }} belongs to "{{ label }}"{% if description %}: {{ description }}{% endif %}. \
What could it say? Answer in a few words.
""",
    "seed": f"""\
--- user
Write an e-mail. Category: invitation (the sender asks someone to come).\
{{% if rationales %}} It shows: a day and a place to meet.{{% endif %}}
--- assistant
Are you free on Friday evening? We are having dinner at my place around eight.
--- user
Write a product review. Category: complaint (the customer is unhappy).\
{{% if rationales %}} It shows: something broke; nobody helps.{{% endif %}}
--- assistant
The zip of this jacket broke after two days and nobody answers my calls.
--- user
{_WRITE}{{% if rationales %}} It shows: {{{{ rationales | join('; ') }}}}.{{% endif %}}
""",
    "zerogen": f"""\
--- user
{_WRITE}
""",
    "extrapolate": f"""\
--- user
{_WRITE}
--- assistant
{{{{ examples[0] }}}}
--- user
{_WRITE}
--- assistant
{{{{ examples[1] }}}}
--- user
{_WRITE}
--- assistant
{{{{ text }}}}
--- user
{_WRITE}
""",
    "answer": f"""\
--- user
{_ASK}{{{{ text }}}}
""",
}

# pairs ----------------------------------------------------------------------------------
_KEPT = "{{ context_name[:1] | upper }}{{ context_name[1:] }}: "
_PAIR_ASK = f"Write {{{{ a_text_name }}}} for which this holds: {{{{ label }}}}{_DESCRIBED}."
_PAIR_DECIDE = (
    f"{{{{ instruction }}}} {ONE_OF}{_LABELS}\n{_KEPT}{{{{ context }}}}\n{{{{ text_name[:1] | upper }}}}{{{{ text_name[1:] }}}}: "
)

_PAIR = {
    "rationale": """\
--- user
There are two texts: a recipe and a shopping list. The pair belongs to "complete": the list has all that the recipe needs. \
How could the shopping list be written? Answer in a few words.
--- assistant
it names every ingredient in other words
--- user
There are two texts: {{ a_context_name }} and {{ a_text_name }}. The pair belongs to "{{ label }}"\
{% if description %}: {{ description }}{% endif %}. How could the {{ text_name }} be written? Answer in a few words.
""",
    "seed": f"""\
--- user
Recipe: Beat two eggs with a little milk, fry them in butter and eat them with toast.
Write a shopping list for which this holds: complete (the list has all that the recipe needs).\
{{% if rationales %}} It could be like this: it names every ingredient in other words.{{% endif %}}
--- assistant
Eggs, some milk, butter and bread for toasting.
--- user
{_KEPT}{{{{ context }}}}
{_PAIR_ASK}{{% if rationales %}} It could be like this: {{{{ rationales | join('; ') }}}}.{{% endif %}}
""",
    "zerogen": f"""\
--- user
{_KEPT}{{{{ context }}}}
{_PAIR_ASK}
""",
    "extrapolate": f"""\
--- user
{_KEPT}{{{{ example_contexts[0] }}}}
{_PAIR_ASK}
--- assistant
{{{{ examples[0] }}}}
--- user
{_KEPT}{{{{ context }}}}
{_PAIR_ASK}
--- assistant
{{{{ text }}}}
--- user
{_KEPT}{{{{ context }}}}
{_PAIR_ASK} Say something else about it than before.
""",
    "answer": f"""\
--- user
{_PAIR_DECIDE}{{{{ text }}}}
""",
}

# extractive question answering --------------------------------------------------------------
# The sentence around the answer, with a gap, instead of the passage: with a passage, a small teacher asks
# about something else or talks about the task (docs/decisions.md). A large one can use {{ context }}.
_QA_ASK = 'Ask for "{{ answer }}"'
_QA_DECIDE = "{{ instruction }} Answer with words of the passage and nothing else.\nPassage: "

_EXTRACTIVE_QA = {
    "rationale": """\
--- user
Someone asks a question about a train timetable. What could make it need careful reading? Answer in a few words.
--- assistant
two trains leave at almost the same time
--- user
Someone asks a question about {{ a_text_kind }}. What could make it need careful reading? Answer in a few words.
""",
    "seed": f"""\
--- user
Ask for "six euros": Bicycles travel free on weekdays, but on Sundays a ticket costs _____.
--- assistant
What does it cost to take a bicycle on a Sunday?
--- user
Ask for "Anna Holm": The bridge was built by the engineer _____ in 1911 and widened twice.
--- assistant
Who built the bridge?
--- user
Ask for "400 books": In the first year the library lent _____ to the schools of the valley.
--- assistant
How many books did the library lend in its first year?
--- user
Ask for "Emperor penguins": _____ keep their eggs warm with their feet, since the ground is frozen.
--- assistant
Which animals keep their eggs warm with their feet?
--- user
{_QA_ASK}{{% if rationales %}} ({{{{ rationales | join('; ') }}}}){{% endif %}}: {{{{ cloze }}}}
""",
    "zerogen": """\
--- user
Passage: {{ context }}
Write a question about the passage whose answer is "{{ answer }}".
""",
    "extrapolate": f"""\
--- user
Ask for "{{{{ example_answers[0] }}}}": {{{{ example_clozes[0] }}}}
--- assistant
{{{{ examples[0] }}}}
--- user
Ask for "{{{{ example_answers[1] }}}}": {{{{ example_clozes[1] }}}}
--- assistant
{{{{ examples[1] }}}}
--- user
{_QA_ASK}: {{{{ cloze }}}}
--- assistant
{{{{ text }}}}
--- user
{_QA_ASK} in another way: {{{{ cloze }}}}
""",
    "answer": f"""\
--- user
{_QA_DECIDE}{{{{ context }}}}
Question: {{{{ text }}}}
""",
}

DEFAULT_TEMPLATES: dict[str, dict[str, str]] = {
    "classification": _CLASSIFICATION,
    "multi_label": {**_CLASSIFICATION, "answer": _CLASSIFICATION["answer"].replace(ONE_OF, ANY_OF)},
    "pair": _PAIR,
    "extractive_qa": _EXTRACTIVE_QA,
}
