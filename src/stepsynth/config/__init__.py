"""The config: YAML in, a checked and frozen `RunConfig` out.

    config = load_config(Path("my.yaml"), overrides=["method.rounds=3"])

Unknown keys are refused with the nearest known one. Secrets never appear here: a teacher
names the environment variable that holds its key.
"""

from __future__ import annotations

from stepsynth.config.loading import (
    first_problem,
    load_config,
    load_teacher,
    parse_config,
    parse_source,
    parse_stored,
    parse_with,
    read_yaml_file,
)
from stepsynth.config.run import (
    POOL_SIMILARITY,
    SEED_END,
    USER_CACHE,
    BudgetConfig,
    MatchConfig,
    MethodConfig,
    OwnFilterConfig,
    RunConfig,
    TrackerConfig,
    with_later_keys,
)
from stepsynth.config.sections import (
    FREE_SOURCE_KEYS,
    SOURCES,
    DataConfig,
    Family,
    FieldConfig,
    SourceConfig,
    StudentConfig,
    TaskConfig,
)
from stepsynth.config.stored import stored_run, was_edited
from stepsynth.config.teacher import BACKENDS, FAKE, FREE_TEACHER_KEYS, PriceConfig, SamplingConfig, TeacherConfig

__all__ = [
    "BACKENDS",
    "FAKE",
    "FREE_SOURCE_KEYS",
    "FREE_TEACHER_KEYS",
    "POOL_SIMILARITY",
    "SEED_END",
    "SOURCES",
    "USER_CACHE",
    "BudgetConfig",
    "DataConfig",
    "Family",
    "FieldConfig",
    "MatchConfig",
    "MethodConfig",
    "OwnFilterConfig",
    "PriceConfig",
    "RunConfig",
    "SamplingConfig",
    "SourceConfig",
    "StudentConfig",
    "TaskConfig",
    "TeacherConfig",
    "TrackerConfig",
    "first_problem",
    "load_config",
    "load_teacher",
    "parse_config",
    "parse_source",
    "parse_stored",
    "parse_with",
    "read_yaml_file",
    "stored_run",
    "was_edited",
    "with_later_keys",
]
