"""The config: YAML in, a checked and frozen `RunConfig` out.

    config = load_config(Path("my.yaml"), overrides=["method.rounds=3"])

Unknown keys are refused with the nearest known one. Secrets never appear here: a teacher
names the environment variable that holds its key.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stepsynth.errors import ConfigError, did_you_mean
from stepsynth.types import Sampling, digest

__all__ = [
    "BudgetConfig",
    "DataConfig",
    "MethodConfig",
    "RunConfig",
    "SamplingConfig",
    "SourceConfig",
    "StudentConfig",
    "TaskConfig",
    "TeacherConfig",
    "load_config",
    "parse_config",
]

Backend = Literal["openvino", "openai", "fake"]
Prompt = Literal["rationale", "seed", "extrapolate"]
_SECRET = re.compile(r"^(sk-|sk_|hf_|AIza|xai-|gsk_|Bearer\s)|^[A-Za-z0-9+/_-]{40,}$")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TaskConfig(_Section):
    """What the student has to decide.

    Attributes:
        family: kind of task; this version has ``classification``.
        name: short name, used in file names and titles.
        instruction: one sentence that tells a person what to decide.
        text_kind: what one text is, for instance ``sentence from a movie review``.
        labels: label -> what it means, in the order in which they are reported.
        prompts: own templates by name (``rationale``, ``seed``, ``extrapolate``).
    """

    family: Literal["classification"] = "classification"
    name: str = Field(min_length=1, max_length=80)
    instruction: str = Field(min_length=1, max_length=2000)
    text_kind: str = Field(default="text", min_length=1, max_length=200)
    labels: dict[str, str] = Field(min_length=1)
    prompts: dict[Prompt, str] = {}

    @field_validator("labels", mode="before")
    @classmethod
    def _named_labels(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {str(label): "" for label in value}
        if isinstance(value, dict):
            if any(isinstance(label, bool) for label in value):
                raise ValueError("YAML reads yes, no, on and off as true and false; put such a label in quotes")
            return {str(k): "" if v is None else str(v) for k, v in value.items()}
        return value

    @field_validator("labels")
    @classmethod
    def _two_labels(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) < 2:
            raise ValueError(f"one label only ({next(iter(value))!r}); a classifier needs at least two")
        return value


class SourceConfig(_Section):
    """Where rows come from: a file or a hub data set, never both.

    Attributes:
        path: CSV, TSV, JSONL or Parquet file, ``.gz`` allowed; relative to the config;
            ``${NAME}`` is an environment variable.
        hub: data set id on the Hugging Face hub, for instance ``stanfordnlp/imdb``.
        config: the hub data set's configuration name.
        revision: the hub data set's commit or tag.
        split: the hub data set's split.
        columns: our name (``text``, ``label``) -> the source's column.
        labels: the source's label value -> our label.
        sample: how many rows to draw, stratified by label; all when absent.
        seed: seed of that draw; the run's seed when absent.
    """

    path: Path | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    split: str = "train"
    columns: dict[Literal["text", "label"], str] = {}
    labels: dict[str, str] = {}
    sample: int | None = Field(default=None, ge=2)
    seed: int | None = Field(default=None, ge=0)

    @field_validator("labels", mode="before")
    @classmethod
    def _string_keys(cls, value: Any) -> Any:
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of 'path' (a file) and 'hub' (a data set id)")
        return self


class DataConfig(_Section):
    """Gold data.

    Attributes:
        validation: the small labelled set; cut into a harvest and a select half.
        test: the sealed test set, read once at the end; optional.
        harvest_share: share of the validation rows that mistakes may come from.
    """

    validation: SourceConfig
    test: SourceConfig | None = None
    harvest_share: float = Field(default=0.5, ge=0.1, le=0.9)


class SamplingConfig(_Section):
    """Sampling parameters; see `stepsynth.types.Sampling`."""

    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=2.0)
    max_tokens: int = Field(default=64, ge=1, le=32_768)

    def frozen(self) -> Sampling:
        """Return the same values as a plain frozen `Sampling`."""
        return Sampling(**self.model_dump())


class TeacherConfig(_Section):
    """The large model.

    Attributes:
        backend: ``openvino`` (embedded, in process), ``openai`` (any server with
            ``/chat/completions``) or ``fake`` (deterministic, for tests).
        model: embedded model name, folder or GGUF file (openvino), or the server's model id.
        base_url: the server's root, for instance ``http://127.0.0.1:8000/v1``.
        api_key_env: name of the environment variable with the key, never the key.
        sampling: see `SamplingConfig`.
        concurrency: requests in flight.
        timeout_s: seconds for one attempt.
        attempts: attempts per request before it counts as failed.
    """

    backend: Backend = "openvino"
    model: str = "smollm2-135m"
    base_url: str | None = None
    api_key_env: str | None = None
    sampling: SamplingConfig = SamplingConfig()
    concurrency: int = Field(default=64, ge=1, le=4096)
    timeout_s: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=5, ge=1, le=20)

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is None or (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value) and not _SECRET.match(value)):
            return value
        raise ValueError(
            "this looks like a key, not like the name of an environment variable; "
            "export the key as OPENAI_API_KEY and write that name here"
        )

    @model_validator(mode="after")
    def _server(self) -> TeacherConfig:
        if self.backend == "openai" and not self.base_url:
            raise ValueError("backend 'openai' needs a base_url, for instance 'https://api.openai.com/v1'")
        if self.base_url and not re.match(r"https?://", self.base_url):
            raise ValueError(f"base_url {self.base_url!r} must start with http:// or https://")
        if self.base_url and "@" in self.base_url.split("//", 1)[1].split("/", 1)[0]:
            raise ValueError("base_url holds a user name or password; put the key into an environment variable")
        return self

    def identity(self) -> dict[str, object]:
        """Return what can change an answer besides prompt and sampling."""
        # One spelling for one server: a trailing slash must not make every answer be paid for again.
        address = self.base_url.rstrip("/") if self.base_url else None
        precision = {"precision": "f32"} if self.backend == "openvino" else {}
        return {"backend": self.backend, "model": self.model, "base_url": address, **precision}


class StudentConfig(_Section):
    """The small model and how it is trained (from scratch every round).

    Attributes:
        model: embedded model name, local folder or hub id of a sequence-classification base.
        max_length: tokens per text, longer ones are cut.
        epochs: passes over the data; at least ``min_steps`` optimiser steps are made.
        min_steps: least number of optimiser steps, for small data sets.
        learning_rate: peak of the linear schedule.
        batch_size: rows per step.
        warmup: share of the steps with rising learning rate.
        weight_decay: of AdamW.
        label_smoothing: mass taken from the asked label, a guard against label noise.
    """

    model: str = "minilm-l6"
    max_length: int = Field(default=128, ge=8, le=8192)
    epochs: int = Field(default=5, ge=1, le=1000)
    min_steps: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    batch_size: int = Field(default=32, ge=1, le=4096)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class MethodConfig(_Section):
    """How data is made.

    Attributes:
        name: ``s3`` (the loop) or ``seed-only`` (no extrapolation).
        seed_rows: accepted seed rows, spread evenly over the labels.
        rounds: rounds of error extrapolation after the seed.
        rows_per_mistake: accepted rows per mistake of the harvest half.
        rationales: reasons collected per label (paper: 50).
        rationales_per_row: reasons shown in one seed prompt (paper: 3).
        max_overgeneration: most requests per wanted row, before a stage ends short.
        balance: ``even`` spreads a round's rows over the labels that have mistakes,
            ``mistakes`` gives each label as many as it has mistakes, as the paper does.
        label_check: ``harvest`` drops rows whose label a probe fitted on the harvest half
            doubts; ``none`` trusts the teacher, as the paper does.
        label_check_ratio: the asked label must be at least this many times as likely as the
            likeliest one.
    """

    name: Literal["s3", "seed-only"] = "s3"
    seed_rows: int = Field(default=400, ge=2)
    rounds: int = Field(default=2, ge=0, le=50)
    rows_per_mistake: int = Field(default=2, ge=1, le=100)
    rationales: int = Field(default=50, ge=1, le=1000)
    rationales_per_row: int = Field(default=3, ge=1, le=20)
    max_overgeneration: float = Field(default=6.0, ge=1.0, le=100.0)
    balance: Literal["even", "mistakes"] = "even"
    label_check: Literal["harvest", "none"] = "harvest"
    label_check_ratio: float = Field(default=1.0, gt=0.0, le=1.0)

    @property
    def extrapolation_rounds(self) -> int:
        """Rounds of extrapolation that really run: none for ``seed-only``."""
        return 0 if self.name == "seed-only" else self.rounds


class BudgetConfig(_Section):
    """Hard caps; ``None`` is no cap.

    Attributes:
        requests: most requests sent in this run directory.
        tokens: most tokens (prompt and completion) bought.
    """

    requests: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)


class RunConfig(_Section):
    """One run. ``cache`` is a file with answers that several runs share; ``null`` turns it off."""

    task: TaskConfig
    data: DataConfig
    teacher: TeacherConfig = TeacherConfig()
    student: StudentConfig = StudentConfig()
    method: MethodConfig = MethodConfig()
    budget: BudgetConfig = BudgetConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    cache: Path | None = Path("answers.db")

    @model_validator(mode="after")
    def _enough_rows(self) -> RunConfig:
        if self.method.seed_rows < len(self.task.labels):
            raise ValueError(
                f"method.seed_rows={self.method.seed_rows} is less than one row for each of {len(self.task.labels)} labels"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Return plain JSON values, defaults filled in."""
        return self.model_dump(mode="json")

    def result_digest(self) -> str:
        """Return the sha256 over everything that can change a result.

        Concurrency, time-outs, attempts, caps, the cache's and the files' places cannot.
        """
        values = self.resolved()
        # Labels stand in the order of the student's outputs; the digest sorts the keys of a mapping.
        values["task"]["labels"] = list(values["task"]["labels"].items())
        del values["budget"], values["cache"]
        for key in ("concurrency", "timeout_s", "attempts", "api_key_env"):
            del values["teacher"][key]
        # The rows themselves are compared when a run is resumed, so their files may move.
        for source in ("validation", "test"):
            if values["data"][source]:
                del values["data"][source]["path"]
        return digest(values)


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML config, apply ``key=value`` overrides, make its paths absolute.

    Args:
        path: the YAML file; relative data paths are taken from its folder.
        overrides: ``method.rounds=3`` and the like; values are YAML.

    Raises:
        ConfigError: for a missing or unreadable file, an unknown key, a wrong value.
    """
    if not path.is_file():
        raise ConfigError(f"no config at {str(path)!r}.", hint="Make one with: stepsynth init DIR")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}.", hint="Check its permissions.") from None
    # A date like 2024-02-31 is a ValueError, and so are wrong bytes.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = " ".join(str(error).split())[:200]
        raise ConfigError(f"{str(path)!r} is not valid YAML: {where}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{str(path)!r} holds {type(values).__name__}, not a mapping of sections.", hint="See: stepsynth init DIR"
        )
    for override in overrides or []:
        _apply(values, override)
    return parse_config(values, base=path.parent.resolve())


def parse_config(values: dict[str, Any], base: Path | None = None) -> RunConfig:
    """Check plain values and return the config; relative data paths are joined to ``base``.

    Raises:
        ConfigError: for an unknown key or a wrong value, naming it and what to write.
    """
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    if base is None:
        return config
    data = config.data
    absolute = {name: _absolute(source, base) for name in ("validation", "test") if (source := getattr(data, name))}
    return config.model_copy(update={"data": data.model_copy(update=absolute)})


def _absolute(source: SourceConfig, base: Path) -> SourceConfig:
    if source.path is None:
        return source
    expanded = os.path.expandvars(source.path)
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise ConfigError(
            f"the path {str(source.path)!r} needs the environment variable {unset[1]}, which is not set.", hint="Export it."
        )
    return source.model_copy(update={"path": base / Path(expanded).expanduser()})


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r} is not of the form key=value.", hint="Example: --set method.rounds=3")
    *parents, last = key.split(".")
    node: Any = values
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} holds a plain value, not a section.")
    try:
        node[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value.") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        section = ".".join(location[:-1]) or "the config"
        return f"unknown key {location[-1]!r} in {section}. {did_you_mean(location[-1], known)}"
    if problem["type"] == "missing":
        return f"{where} is missing. Add it to the config."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where or 'config'}: {message}."
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    if problem["type"] == "literal_error":
        options = [word.strip("' ") for word in re.split(r",|\bor\b", problem["ctx"]["expected"])]
        return f"{where} is {shown}. {did_you_mean(str(problem['input']), options)}"
    return f"{where} is {shown}: {message[0].lower()}{message[1:]}."


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in location:
        if part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
        nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)
