"""A run on disk: its directory, the data that it starts from, the settings that it decides when it begins, its pauses."""

from __future__ import annotations

from stepsynth.run.directory import RunDirectory
from stepsynth.run.places import JOURNAL, answers_path, default_folder, folder_name, no_run

__all__ = [
    "JOURNAL",
    "RunDirectory",
    "answers_path",
    "default_folder",
    "folder_name",
    "no_run",
]
