"""The sections ``method``, ``budget``, ``report`` and ``filters`` of a config, and the whole config."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from stepsynth.config.replicas import HERE
from stepsynth.config.sections import FREE_SOURCE_KEYS, SOURCES, DataConfig, Section, StudentConfig, TaskConfig, ask_family
from stepsynth.config.teacher import FREE_TEACHER_KEYS, TeacherConfig
from stepsynth.registry import METHODS
from stepsynth.types import digest

__all__ = [
    "POOL_SIMILARITY",
    "SEED_END",
    "USER_CACHE",
    "BudgetConfig",
    "MatchConfig",
    "MethodConfig",
    "OwnFilterConfig",
    "ReportConfig",
    "RunConfig",
    "TrackerConfig",
    "earlier_defaults",
    "with_later_keys",
]

# Stands for the answers file that all runs of a user share; `run.answers_path` knows its path.
USER_CACHE = Path("user")
# Seeds are below this number.
SEED_END = 2**31


# Keys added since version 0.1.0, each with the value that stands for the behaviour before the key existed. A stored
# config without the key means that value; in a config that a user writes, a missing key means the default.
_LATER_KEYS: dict[str, dict[str, Any]] = {
    "data": {"pool": None},
    "task": {"paragraphs": "auto", "prompt_style": "small", "options": {}, "identity": {}},
    "method": {
        "seed_from": "reasons",
        "demonstrations": "drawn",
        "rows_per_answer": 1,
        "folds": 4,
        "final": "auto",
        "options": {},
        "feedback": "none",
        "pool_rows": 1000,
        "pool_labels": "hard",
        "annotate_rows": 0,
        "annotate_per_mistake": 0,
        "second_reading": "none",
        "readings": 1,
        "near_duplicates": "none",
        "pool_near_duplicates": "none",
    },
    "teacher": {"headers": {}, "reasoning_tokens": 0, "requests_per_minute": None, "longest_pause_s": 3600.0, "logprobs": False},
    "student": {"head": "fresh", "keep": "best", "precision": "float32", "kind": None, "options": {}},
}
_LATER_KEYS["teacher"] |= HERE
# Defaults of version 0.1.0 that have changed since. Stored configs hold the values of these keys.
_EARLIER_DEFAULTS: dict[str, dict[str, Any]] = {
    "method": {"name": "s3"},
    "student": {"epochs": 5, "min_steps": 0},
}


def with_later_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a stored config, with missing later keys set to the values that their absence means.

    Args:
        values: from `RunConfig.resolved`, of this version or an earlier one.
    """
    filled = dict(values)
    for section, keys in _LATER_KEYS.items():
        if isinstance(own := values.get(section, {}), dict):
            filled[section] = {**own, **{key: deepcopy(before) for key, before in keys.items() if key not in own}}
    return filled


def earlier_defaults() -> dict[str, Any]:
    """Return the defaults of version 0.1.0 that differ from today's, by dotted key."""
    found = {}
    for table in (_EARLIER_DEFAULTS, _LATER_KEYS):
        for section, keys in table.items():
            fields = RunConfig.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
            found.update({f"{section}.{key}": before for key, before in keys.items() if fields[key].default != before})
    return found


# Of the pool, for runs that begin without another value; see docs/decisions.md, "Near-duplicates".
POOL_SIMILARITY = 0.7
# Below 0.3, most texts of one kind are alike.
Similarity = Annotated[float, Field(ge=0.3, le=1.0, strict=True)]


class MatchConfig(Section):
    """How much a method may use before it stops generating; set by ``compare``.

    Attributes:
        unit: ``requests``, ``tokens`` or ``usd``.
        amount: the limit, counted over the answers of the plan, whether paid for now or earlier.
    """

    unit: Literal["requests", "tokens", "usd"]
    amount: float = Field(gt=0)


class MethodConfig(Section):
    """How data is made.

    Attributes:
        name: ``s3`` (the loop), ``seed-only`` (no extrapolation), ``zerogen`` (plain prompts, no
            reasons, no feedback), ``goldgen`` (extrapolates every harvest row, not only mistakes),
            ``gold`` (the validation rows themselves), ``s3+gold`` (both), ``crossfit`` (the loop with
            every validation row in it, by cross-fitting), ``teacher`` (the large model answers itself), or
            the name of your own, see `stepsynth.methods.Method`.
        seed_rows: accepted rows before any extrapolation, spread evenly over the labels.
        seed_from: what seed rows are written from: ``reasons`` that the teacher gave before (S3, section 3.1), the
            ``instruction`` and the label's description alone (as in ZeroGen), or ``gold`` rows of their label, shown as the
            teacher's own answers; labels without a gold row use reasons. ``examples`` is that for pairs: the rows that are
            shown have other contexts than the new one. ``auto`` is for ``crossfit`` ``gold`` on classification and multi-label
            tasks and ``examples`` on pairs, unless ``task.prompts.seed`` is set or, for pairs, templates are those for small
            teachers; else ``reasons``.
        demonstrations: the gold rows that a prompt shows before the one to imitate: ``fixed`` repeats the same ones within
            a label, so that an engine or provider with a prompt cache reads them once; ``drawn`` draws new ones each
            time. ``auto`` is ``fixed`` with templates for capable teachers and one row per answer, else ``drawn``.
        rounds: rounds of error extrapolation after the seed.
        rows_per_mistake: accepted rows per mistake of the harvest half.
        rationales: reasons collected per label (paper: 50); 0 writes seed rows without reasons.
        rationales_per_row: reasons shown in one seed prompt (paper: 3). Unless set, 1 with our templates for capable
            teachers where a text stands alone and one row is asked for at a time.
        rows_per_answer: rows asked for in one answer, as a numbered list (with ``teacher.structured``, as a JSON list);
            needs templates for capable teachers, or your own with ``{{ count }}``. Such templates always ask for ten
            reasons in an answer.
        max_overgeneration: most rows asked for per wanted row before a stage ends short.
        feedback: ``drops``: if most of a label's answers are dropped for one reason, the next requests for it say what to
            avoid, and a label that still yields next to nothing is given up; ``none`` keeps asking as before, up to
            ``max_overgeneration``. ``auto`` is ``drops``.
        balance: ``even`` spreads a round's rows over the labels that have mistakes,
            ``mistakes`` spreads them in proportion to mistakes, as the paper does.
        label_check: ``harvest`` drops rows whose label a probe fitted on the harvest half
            doubts; ``none`` trusts the teacher, as the paper does; ``auto`` is ``harvest`` for
            every method but ``zerogen``, which by definition sees no gold row, and ``crossfit``,
            where the probe would have seen the rows that judge.
        label_check_ratio: the asked label must be at least this many times as likely as the
            likeliest one.
        second_reading: whether the teacher is asked for the answer to each row that would be kept, without being shown the
            one it was written for: ``drop`` rows that most readings answer otherwise, ``relabel`` gives them that answer,
            ``none`` asks nothing. With either, the gold rows are read at the end of the run.
        readings: answers per text that is read, also by ``annotate``; several are drawn at ``teacher.sampling.temperature``.
        stop: ``rounds`` runs all rounds; ``no-gain`` ends the loop after two rounds in a row
            without a gain on the select half.
        mistakes_of: base model of another student whose mistakes are extrapolated (transfer).
        few_shot: ``teacher`` only: gold rows of the harvest half shown per label.
        folds: ``crossfit`` only: parts of the validation rows, each predicted by a student that learned
            from the others; fewer if no label has that many rows.
        final: ``crossfit`` only: what the final student learns from: ``labels`` (validation rows),
            ``written`` rows, ``both`` together or in two ``stages`` (written rows, then validation
            rows), ``pool`` (texts of ``data.pool`` with a student's labels, then validation rows) or ``all`` (written
            rows and pool, then validation rows); ``auto`` chooses by cross-validation between ``labels``, ``stages``
            and, with a pool, ``pool`` and ``all``. ``weighted`` is ``stages`` in which a written row counts by the
            probability that a student of validation rows alone gives its label.
        pool_labels: what students learn of a pool's texts: the ``hard`` label that another student finds likeliest, or its
            probabilities as they are (``soft``), moved towards the labels' shares in the validation rows (``aligned``), or
            these with less weight for the texts of which that student is less sure (``confident``).
        pool_rows: texts drawn from ``data.pool``, from which students learn; all of them if there are fewer.
        annotate_rows: ``crossfit`` only: texts of ``data.pool`` that the teacher labels beside the seed rows that it writes.
        annotate_per_mistake: ``crossfit`` only: texts of ``data.pool`` like each mistake that it labels beside the written rows.
        near_duplicates: written rows whose text is at least this similar to a row with the same label are dropped;
            ``none`` keeps them. See `stepsynth.near_duplicates`.
        pool_near_duplicates: texts of ``data.pool`` at least this similar to a test row, a labelled row or a drawn text
            are left out; ``none`` leaves out equal ones only. ``auto`` is 0.7.
        match: generate until this is used up, whatever the number of rows; for comparisons.
        options: constructor arguments of your own method; part of a run's identity.
    """

    name: str = Field(default="crossfit", min_length=1, max_length=80)
    seed_rows: int = Field(default=400, ge=2)
    seed_from: Literal["auto", "reasons", "instruction", "gold", "examples"] = "auto"
    demonstrations: Literal["auto", "fixed", "drawn"] = "auto"
    rounds: int = Field(default=2, ge=0, le=50)
    rows_per_mistake: int = Field(default=2, ge=1, le=100)
    rationales: int = Field(default=50, ge=0, le=1000)
    rationales_per_row: int = Field(default=3, ge=1, le=20)
    rows_per_answer: int = Field(default=1, ge=1, le=50)
    max_overgeneration: float = Field(default=6.0, ge=1.0, le=100.0)
    feedback: Literal["auto", "drops", "none"] = "auto"
    balance: Literal["even", "mistakes"] = "even"
    label_check: Literal["auto", "harvest", "none"] = "auto"
    label_check_ratio: float = Field(default=1.0, gt=0.0, le=1.0)
    second_reading: Literal["none", "drop", "relabel"] = "none"
    readings: int = Field(default=1, ge=1, le=50)
    stop: Literal["rounds", "no-gain"] = "rounds"
    mistakes_of: str | None = None
    few_shot: int = Field(default=0, ge=0, le=50)
    folds: int = Field(default=4, ge=2, le=20)
    final: Literal["auto", "labels", "written", "both", "stages", "pool", "all", "weighted"] = "auto"
    pool_labels: Literal["hard", "soft", "aligned", "confident"] = "hard"
    pool_rows: int = Field(default=1000, ge=1, le=100_000)
    annotate_rows: int = Field(default=0, ge=0, le=100_000)
    annotate_per_mistake: int = Field(default=0, ge=0, le=100)
    near_duplicates: Similarity | Literal["none"] = "none"
    pool_near_duplicates: Similarity | Literal["auto", "none"] = "auto"
    match: MatchConfig | None = None
    options: dict[str, Any] = Field(default={})

    @property
    def row_similarity(self) -> float | None:
        """From which similarity on written rows are near-duplicates; ``None`` if none are dropped."""
        return None if self.near_duplicates == "none" else self.near_duplicates

    @property
    def pool_similarity(self) -> float | None:
        """From which similarity on texts of the pool are left out; ``None`` if only equal ones are."""
        if self.pool_near_duplicates == "auto":
            return POOL_SIMILARITY
        return None if self.pool_near_duplicates == "none" else self.pool_near_duplicates

    @property
    def seed_template(self) -> Literal["extrapolate", "seed"]:
        """The template that seed rows are asked for with."""
        return "extrapolate" if self.seed_from == "gold" else "seed"


class BudgetConfig(Section):
    """Hard caps; ``None`` means no cap.

    Attributes:
        requests: most requests sent in this run directory.
        tokens: most tokens (prompt and completion) bought.
        usd: most dollars spent; needs a teacher whose price is known.
    """

    requests: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    usd: float | None = Field(default=None, gt=0)


class ReportConfig(Section):
    """What a run's page shows beyond what the run needs. Nothing here can change a result.

    Attributes:
        gap: whether to compare written rows with labelled ones when a run ends, see `stepsynth.training.gap`.
    """

    gap: bool = Field(default=True, strict=True)


class OwnFilterConfig(Section):
    """A user's own filter.

    Attributes:
        name: the name that a package registered it under; in a script, the class's name.
        options: its constructor arguments; part of a run's identity.
    """

    name: str = Field(min_length=1, max_length=80)
    options: dict[str, Any] = Field(default_factory=dict)


class TrackerConfig(Section):
    """An experiment tracker that a run is reported to. In a YAML config its options stand beside the name.

    Attributes:
        name: ``mlflow``, ``wandb``, ``tensorboard``, ``trackio``, or one that a package registered.
        options: its constructor arguments. They are no part of a run's identity.
    """

    name: str = Field(min_length=1, max_length=80)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _options_beside_the_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" not in value:
            raise ValueError("a tracker needs a name: mlflow, wandb, tensorboard, trackio or your own")
        if not isinstance(value, dict) or set(value) == {"name", "options"}:
            return value
        return {"name": value["name"], "options": {key: inner for key, inner in value.items() if key != "name"}}

    def entry(self) -> str | dict[str, Any]:
        """Return it as a config writes it: the name, or a mapping with the options beside it."""
        return {"name": self.name, **self.options} if self.options else self.name


class RunConfig(Section):
    """One run.

    ``cache`` is the file with answers that several runs share: ``user`` is the file that all runs of
    a user share, a relative path is beside the run directory, ``null`` turns it off. ``filters`` are
    the user's own rules, see `stepsynth.filters.own`. ``tracking`` names the experiment trackers that the run is reported
    to: a name, a mapping with a name and options, or a list of them; they change no result.
    """

    task: TaskConfig
    data: DataConfig
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    method: MethodConfig = MethodConfig()
    budget: BudgetConfig = BudgetConfig()
    seed: Annotated[int, Field(ge=0, lt=SEED_END)] = 0
    cache: Path | None = USER_CACHE
    report: ReportConfig = ReportConfig()
    filters: tuple[OwnFilterConfig, ...] = ()
    tracking: tuple[TrackerConfig, ...] = ()

    # Filters given from Python, by their position in ``filters``.
    _given_filters: tuple[Any, ...] | None = PrivateAttr(default=None)

    @property
    def given_filters(self) -> tuple[Any, ...] | None:
        """The filter objects, if they were given from Python."""
        return self._given_filters

    def with_filters(self, given: tuple[Any, ...]) -> RunConfig:
        """Return a copy with filter objects from Python, one per entry of ``filters``; ``None`` for registered ones."""
        copy = self.model_copy()
        copy._given_filters = given
        return copy

    @field_validator("filters", mode="before")
    @classmethod
    def _named_filters(cls, value: Any) -> Any:
        return (
            [{"name": entry} if isinstance(entry, str) else entry for entry in value]
            if isinstance(value, list | tuple)
            else value
        )

    @field_validator("tracking", mode="before")
    @classmethod
    def _one_or_more_trackers(cls, value: Any) -> Any:
        return () if value is None else (value,) if isinstance(value, str | dict) else value

    @model_validator(mode="after")
    def _fits_its_family(self, info: ValidationInfo) -> RunConfig:
        ask_family(self.task.family, "check_config", self, info)
        return self

    @model_validator(mode="after")
    def _fits_its_method(self) -> RunConfig:
        # A user's own method checks when it is made, so that a finished run can be read without its class.
        if self.method.name in METHODS.built_in:
            METHODS.load(self.method.name).check(self)
        return self

    def resolved(self) -> dict[str, Any]:
        """Return plain JSON values with defaults filled in.

        Keys of `_LATER_KEYS` are left out at the value that their absence means, so that older
        configs come out as they were stored and printed. `parse_stored` restores the same config
        from these values; `parse_config` would fill in the defaults instead.
        """
        values = self.model_dump(mode="json")
        for section, keys in _LATER_KEYS.items():
            for key, before in keys.items():
                if values[section][key] == before:
                    del values[section][key]
        if not values["filters"]:
            del values["filters"]
        if self.report == ReportConfig():
            del values["report"]
        values["tracking"] = [entry.entry() for entry in self.tracking]
        if not values["tracking"]:
            del values["tracking"]
        for name in SOURCES:
            source = values["data"].get(name) or {}
            for key in FREE_SOURCE_KEYS[1:]:
                if source.get(key) is None:
                    source.pop(key, None)
        return values

    def written(self) -> dict[str, Any]:
        """Return the values for a YAML file that gives this config: `resolved` plus the keys whose defaults have changed."""
        values, filled = self.resolved(), with_later_keys(self.resolved())
        for dotted in earlier_defaults():
            section, key = dotted.split(".")
            values[section].setdefault(key, filled[section][key])
        # Filled in by the run itself.
        values["task"].pop("identity", None)
        return values

    def result_digest(self) -> str:
        """Return the sha256 of everything that can change a result.

        Concurrency, time-outs, attempts, caps, trackers, what a page shows, and the paths of the cache and the files cannot.
        """
        values = self.resolved()
        # The order of the labels is that of the student's outputs, but the digest sorts the keys of a mapping.
        values["task"]["labels"] = list(values["task"]["labels"].items())
        del values["budget"], values["cache"]
        values.pop("report", None)
        values.pop("tracking", None)
        for key in FREE_TEACHER_KEYS:
            values["teacher"].pop(key, None)
        # Of several servers the first stands for all; the others may come and go.
        values["teacher"]["base_url"] = self.teacher.base_url
        # The rows themselves are compared on resuming, so their files may move or change format.
        for source in SOURCES:
            for key in FREE_SOURCE_KEYS:
                (values["data"].get(source) or {}).pop(key, None)
        return digest(values)
