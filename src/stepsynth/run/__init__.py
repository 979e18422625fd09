"""A run on disk: its directory, the data that it starts from, the settings that it decides when it begins, its pauses."""

from __future__ import annotations

from stepsynth.run.directory import (
    DISK_ERRORS,
    JOURNAL,
    RunDirectory,
    answers_path,
    default_folder,
    disk_errors,
    folder_name,
    no_run,
    refuse_input,
    write_atomic,
    write_out,
)

__all__ = [
    "DISK_ERRORS",
    "JOURNAL",
    "RunDirectory",
    "answers_path",
    "default_folder",
    "disk_errors",
    "folder_name",
    "no_run",
    "refuse_input",
    "write_atomic",
    "write_out",
]
