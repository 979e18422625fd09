"""Clients of a batch API that are killed at fail points and started again; run as a program by tests/test_batch_api.py.

    python tests/batch_client.py KIND URL FOLDER POINT [POINT ...]     # 0: uninterrupted

Each client is a fork, so that imports are paid for once. Prints one JSON object per point.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from forked import forked
from stepsynth.config import BudgetConfig, TeacherConfig
from stepsynth.generation import TeacherClient
from stepsynth.journal import Journal
from stepsynth.teachers import create_teacher
from stepsynth.types import Message, Request, Response, Sampling

__all__ = ["asks", "batch_config", "client"]

# More than one group of answers, so that a job can be brought home in part.
REQUESTS = 150


def batch_config(kind: str, url: str, **changes: Any) -> TeacherConfig:
    """Return the config of a teacher in batch mode."""
    values: dict[str, Any] = {"backend": kind, "model": "loopback", "base_url": url, "mode": "batch", **changes}
    return TeacherConfig(**values)


def asks(count: int, about: str = "kalm", *, max_tokens: int = 64) -> list[Request]:
    """Return requests that differ in their words, and so in their keys."""
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=max_tokens)
    turns = [(Message("user", f"Write text {number} about {about}."),) for number in range(count)]
    return [Request(messages, sampling, 0, "round-0/seed", number, about) for number, messages in enumerate(turns)]


def client(config: TeacherConfig, path: Path, requests: list[Request]) -> dict[str, Response]:
    """Ask in one process, without pauses."""
    journal = Journal(path)
    try:
        client = TeacherClient(config, journal, BudgetConfig(), teacher=create_teacher(config), pause=lambda _: None)
        answers = client.run(requests)
        return {key: answer for key, answer in answers.items() if isinstance(answer, Response)}
    finally:
        journal.close()


def _keys(path: Path, config: TeacherConfig, requests: list[Request]) -> tuple[list[str], list[str]]:
    """Return the keys of all requests, and those that are answered in a journal."""
    identity = config.identity()
    keyed = {request.key(identity): request for request in requests}
    journal = Journal(path)
    try:
        return list(keyed), list(journal.find_answers(list(keyed.items()), identity))
    finally:
        journal.close()


def main() -> None:
    """Kill and resume at each point."""
    warnings.simplefilter("error")
    import aiohttp  # noqa: F401

    kind, url, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    config = batch_config(kind, url)
    for point in map(int, sys.argv[4:]):
        path, requests = folder / f"{kind}-{point}.db", asks(REQUESTS, f"point {point}")
        signal_number, passed = forked(partial(client, config, path, requests), point or -1)
        keys, before = _keys(path, config, requests)
        if signal_number:
            forked(partial(client, config, path, requests), -1)
        _, after = _keys(path, config, requests)
        journal = Journal(path)
        found = {
            "point": point,
            "signal": signal_number,
            "passed": passed,
            "keys": keys,
            "before": before,
            "after": after,
            "open": len(journal.jobs.open()),
            "sent": journal.totals().attempts,
        }
        journal.close()
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
