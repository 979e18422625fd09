"""Questions as SQuAD 1.1 writes them, and beside it the same rows as `datasets` has them."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from stepsynth.exporting.formats.text import JsonLines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stepsynth.exporting.tables import Table
    from stepsynth.tasks import TaskFamily

__all__ = ["Squad"]


class Squad(JsonLines):
    """``NAME.json`` nested as SQuAD 1.1, and ``NAME.jsonl`` flat, with the ``answers`` of `datasets`, for ``load_dataset``."""

    name = "squad"

    def problem(self, family: TaskFamily) -> str:
        """Return that it is for questions only."""
        columns = {"context", "question"} <= set(family.text_columns)
        return "" if family.spans and columns else f"is for questions about passages, not for a {family.task.family!r} task"

    def write(self, table: Table, folder: Path, labels: Sequence[str]) -> None:
        """Write both files; references have no texts, so they have the flat file only."""
        super().write(table, folder, labels)
        if table.group == "references":
            return
        with (folder / f"{self.place(table)}.json").open("w", encoding="utf-8", newline="") as file:
            file.write('{"version": "1.1", "data": [')
            for number, article in enumerate(_articles(table)):
                file.write(("," if number else "") + "\n" + json.dumps(article, ensure_ascii=False))
            file.write("\n]}\n")

    def loading(self) -> str:
        """Return code for `datasets` and pandas."""
        return f'{super().loading()}\njson.load(open("FOLDER/train.json"))["data"]  # SQuAD 1.1'


def _articles(table: Table) -> Iterator[dict[str, Any]]:
    """Yield an article per passage; rows keep their order, so a passage that comes back is another article."""
    numbered = enumerate(table.rows())
    for context, rows in groupby(numbered, key=lambda entry: entry[1]["context"]):
        questions = []
        for number, row in rows:
            spans = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
            answers = [{"text": text, "answer_start": start} for text, start in spans]
            name = row.get("id") or f"{table.name}-{number}"
            questions.append({"id": name, "question": row["question"], "answers": answers})
        yield {"title": "", "paragraphs": [{"context": context, "qas": questions}]}
