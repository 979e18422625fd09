"""A run's input data, checked before anything is spent."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepsynth.data import Pool, SealedTest, Tally, Validation, load_contexts, load_pool, load_seed, load_validation
from stepsynth.data.columns import shown
from stepsynth.data.splits import units_by_context
from stepsynth.errors import DataError, RunError
from stepsynth.filters import own_filters, try_filters
from stepsynth.methods import create_method
from stepsynth.methods.base import student_notes
from stepsynth.model_cache import resolve
from stepsynth.prompts import Prompts
from stepsynth.runtime.counting import counted
from stepsynth.students.checking import check_base
from stepsynth.students.guarding import try_student
from stepsynth.students.own import StudentRecipe, chosen_student
from stepsynth.tasks import create_family
from stepsynth.tasks.answer_candidates import draw_spans
from stepsynth.tasks.trial import try_family
from stepsynth.types import Example, digest
from stepsynth.words import count_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.config import RunConfig
    from stepsynth.data import SealedInfo
    from stepsynth.journal import Journal
    from stepsynth.methods import Method
    from stepsynth.runtime.progress import Progress

__all__ = ["RunData", "begin_journal", "load_run_data", "rows_digest"]


@dataclass(frozen=True)
class RunData:
    """A run's checked input.

    Attributes:
        validation: the harvest and the select half.
        test: the sealed test set, or ``None``.
        sealed: its size and digest, without its text.
        contexts: texts to write about; empty for families without context.
        seed: written rows to start from.
        pool: texts without labels, or ``None``.
        read: row counts of ``contexts``, ``seed`` and ``pool`` as they were read.
        unused: a note on a source that the method does not use.
    """

    validation: Validation
    test: SealedTest | None
    sealed: SealedInfo | None
    contexts: tuple[str, ...] = ()
    seed: tuple[Example, ...] = ()
    pool: Pool | None = None
    read: Mapping[str, Tally] = field(default_factory=dict, compare=False)
    unused: str = ""

    @property
    def tallies(self) -> dict[str, Tally]:
        """Row counts of each source."""
        found = {"validation": self.validation.tally, **self.read}
        if self.sealed is not None:
            found["test"] = self.sealed.tally
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about the data, a sentence each."""
        notes = (*self.validation.notes, *(self.pool.notes if self.pool else ()), *([self.unused] if self.unused else ()))
        if self.sealed is None or not self.sealed.shared:
            return notes
        rows = f"{counted(self.sealed.n, 'test row')} {'is' if self.sealed.shared == 1 else 'are'}"
        shared = f"{self.sealed.shared:,} of {rows} also in the validation data, so the test score is too high."
        return (*notes, shared)

    def facts(self) -> dict[str, str]:
        """Return the digests that must not change between attempts at a run."""
        facts = {
            "validation_sha256": rows_digest((*self.validation.harvest, *self.validation.select)),
            "test_sha256": self.sealed.sha256 if self.sealed else "",
        }
        if self.contexts:
            facts["contexts_sha256"] = digest(list(self.contexts))
        if self.seed:
            facts["seed_sha256"] = rows_digest(self.seed)
        if self.pool is not None:
            facts["pool_sha256"] = rows_digest(self.pool.rows)
        return facts


def begin_journal(journal: Journal, inputs: RunData, method: Method) -> None:
    """Write the gold rows and facts of a new run; check those of a resumed one.

    Raises:
        RunError: they have changed, or the user's method now trains its student on something else.
    """
    facts, notes = inputs.facts(), student_notes(method)
    if journal.meta("validation_sha256") is None:
        told = {"pool": json.dumps(inputs.pool.counts)} if inputs.pool else {}
        journal.start({**facts, **notes, **told}, {"harvest": inputs.validation.harvest, "select": inputs.validation.select})
    for name, value in facts.items():
        if journal.meta(name) != value:
            raise RunError(
                f"the {name.split('_')[0]} rows are not those that this run began with.",
                hint="Restore the old file, or give another folder (out= / --out): the run is as it was.",
            )
    for name, value in notes.items():
        if (began := journal.meta(name)) != value:
            raise RunError(
                f"the method {method.name!r} trains its student on {value!r}, but on {began!r} when this run began.",
                hint="Restore the class as it was, or give another folder (out= / --out): the run is as it was.",
            )


def rows_digest(rows: Sequence[Example]) -> str:
    """Return the sha256 by which a run recognises its gold and given rows; ids are not part of it."""
    return digest([[e.text, e.label, e.context, [[a.text, a.start] for a in e.answers]] for e in rows])


def load_run_data(config: RunConfig, progress: Progress | None = None) -> RunData:
    """Check data, prompts and the student's base model.

    Raises:
        UserError: the first fault found, in one line.
    """
    Prompts(config.task).check()
    filters = own_filters(config.filters, config.given_filters or ())
    method = create_method(config)
    validation = load_validation(config)
    if method.crossfits:
        _refuse_one_context((*validation.harvest, *validation.select))
    try_filters(filters, validation.harvest)
    test = SealedTest(config) if config.data.test else None
    sealed = test.inspect((*validation.harvest, *validation.select)) if test else None
    read = {name: Tally() for name in ("contexts", "seed") if getattr(config.data, name)}
    pool = None
    if method.takes_pool and config.data.pool is not None:
        read["pool"] = Tally()
        in_test = test.finder() if test else lambda _: False
        near_test = test.near_finder if test else None
        pool = load_pool(config, (*validation.harvest, *validation.select), in_test, read["pool"], near_test)
        read["pool"].notes.append(pool.say())
    shown = (*validation.harvest, *(validation.select if method.crossfits else ()))
    contexts = load_contexts(config, shown, read.get("contexts"))
    seed = tuple(load_seed(config, read.get("seed"))) if config.data.seed else ()
    family = create_family(config.task)
    try_family(family, validation.harvest, validation.select, config.method.seed_rows)
    if family.spans:
        _refuse_long_answers(config, validation)
        if method.draws_phrases and not config.data.seed:
            _refuse_mute_pool(contexts)
    if method.student != "none":
        if config.student.kind is not None:
            own = chosen_student(config)
            if isinstance(own, StudentRecipe):
                # With cross-fitting, students train without select rows.
                judged = () if method.crossfits else validation.select
                try_student(own, family, (*validation.harvest, *validation.select), judged, config.seed)
        # A user's own student has no base model, but the label check still needs one.
        base = None if config.student.own and not method.doubts_labels(config) else config.student.model
        for model in filter(None, (base, config.method.mistakes_of)):
            where = resolve(model, kind="student", report=progress.note if progress else None)
            check_base(model, where, config.task.family, "fresh" if config.student.own else config.student.head)
    return RunData(validation, test, sealed, contexts, seed, pool, read, _unused(config, method))


def _unused(config: RunConfig, method: Method) -> str:
    """Return a note on sources that the method does not use; empty if there are none."""
    used = {
        "pool": (method.takes_pool, "crossfit (the default), pool and annotate use it"),
        "seed": (method.takes_seed, "crossfit (the default), s3, s3+gold and seed-only use it"),
    }
    given = [(name, who) for name, (takes, who) in used.items() if getattr(config.data, name) is not None and not takes]
    return " ".join(f"data.{name} is not used by method.name={config.method.name}: {who}." for name, who in given)


def _refuse_one_context(rows: Sequence[Example]) -> None:
    """Refuse rows that all share a context: they are one fold, so no student could be judged on rows it has not seen."""
    if rows[0].context and len(units_by_context(rows)) == 1:
        raise DataError(
            f"all {len(rows):,} validation rows have one context, and cross-fitting keeps the rows of a context in one fold: "
            f"{shown(rows[0].context)}.",
            hint="Give rows with several contexts, or choose method.name: s3.",
        )


def _refuse_long_answers(config: RunConfig, validation: Validation) -> None:
    """Refuse answers longer than the student's window: a word is at least one token."""
    window = config.student.max_length
    for row in (*validation.harvest, *validation.select):
        words = min(count_words(answer.text) for answer in row.answers)
        if words >= window:
            raise DataError(
                f"the answer of validation row {row.id.rpartition('-')[2]} has {words} words, "
                f"which do not fit into a window of student.max_length={window} tokens.",
                hint="Raise student.max_length, shorten the answer, or remove the row.",
            )


def _refuse_mute_pool(contexts: Sequence[str]) -> None:
    """Refuse contexts that contain no phrase to ask a question about."""
    if not any(draw_spans(context, 1, random.Random(0)) for context in contexts):
        raise DataError(
            f"none of the {len(contexts)} contexts has a phrase, a name, a number or a date to ask for.",
            hint="Give longer contexts, in the language of the task, with data.contexts.",
        )
