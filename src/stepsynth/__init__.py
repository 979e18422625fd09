"""stepsynth: training sets for small models, written by large ones, steered by mistakes.

    import stepsynth as ss

    task = ss.Classification("tickets", "Decide which team a ticket belongs to.", {"billing": "invoices", "technical": "faults"})
    run = ss.synthesize(task, validation="labelled.csv", test="test.csv")
    run.dataset(), run.scores, run.student.predict(["Where is my invoice?"])

Everything public is here; each name is imported on first use, so ``import stepsynth`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepsynth.api.calls import compare, plan, synthesize
    from stepsynth.api.comparison import Comparison
    from stepsynth.api.config import Config, load_config
    from stepsynth.api.listing import runs
    from stepsynth.api.nouns import (
        S3,
        Annotate,
        AnthropicTeacher,
        Budget,
        Classification,
        CrossFit,
        EmbeddedTeacher,
        ExtractiveQA,
        FunctionTeacher,
        Gold,
        GoldGen,
        Method,
        MultiLabel,
        OpenAITeacher,
        Pair,
        S3WithGold,
        SeedOnly,
        SelfTraining,
        Source,
        Student,
        Task,
        Teacher,
        TeacherAlone,
        ZeroGen,
    )
    from stepsynth.api.run import Run
    from stepsynth.api.student import TrainedStudent
    from stepsynth.api.sweep import Sweep, sweep
    from stepsynth.errors import (
        AssetError,
        BudgetError,
        ConfigError,
        DataError,
        Interrupted,
        RunError,
        StepsynthError,
        TeacherError,
        UserError,
    )
    from stepsynth.filters import RowFilter
    from stepsynth.methods.prompted import PromptPlan
    from stepsynth.students.own import StudentRecipe
    from stepsynth.tasks import TaskFamily
    from stepsynth.tracking import TrackedRun, TrackedSummary, Tracker
    from stepsynth.types import Example

__all__ = [
    "S3",
    "Annotate",
    "AnthropicTeacher",
    "AssetError",
    "Budget",
    "BudgetError",
    "Classification",
    "Comparison",
    "Config",
    "ConfigError",
    "CrossFit",
    "DataError",
    "EmbeddedTeacher",
    "Example",
    "ExtractiveQA",
    "FunctionTeacher",
    "Gold",
    "GoldGen",
    "Interrupted",
    "Method",
    "MultiLabel",
    "OpenAITeacher",
    "Pair",
    "PromptPlan",
    "RowFilter",
    "Run",
    "RunError",
    "S3WithGold",
    "SeedOnly",
    "SelfTraining",
    "Source",
    "StepsynthError",
    "Student",
    "StudentRecipe",
    "Sweep",
    "Task",
    "TaskFamily",
    "Teacher",
    "TeacherAlone",
    "TeacherError",
    "TrackedRun",
    "TrackedSummary",
    "Tracker",
    "TrainedStudent",
    "UserError",
    "ZeroGen",
    "__version__",
    "compare",
    "load_config",
    "plan",
    "runs",
    "sweep",
    "synthesize",
]

__version__ = "0.2.0.dev0"

_PLACES = {
    "calls": ("compare", "plan", "synthesize"),
    "comparison": ("Comparison",),
    "config": ("Config", "load_config"),
    "listing": ("runs",),
    "run": ("Run",),
    "student": ("TrainedStudent",),
    "sweep": ("Sweep", "sweep"),
}
_MODULES = {name: f"stepsynth.api.{module}" for module, names in _PLACES.items() for name in names}
_MODULES |= {"RowFilter": "stepsynth.filters", "TaskFamily": "stepsynth.tasks", "Example": "stepsynth.types"}
_MODULES |= dict.fromkeys(("TrackedRun", "TrackedSummary", "Tracker"), "stepsynth.tracking")
_MODULES |= {"PromptPlan": "stepsynth.methods.prompted", "StudentRecipe": "stepsynth.students.own"}
_MODULES |= {name: "stepsynth.errors" for name in __all__ if name.endswith("Error") or name == "Interrupted"}


# Type checkers see the imports above, and so a name that does not exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'stepsynth' has no attribute {name!r}")
        found: object = getattr(import_module(_MODULES.get(name, "stepsynth.api.nouns")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
