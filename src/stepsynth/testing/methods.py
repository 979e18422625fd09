"""The contract of a method as tests, for its author.

    from stepsynth.testing import MethodContract

    class TestMyMethod(MethodContract):
        def make(self) -> Method:
            return MyMethod(per_label=3)

Pytest finds the tests in the subclass. Only ``make`` is required; `families` names the tasks that the method is for, and
`wanted` the number of rows in its first round, if known.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from stepsynth.config import parse_config
from stepsynth.data import deal_folds
from stepsynth.methods import MethodContext, create_method, register_method
from stepsynth.methods.own import plans_of
from stepsynth.prompts import Prompts
from stepsynth.run.settling import settle
from stepsynth.tasks import create_family
from stepsynth.types import Example, Mistake, Span, StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepsynth.methods import Method, Plan
    from stepsynth.tasks import TaskFamily
    from stepsynth.types import Request

__all__ = ["MethodContract"]

_LABELS = {"calm": "a calm day", "storm": "a day of storm"}
_TASKS: dict[str, dict[str, Any]] = {
    "classification": {"labels": _LABELS},
    "multi_label": {"labels": _LABELS},
    "pair": {"labels": _LABELS, "fields": {"text1": {"name": "note", "context": True}, "text2": {"name": "claim"}}},
    "extractive_qa": {"text_kind": "note"},
}
_WORDS = (
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "kelp",
    "larch",
    "mesa",
    "nectar",
    "reed",
)
_ROWS = 16
_NUMBERS = 12
# The first number of a pool's texts: after the gold rows and the hidden ones.
_POOL_FROM = 100


class MethodContract:
    """The behaviour that stepsynth relies on; subclass it in a test file.

    Attributes:
        families: the task families that the method is for.
    """

    families: Sequence[str] = ("classification",)

    # the author's part ----------------------------------------------------------------

    def make(self) -> Method:
        """Return the method under test; called often, and must always return the same."""
        raise NotImplementedError("a MethodContract needs a make()")

    def wanted(self) -> int | None:
        """Return the number of accepted rows in the first round, without reasons; ``None`` to skip the check."""
        return None

    # tests ----------------------------------------------------------------------------

    def test_its_options_make_it_again(self) -> None:
        """A run that is resumed compares them."""
        method = self.make()
        register_method(method)
        again = type(method)(**json.loads(json.dumps(method.options)))
        _check(again.options == method.options, f"{again.options!r} instead of {method.options!r}")
        _check(
            create_method(self._context(self.families[0]).config).options == method.options, "the config makes a different method"
        )

    def test_a_request_is_the_same_whatever_was_asked_before(self) -> None:
        """Plans are pure: resuming and repeating runs relies on that."""
        for family in self.families:
            calm, mixed = self._plans(family), self._plans(family)
            _check([plan.stage for plan in calm] == [plan.stage for plan in mixed], "the stages differ the second time")
            for one, other in zip(calm, mixed, strict=True):
                places = [(label, number) for label in one.targets for number in range(_NUMBERS)]
                expected = {place: one.request(*place, 7) for place in places}
                random.Random(3).shuffle(places)
                for place in places:
                    _check(
                        other.request(*place, 7) == expected[place], f"{place} of {one.stage} depends on what was asked before"
                    )

    def test_no_request_is_asked_twice(self) -> None:
        """Numbers, labels and rounds must give different keys, or the same answer comes again."""
        for family in self.families:
            keys = [request.key({}) for request in self._requests(family)]
            _check(len(set(keys)) == len(keys), f"{len(keys) - len(set(keys))} of {len(keys)} requests are asked twice")

    def test_another_seed_asks_otherwise(self) -> None:
        """Otherwise the seeds of a comparison would share answers; greedy ones do not depend on chance, and may be shared."""
        for family in self.families:
            one, other = (
                {request.key({}) for request in self._requests(family, seed=seed) if request.sampling.temperature}
                for seed in (0, 1)
            )
            _check(not one & other, "two seeds ask for the same")

    def test_targets_are_rows_of_labels(self) -> None:
        """Whole numbers above 0, with the wanted sum."""
        for family in self.families:
            for plan in self._plans(family):
                for label, target in plan.targets.items():
                    _check(isinstance(target, int) and target > 0, f"{target!r} rows of {label!r} in {plan.stage}")
            first = [plan for plan in self._plans(family, rounds=0) if plan.kind != StageKind.RATIONALES]
            found = sum(sum(plan.targets.values()) for plan in first)
            _check(self.wanted() in (None, found), f"the first round asks for {found} rows instead of {self.wanted()}")

    def test_a_request_says_what_its_row_is(self) -> None:
        """A row takes its label, source, context and answer from its request."""
        for family in self.families:
            ctx = self._context(family)
            contexts = {*ctx.contexts, *(row.context for row in (*ctx.harvest, *ctx.pool))}
            sources = {row.id: row for row in ctx.harvest}
            for request in self._requests(family):
                _check(request.parts >= 1, f"{request.parts} rows in an answer")
                if request.source is not None:
                    _check(request.source in sources, f"{request.source!r} is not a row of the harvest half")
                if request.context:
                    _check(request.context in contexts, f"{request.context!r} is not one of the contexts to write about")
                if request.answer is not None:
                    end = request.answer.start + len(request.answer.text)
                    _check(request.context[request.answer.start : end] == request.answer.text, "the answer is not where it says")

    def test_no_prompt_shows_what_it_must_not(self) -> None:
        """Never the select half or the sealed test set, and never harvest rows of two folds in one prompt."""
        for family in self.families:
            ctx, crossfits = self._context(family), self.make().crossfits
            hidden = _rows(ctx.family, 2 * _ROWS, _ROWS)
            for request in self._requests(family):
                told = "\n".join(message.content for message in request.messages)
                shown = [row for row in ctx.harvest if row.text in told]
                _check(not [row for row in hidden if row.text in told], f"a request of {request.stage} shows a hidden row")
                apart = [pair for pair in combinations(shown, 2) if not ctx.together(*pair)]
                _check(not (crossfits and apart), f"a request of {request.stage} shows rows of two folds")

    def test_without_mistakes_it_comes_to_an_end(self) -> None:
        """A student may get everything right."""
        for family in self.families:
            ctx = replace(self._context(family), mistakes=lambda _: [])
            method = create_method(ctx.config)
            for number in range(1, method.rounds + 1):
                for plan in plans_of(method, number, ctx):
                    _check(all(plan.targets.values()), f"{plan.stage} asks for 0 rows of a label")

    # ------------------------------------------------------------------------------------

    def _context(self, family: str, seed: int = 0) -> MethodContext:
        """Return the method's context: the first rows of a family, and a pool if the method takes one; later rows are hidden."""
        method = self.make()
        register_method(method)
        values: dict[str, Any] = {
            "task": {"family": family, "name": "contract", "instruction": "Decide what the day was like.", **_TASKS[family]},
            "data": {"validation": {"path": "nowhere.csv"}},
            "teacher": {"backend": "fake", "model": "fake"},
            "method": {"rationales": 3, **method.values},
            "seed": seed,
        }
        if method.takes_pool:
            values["data"]["pool"] = {"path": "texts.csv"}
        config = settle(parse_config(values), None)
        made = create_family(config.task)
        harvest = _rows(made, _ROWS)
        reasons = {label: [f"reason {n} for {label or 'any'}" for n in range(5)] for label in config.task.labels or [""]}
        mistakes = [Mistake(row, "wrong", 0.9) for row in harvest[:5]]
        contexts = [row.context for row in harvest if row.context]
        ctx = MethodContext(config, Prompts(config.task), made, harvest, contexts, lambda: reasons, lambda _: mistakes)
        if method.takes_pool:
            ctx = replace(ctx, pool=[replace(row, label="", answers=()) for row in _rows(made, 2 * _NUMBERS, _POOL_FROM)])
        return replace(ctx, together=deal_folds(harvest, config.method.folds, seed).together) if method.crossfits else ctx

    def _plans(self, family: str, seed: int = 0, rounds: int | None = None) -> list[Plan]:
        ctx = self._context(family, seed)
        method = create_method(ctx.config)
        last = method.rounds if rounds is None else rounds
        return [plan for number in range(last + 1) for plan in plans_of(method, number, ctx)]

    def _requests(self, family: str, seed: int = 0) -> Iterator[Request]:
        for plan in self._plans(family, seed):
            for label in plan.targets:
                for number in range(_NUMBERS):
                    yield plan.request(label, number, number)


def _rows(family: TaskFamily, count: int, first: int = 0) -> list[Example]:
    """Return invented gold rows; rows with different numbers share no text and no context."""
    found = []
    for number in range(first, first + count):
        words = [_WORDS[(number * step + step) % len(_WORDS)] for step in (1, 5, 7)]
        label = list(_LABELS)[number % 2] if not family.spans else ""
        place = f"{words[0].title()} {number}"
        note = f"In the year {1800 + number} the {words[1]} stood near {place} and nobody saw the {words[2]}."
        answers = (Span(place, note.index(place)),) if family.spans else ()
        context = note if family.has_context else ""
        found.append(
            Example(f"validation-{number}", f"Day {number} of {' and '.join(words)} was {label}.", label, context, answers)
        )
    return found


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
