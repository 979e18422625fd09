"""``plan --try``: what a trial found, as lines."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from stepsynth.cli.progress_view import dollars
from stepsynth.runtime.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["decision_line", "trial_lines"]

# How many sample rows are printed; all are in --json.
_EXAMPLES = 6
_WIDTH = 160
_ANSWERS = ("label", "labels", "answers")


def trial_lines(trial: dict[str, Any]) -> list[str]:
    """Return the lines of a trial's evidence; none without a trial.

    Args:
        trial: the plan's ``trial``.
    """
    if trial["decision"] is None:
        return []
    lines = [_spent_line(trial["spent"], trial["worst_case"])]
    if trial["labels"] is not None:
        lines.append(_labels_line(trial["labels"]))
    lines.append(_teacher_line(trial["teacher"]))
    if trial["rows"] is not None:
        lines.append(_rows_line(trial["rows"]))
        lines += _examples(trial["rows"]["examples"])
    return lines


def decision_line(trial: dict[str, Any], config: Path, overrides: Sequence[str] = ()) -> str:
    """Return the decision, or without a trial how to get one.

    Args:
        trial: the plan's ``trial``.
        config: the config's file.
        overrides: the changes that the plan was made with.
    """
    if trial["decision"] is not None:
        return f"decision  {trial['decision']['sentence']}"
    worst = trial["worst_case"]
    times = f"at most {counted(worst['requests'], 'time')}"
    cost = "price unknown" if worst["usd"] is None else f"at most {dollars(worst['usd'])} USD" if worst["usd"] else "free"
    changes = "".join(f" --set {shlex.quote(override)}" for override in overrides)
    command = f"stepsynth plan {shlex.quote(str(config))}{changes} --try"
    return f"decision  not yet: {command} asks the teacher {times} ({cost}) and says whether to generate"


def _spent_line(spent: dict[str, Any], worst: dict[str, Any]) -> str:
    usd = "price unknown" if spent["usd"] is None else f"{dollars(spent['usd'])} USD" if spent["usd"] else "free"
    most = f"at most {counted(worst['requests'], 'request')}, {worst['tokens']:,} tokens"
    most += f", {dollars(worst['usd'])} USD" if worst["usd"] else ""
    return f"trial     {counted(spent['requests'], 'request')}, {spent['tokens']:,} tokens, {usd} (forecast: {most})"


def _labels_line(labels: dict[str, Any]) -> str:
    if labels["right"] is None:
        line = "labels    alone: no cross-validation, since a label has a single row"
    else:
        score = _share(labels["right"], labels["of"], labels["ci95"])
        line = f"labels    alone: a linear probe gets {score} in cross-validation"
    curve = labels["curve"]
    if curve is None:
        return line
    low, high = curve["gain_ci95"]
    rows = ", ".join(f"{point['rows']:,}" for point in curve["points"])
    values = ", ".join(f"{100 * point['value']:.0f}" for point in curve["points"])
    gain = f"{100 * curve['gain']:.0f} points ({100 * low:.0f} to {100 * high:.0f})"
    return f"{line}; learning from {rows} rows: {values} %; {counted(curve['more'], 'more row')} would bring about {gain}"


def _teacher_line(teacher: dict[str, Any]) -> str:
    name = str(teacher["metric"]).replace("_", " ")
    line = f"teacher   labels {teacher['n']:,} of your rows: {name} {_percent(teacher['value'], teacher['ci95'])}"
    if teacher["f1"] is not None:
        line += f", F1 {_percent(teacher['f1'], teacher['f1_ci95'])}"
    if teacher["undecided"]:
        line += f"; {teacher['undecided']:,} of these answers gave no decision and count as guesses"
    return line


def _rows_line(rows: dict[str, Any]) -> str:
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in rows["dropped"].items())
    line = f"rows      {rows['accepted']:,} of {rows['written']:,} sample rows passed the filters"
    line += f" (dropped: {dropped})" if dropped else ""
    if rows["judged"] is None:
        return f"{line}; no probe can judge rows of this kind"
    if not rows["judged"]:
        return f"{line}; none could be judged"
    line += f"; the probe gets the label of {_share(rows['fitting'], rows['judged'], rows['ci95'])}"
    return line + ("" if rows["limit"] is None else f"; of your own rows with these labels {100 * rows['limit']:.0f} %")


def _examples(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return some rows to read, of different labels as far as possible."""
    before, ranked = Counter[str](), []
    for number, row in enumerate(rows):
        label = _told_label(row)
        ranked.append((before[label], number))
        before[label] += 1
    # One row of each label, then a second of each, and so on.
    shown = [rows[number] for number in sorted(number for _, number in sorted(ranked)[:_EXAMPLES])]
    return [f"          {_told_label(row)}: {_told_text(row)}" for row in shown]


def _told_label(row: dict[str, Any]) -> str:
    if "answers" in row:
        return str(row["answers"]["text"][0])
    return " + ".join(row["labels"]) if "labels" in row else str(row["label"])


def _told_text(row: dict[str, Any]) -> str:
    text = " | ".join(" ".join(str(value).split()) for key, value in row.items() if key not in _ANSWERS)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _share(right: int, n: int, ci95: list[float]) -> str:
    return f"{right:,} of {n:,} right ({100 * ci95[0]:.0f} to {100 * ci95[1]:.0f} %)"


def _percent(value: float, ci95: list[float]) -> str:
    return f"{100 * value:.0f} % ({100 * ci95[0]:.0f} to {100 * ci95[1]:.0f})"
