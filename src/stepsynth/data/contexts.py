"""The pool of contexts that new pairs and questions are written about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from stepsynth.data.columns import Columns, describe
from stepsynth.data.examples import check_text, kept_field
from stepsynth.data.rows import read_rows
from stepsynth.data.stratified_sample import draw
from stepsynth.errors import ConfigError, DataError, did_you_mean
from stepsynth.types import Example
from stepsynth.words import normalised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepsynth.config import RunConfig, SourceConfig
    from stepsynth.data.columns import Tally

__all__ = ["load_contexts"]


def load_contexts(config: RunConfig, harvest: Sequence[Example], tally: Tally | None = None) -> tuple[str, ...]:
    """Return the distinct contexts of ``data.contexts``, or without it those of the harvest half.

    Of contexts that differ only in case and white space, the first is kept.

    Args:
        config: the source has a column ``context``; pairs may name it ``text1`` or ``text2`` like their kept text.
        harvest: gold rows whose contexts the teacher may see.
        tally: receives the counts of the source.

    Returns:
        At least one context; empty if the task's rows have no context.

    Raises:
        DataError: the source or one of its texts is wrong, or the pool is empty.
        ConfigError: the task has no contexts, or the column mapping has a wrong name.
    """
    source, kept = config.data.contexts, kept_field(config.task)
    if not kept:
        if source is not None:
            raise ConfigError(
                f"data.contexts does not apply to the task family {config.task.family!r}: its rows have no context.",
                hint="Remove it; only pairs and questions have contexts.",
            )
        return ()
    if source is None:
        rows: Sequence[Example] = harvest
        what = "the harvest half"
    else:
        rows, what = _read(source, config, tuple(dict.fromkeys(("context", kept))), tally), describe(source)
    pool: dict[str, str] = {}
    for row in rows:
        pool.setdefault(normalised(row.context), row.context)
    if not pool:
        raise DataError(
            f"the pool of contexts is empty: {what} has no rows.",
            hint="Put contexts into data.contexts, or leave it out to use those of the validation rows.",
        )
    return tuple(pool.values())


def _read(source: SourceConfig, config: RunConfig, names: tuple[str, ...], tally: Tally | None) -> list[Example]:
    for name in source.columns:
        if name not in names:
            raise ConfigError(
                f"data.contexts.columns names {name!r}, but contexts are not read from that column.",
                hint=did_you_mean(name, names),
            )

    def rows() -> Iterator[Example]:
        with closing(read_rows(source, Columns((names,), (), dict(source.columns.items())), tally)) as raw_rows:
            for number, raw in enumerate(raw_rows):
                where = f"{f'line {raw.line}' if raw.line else f'row {number}'} of {describe(source)}"
                (value,) = raw.values.values()
                yield Example(f"contexts-{number}", "", context=check_text(value, "context", where))

    if source.sample is None:
        return list(rows())
    return draw(rows(), config.task, source, "contexts", config.seed if source.seed is None else source.seed)
