"""Go or no-go: what a trial's evidence says to do next.

    decide(Evidence(...)).sentence

The thresholds are rules of thumb; how often they were right: docs/decisions.md, "Go or no-go".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stepsynth.evaluation.learning import LITTLE_ROOM
from stepsynth.evaluation.statistics import Interval, wilson
from stepsynth.runtime.counting import counted

__all__ = ["Answer", "Decision", "Evidence", "Gain", "Share", "decide"]

Answer = Literal[
    "generate", "labels alone", "label more", "stronger teacher", "label the pool", "self-train", "too thin", "no rows"
]

FEWEST = 10
LEAST_ACCEPTED = 1 / 3
LEAST_ANSWERED = 0.5


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval.

    Attributes:
        value: in [0, 1].
        ci95: its interval.
        n: of how many rows.
    """

    value: float
    ci95: Interval
    n: int

    @classmethod
    def of(cls, right: int, n: int) -> Share | None:
        """Return the share of ``right`` in ``n`` with its Wilson interval; ``None`` if ``n`` is 0."""
        return cls(right / n, wilson(right, n), n) if n else None

    @property
    def count(self) -> int:
        """How many rows the share stands for."""
        return round(self.value * self.n)


@dataclass(frozen=True)
class Gain:
    """What twice as many labels would bring a linear probe.

    Attributes:
        more: additional labelled rows.
        value: gain in score.
        ci95: its interval.
    """

    more: int
    value: float
    ci95: Interval


@dataclass(frozen=True)
class Evidence:
    """What a trial found out.

    Attributes:
        teacher: gold rows that the teacher labels right; for questions the mean F1 of its answers; ``None`` if most of its
            answers gave no decision.
        accepted: sample rows that passed the filters, of those written; ``None`` if the method writes none.
        fits: accepted sample rows whose label a probe of the gold rows guesses; ``None`` if no probe can judge any.
        limit: share of gold rows with the same labels that the probe gets right; ``None`` as for ``fits``.
        chance: share of those sample rows that one and the same label would get right.
        labels: gold rows that the probe gets right in cross-validation; ``None`` if there is no probe.
        guess: share of gold rows with the most frequent label.
        gain: from the probe's learning curve; ``None`` if there is none.
        judges: whether a probe can judge rows of this family at all.
        undecided: answers of the teacher that gave no decision, and count as guesses in its score.
    """

    teacher: Share | None
    accepted: Share | None = None
    fits: Share | None = None
    limit: float | None = None
    chance: float = 0.0
    labels: Share | None = None
    guess: float = 0.0
    gain: Gain | None = None
    judges: bool = True
    undecided: int = 0


@dataclass(frozen=True)
class Decision:
    """What to do next.

    Attributes:
        answer: one of `Answer`.
        sentence: the same with its reasons.
        more: for ``label more``, how many rows to label; otherwise ``None``.
    """

    answer: Answer
    sentence: str
    more: int | None = None


def decide(found: Evidence, pool_rows: int = 0, *, joins: bool = False) -> Decision:
    """Decide by the first rule that applies.

    First, do the rows that the teacher writes *fit* their labels?

    - *poor*: the interval of the accepted rows ends below 1/3 (2 of 20). In the runs that were measured at least 0.3 passed;
      below that most of the money buys dropped rows. Or the interval of the fitting rows ends below ``limit``: they fit less
      often than real rows of the same labels do, and with 20 rows only a large difference shows that.
    - *good*: at least 10 rows were judged (fewer have intervals that say nothing), by a probe that is better than the most
      frequent label, and the interval of the fitting rows begins above ``chance``. Where no probe can judge (questions), the
      interval of the accepted rows begins above 1/3.
    - *unclear*: neither.

    And does the teacher *know* the task? It is *weak* if its interval ends below the probe's score on the labels alone (below
    0.5 for the F1 of questions), and *able* if its value reaches that. Being weak is no veto for a family with labels: a
    teacher may write good rows for labels that it cannot tell apart. (One that labels 56 % of the rows right lifted a student
    from 76 to 78 % and more.)

    A method that writes no rows (``teacher``) gets the answer *no rows*; with a pool to label (``annotate``), *label the pool* if
    the teacher is able, *self-train* if it is weak, else *too thin*. For all others the first of these applies:

    1. Labels alone at 95 % or more: *labels alone*. Written rows helped where labels left room, and not there.
    2. Good rows: *generate*. For questions only if the teacher is able (a weak one: *stronger teacher*; otherwise *too thin*),
       since nothing else vouches for their answers.
    3. Poor rows, with a pool of texts without labels: *label the pool* if the teacher is able, otherwise *self-train* on it.
    4. Poor rows: *label more* if the teacher is weak and the learning curve's interval of the gain is above 0, otherwise
       *stronger teacher*.
    5. Unclear rows: *label more* if that interval is above 0, since labels then are the surer buy.
    6. Unclear rows, an able teacher (not for questions): as for good rows. It knows the task at least as well as the labels
       show it, and in the twelve cells of benchmarks/deciding.py written rows cost requests and no points.
    7. Otherwise *too thin*.

    Args:
        found: the evidence.
        pool_rows: the user's texts without labels; 0 if there are none.
        joins: whether the method also judges students that learn from these texts; said beside *generate*.
    """
    decision = _decided(found, pool_rows)
    if decision.answer != "generate" or not (pool_rows and joins):
        return decision
    also = f" The run also tries students that learn from your {pool_rows:,} texts."
    return replace(decision, sentence=decision.sentence + also)


def _decided(found: Evidence, pool_rows: int) -> Decision:
    if found.accepted is None and pool_rows:
        return _with_texts(found, _teacher(found), pool_rows)
    if found.accepted is None:
        return _decision("no rows", "This method writes no rows, so there is nothing to decide", _teacher_clause(found))
    if found.labels is not None and found.labels.value >= LITTLE_ROOM:
        room = f"a linear probe of them gets {_percent(found.labels.value)} right in cross-validation, which leaves little room"
        return _decision("labels alone", "Train on your labels alone (method.name: gold)", room)
    rows, teacher = _rows(found), _teacher(found)
    if rows == "good":
        return _with_good_rows(found, teacher)
    if rows == "poor":
        return _with_poor_rows(found, teacher, pool_rows)
    untold = "whether the sample rows fit their labels cannot be told"
    if more := _label_more(found, untold):
        return more
    if found.judges and teacher == "able":
        return _generate(found, _teacher_clause(found), _labels_clause(found), untold)
    return _decision("too thin", f"The evidence is too thin to say: {_why_unclear(found)}", _teacher_clause(found))


def _rows(found: Evidence) -> Literal["good", "poor", "unclear"]:
    accepted, fits = found.accepted, found.fits
    if accepted is None or accepted.ci95[1] < LEAST_ACCEPTED:
        return "poor"
    if not found.judges:
        return "good" if accepted.ci95[0] > LEAST_ACCEPTED else "unclear"
    if fits is None or fits.n < FEWEST or not _probe_tells(found):
        return "unclear"
    if found.limit is not None and fits.ci95[1] < found.limit:
        return "poor"
    return "good" if fits.ci95[0] > found.chance else "unclear"


def _teacher(found: Evidence) -> Literal["able", "weak", "unclear"]:
    needed = LEAST_ANSWERED if not found.judges else found.labels.value if found.labels else None
    if found.teacher is None or needed is None:
        return "unclear"
    if found.teacher.ci95[1] < needed:
        return "weak"
    return "able" if found.teacher.value >= needed else "unclear"


def _probe_tells(found: Evidence) -> bool:
    """Whether the probe is better than always guessing the most frequent label."""
    return found.labels is not None and found.labels.ci95[0] > found.guess


def _with_good_rows(found: Evidence, teacher: str) -> Decision:
    if not found.judges and teacher != "able":
        if teacher == "weak":
            return _decision("stronger teacher", "Take a stronger teacher", _teacher_clause(found))
        return _decision("too thin", "The evidence is too thin to say", _teacher_clause(found))
    return _generate(found, _rows_clause(found), _teacher_clause(found))


def _generate(found: Evidence, *why: str) -> Decision:
    return _decision("generate", "Generate", *why, after=_labels_too(found))


def _labels_too(found: Evidence) -> str:
    """Say what more labels would bring beside written rows, if the learning curve shows a gain; otherwise nothing."""
    gain = found.gain
    if gain is None or gain.ci95[0] <= 0 or round(100 * gain.value) < 1:
        return ""
    return f" {gain.more:,} more labels would help, too: about {_points(gain)} by the learning curve of a probe."


def _points(gain: Gain) -> str:
    low, high = gain.ci95
    return f"{counted(round(100 * gain.value), 'point')} ({100 * low:.0f} to {100 * high:.0f})"


def _with_texts(found: Evidence, teacher: str, pool_rows: int) -> Decision:
    """Decide for a method whose teacher only labels real texts."""
    if teacher == "unclear":
        return _decision("too thin", "The evidence is too thin to say", _teacher_clause(found), _labels_clause(found))
    return _with_pool(teacher, pool_rows, _teacher_clause(found), _labels_clause(found))


def _with_pool(teacher: str, pool_rows: int, *why: str) -> Decision:
    texts = f"your {pool_rows:,} texts without labels"
    if teacher == "able":
        return _decision("label the pool", f"Let the teacher label {texts} (method.name: annotate)", *why)
    return _decision("self-train", f"Train on {texts} by self-training (method.name: pool)", *why)


def _with_poor_rows(found: Evidence, teacher: str, pool_rows: int) -> Decision:
    why = (_rows_clause(found), _teacher_clause(found))
    if pool_rows:
        return _with_pool(teacher, pool_rows, *why)
    more = _label_more(found, *why) if teacher == "weak" else None
    return more or _decision("stronger teacher", "Take a stronger teacher (teacher.model)", *why)


def _label_more(found: Evidence, *why: str) -> Decision | None:
    """Return the advice to label more rows, if the learning curve shows a gain."""
    gain = found.gain
    if gain is None or gain.ci95[0] <= 0:
        return None
    worth = f"that would bring about {_points(gain)} by the learning curve"
    return _decision("label more", f"Label about {gain.more:,} more rows", worth, *why, more=gain.more)


def _why_unclear(found: Evidence) -> str:
    if not found.judges or found.accepted is None:
        return _rows_clause(found)
    if not _probe_tells(found):
        return "a linear probe of your labels is not clearly better than always guessing the most frequent one"
    if found.fits is None or found.fits.n < FEWEST:
        judged = found.fits.n if found.fits else 0
        return f"only {judged:,} of the {found.accepted.n:,} sample rows could be judged"
    return _rows_clause(found)


def _rows_clause(found: Evidence) -> str:
    accepted, fits = found.accepted, found.fits
    if accepted is None:
        return "no rows were written"
    if fits is None or accepted.ci95[1] < LEAST_ACCEPTED:
        return f"{accepted.count:,} of {accepted.n:,} sample rows passed the filters"
    beside = "" if found.limit is None else f"; of your own rows {_percent(found.limit)}"
    return f"a probe of your labels finds the label of {fits.count:,} of {fits.n:,} sample rows ({_percent(fits.value)}{beside})"


def _teacher_clause(found: Evidence) -> str:
    teacher, guessed = found.teacher, ""
    if teacher is None and not found.undecided:
        return "the teacher labelled none of your rows"
    if teacher is None:
        return f"{found.undecided:,} of the teacher's answers for your rows gave no decision: how well it labels is not known"
    if found.undecided:
        guessed = f" ({found.undecided:,} of its answers gave no decision and count as guesses)"
    if not found.judges:
        return f"the teacher answers {teacher.n:,} of your questions with a mean F1 of {_percent(teacher.value)}{guessed}"
    return f"the teacher labels {_percent(teacher.value)} of {teacher.n:,} of your rows right{guessed}"


def _labels_clause(found: Evidence) -> str:
    if found.labels is None:
        return "there is no probe to compare it with"
    return f"a linear probe of your labels gets {_percent(found.labels.value)} right in cross-validation"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _decision(answer: Answer, what: str, *why: str, more: int | None = None, after: str = "") -> Decision:
    return Decision(answer, f"{what}{':' if ':' not in what else ';'} {_listed(why)}.{after}", more)


def _listed(clauses: tuple[str, ...]) -> str:
    return ", and ".join([", ".join(clauses[:-1]), clauses[-1]] if len(clauses) > 1 else clauses)
