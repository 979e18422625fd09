"""Experiment trackers: each round's scores, counts and costs go to MLflow, W&B, TensorBoard, trackio or your own.

with tracked_run(Tracking(config, folder, journal, trackers, note)) as tracking:
    run_loop(..., scored=tracking.update)
    tracking.finish(results)

What goes to a tracker is read from the journal, so that a resumed run sends what it has not sent yet. A tracker changes
nothing in the run, and one that fails or hangs is given up with a warning.
"""

from __future__ import annotations

from stepsynth.tracking.base import TrackedRun, TrackedSummary, Tracker
from stepsynth.tracking.following import Tracking, tracked_run
from stepsynth.tracking.making import also_tracked, make_trackers, split_tracking

__all__ = [
    "TrackedRun",
    "TrackedSummary",
    "Tracker",
    "Tracking",
    "also_tracked",
    "make_trackers",
    "split_tracking",
    "tracked_run",
]
