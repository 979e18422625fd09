"""`Config`: the config of a run, from a YAML file or a run directory, that can be run and written again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from stepsynth.api.files import absolute_path, output_folder
from stepsynth.api.nouns import plain_value
from stepsynth.config import RunConfig
from stepsynth.config import load_config as load_run_config
from stepsynth.errors import ConfigError
from stepsynth.tracking import also_tracked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepsynth.api.comparison import Comparison
    from stepsynth.api.nouns import Method
    from stepsynth.api.run import Run
    from stepsynth.runtime.progress import Progress

__all__ = ["Config", "load_config"]


class Config(RunConfig):
    """A checked YAML config: ``config.task``, ``config.method.rounds``, ...; see docs/config.md.

    Examples:
        >>> run = load_config("config.yaml").run()  # doctest: +SKIP
        >>> print(run.config.to_yaml())  # doctest: +SKIP
    """

    _place: Path = PrivateAttr(default=Path("config.yaml"))

    @classmethod
    def of(cls, config: RunConfig, place: Path = Path("config.yaml")) -> Config:
        """Convert a `RunConfig` to this class.

        Args:
            config: the config.
            place: the file or run directory that it was read from; it decides where a run is by default.
        """
        found = cls.model_construct(_fields_set=config.model_fields_set, **dict(config))
        found._place = place
        return found

    def to_yaml(self) -> str:
        """Return a YAML config that gives the same run, for `load_config` and the command line."""
        import yaml

        return str(yaml.safe_dump(self.written(), sort_keys=False, allow_unicode=True))

    def run(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        tracking: object = None,
        progress: bool | Progress | None = None,
    ) -> Run:
        """Run or resume it; see `stepsynth.synthesize`.

        Args:
            out: the run directory; by default ``runs/NAME`` beside the config file, or the run that the config was read from.
            tracking: as for `stepsynth.synthesize`, besides the trackers that the config names.
            progress: see `stepsynth.synthesize`.
        """
        from stepsynth.api.calls import run_config

        config, given = also_tracked(self, tracking)
        return run_config(config, out if out is not None else self._folder(), progress=progress, trackers=given)

    def plan(self, *, trial: bool = False, progress: bool | Progress | None = None) -> dict[str, Any]:
        """Check everything and estimate what a run will take; see `stepsynth.plan`."""
        from stepsynth.api.calls import plan_config

        return plan_config(self, self._folder(), trial=trial, progress=progress)

    def compare(
        self,
        methods: Sequence[Method | str],
        *,
        seeds: int = 5,
        match: str = "rows",
        reference: str | None = None,
        max_seeds: int | None = None,
        jobs: int | None = None,
        on: str | None = None,
        out: str | os.PathLike[str] | None = None,
        tracking: object = None,
        progress: bool | Progress | None = None,
    ) -> Comparison:
        """Compare methods; see `stepsynth.compare`."""
        from stepsynth.api.calls import compare_config

        folder = output_folder(out) if out is not None else self._folder("compare-")
        config, given = also_tracked(self, tracking)
        return compare_config(
            config,
            methods,
            seeds=seeds,
            match=match,
            reference=reference,
            folder=folder,
            max_seeds=max_seeds,
            jobs=jobs,
            on=on,
            progress=progress,
            trackers=given,
        )

    def _folder(self, prefix: str = "") -> Path:
        from stepsynth.run import default_folder

        return default_folder(self._place, self.task.name, prefix)


def load_config(path: str | os.PathLike[str], overrides: Mapping[str, object] | Sequence[str] = ()) -> Config:
    """Read a YAML config, or the one that a run began with.

    Args:
        path: the file; relative paths in it start from its folder. Or a run directory: running its config resumes it.
        overrides: changed keys, ``{"method.rounds": 3}`` or ``["method.rounds=3"]``.

    Raises:
        ConfigError: the file does not exist, a key is unknown, or a value is wrong.

    Examples:
        >>> load_config("config.yaml", {"method.rounds": 3}).run()  # doctest: +SKIP
    """
    import json

    file = absolute_path(path, "the config", "Give the path of a YAML file or of a run.")
    changes = overrides.items() if hasattr(overrides, "items") else ()
    try:
        # JSON is YAML, and quotes keep a text that looks like a number a text.
        given = [f"{key}={json.dumps(plain_value(value))}" for key, value in changes] or list(overrides)
    except TypeError as error:
        raise ConfigError(f"an override is not a plain value: {error}.", hint="Use numbers, texts and lists.") from None
    return Config.of(load_run_config(file, given), file)
