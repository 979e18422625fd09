"""Does it scale: many answers through executor and journal, many rows through filters and export?

    python benchmarks/scale.py                                   # 50,000 answers, 100,000 and 1,000,000 rows
    python benchmarks/scale.py answers --answers 50000 --teacher server
    python benchmarks/scale.py waiting --answers 50000           # how much longer does the journal make a run?
    python benchmarks/scale.py rows --rows 1000000
    python benchmarks/scale.py --json

``answers`` sends requests through `stepsynth.generation.TeacherClient` into a new journal, to a teacher in
this process that answers at once or to a loopback server in another one, then opens the run again:
memory above the start, time in the journal's methods, and how long until everything is known again.
``waiting`` asks a loopback server that takes 200 ms, with the journal and with commits that do nothing,
in turn: what is left of the difference is what a run waits for its journal, since commits go on in a
thread beside the requests. ``rows`` judges rows by the rules for training rows, writes them to a journal
and exports data set, numbers and page: memory above the rows themselves. Every part is a process of its
own, so that one's memory is not another's. What a million rows would take: ``benchmarks/parts.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from loopback import LoopbackServer
from stepsynth.config import RunConfig, parse_config
from stepsynth.generation import TeacherClient
from stepsynth.journal import AnswerStore, Journal
from stepsynth.types import Candidate, Example, Message, Request, Response, Sampling, Usage, Verdict

__all__ = ["measure_answers", "measure_rows", "measure_waiting"]

ROOT = Path(__file__).resolve().parents[1]

MB = 2**20
PROMPT = "Here are three reasons why a text may be of this kind. " * 8
WORDS = [f"word{number}" for number in range(5000)]


def rss() -> float:
    """Return the memory of this process in MB."""
    return psutil.Process().memory_info().rss / MB


class Peak:
    """The most memory of this process since it was made, in MB, looked at every 20 ms."""

    def __init__(self) -> None:
        self.start = self.most = rss()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, rss())

    def stop(self) -> float:
        """Return by how much it grew."""
        self._done.set()
        self._thread.join()
        return max(self.most, rss()) - self.start


class Journalled:
    """Seconds during which some thread is in one of the journal's public methods."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._inside = 0
        self._since = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count while inside."""
        names = [name for name, value in vars(Journal).items() if callable(value) and not name.startswith("_")]
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(patch.object(Journal, name, self._timed(getattr(Journal, name))))
            yield

    def _timed(self, method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self._pass(1)
            try:
                return method(*arguments, **named)
            finally:
                self._pass(-1)

        return call

    def _pass(self, step: int) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._inside == 0:
                self._since = now
            self._inside += step
            if self._inside == 0:
                self.seconds += now - self._since
                self.calls += 1


# answers -------------------------------------------------------------------------------


class Instant:
    """An `AsyncTeacher` that answers at once, with a body as long as a server's."""

    async def generate(self, request: Request) -> Response:
        """Answer."""
        text = f"A text about {request.messages[-1].content[-12:]} that is as long as texts usually are, or nearly so."
        return Response(
            text, "stop", Usage(120, 24), raw=json.dumps({"choices": [{"message": {"content": text}}], "pad": "x" * 300})
        )

    async def close(self) -> None:
        """Do nothing."""


def requests(count: int) -> Iterator[Request]:
    """Yield requests that differ in their last words, with prompts of everyday length."""
    for number in range(count):
        messages = (Message("system", "You write texts."), Message("user", f"{PROMPT}Write text number {number:09}"))
        yield Request(messages, Sampling(), 0, "round-0/seed", number, "a")


def config(base_url: str | None, concurrency: int) -> RunConfig:
    """Return a config for the teacher that is measured."""
    teacher = {"backend": "openai", "model": "loopback", "base_url": base_url} if base_url else {"backend": "fake"}
    return parse_config(
        {
            "task": {"name": "scale", "instruction": "Decide.", "labels": {"a": "about a", "b": "about b"}},
            "data": {"validation": {"path": "v.csv"}},
            "teacher": {**teacher, "concurrency": concurrency},
        }
    )


def serve(latency: float) -> None:
    """Be a server until killed; print where."""
    with LoopbackServer(lambda body: f"A text about {body['messages'][-1]['content'][-9:]} of the usual length.") as server:
        server.requests, server.latency = Forgetful(), latency
        print(server.base_url, flush=True)
        threading.Event().wait()


class Forgetful(list[Any]):
    """Keeps nothing: the server's memory is not what is measured."""

    def append(self, value: Any) -> None:
        """Forget."""


def measure_answers(count: int, teacher: str, concurrency: int = 64) -> dict[str, Any]:
    """Ask for answers, then open the run again and ask for the same.

    Args:
        count: answers.
        teacher: ``process`` or ``server``.
        concurrency: requests in flight.
    """
    with tempfile.TemporaryDirectory() as name:
        if teacher == "process":
            return _answers(count, Path(name), config(None, concurrency), Instant()) | {"teacher": teacher}
        with served() as base_url:
            return _answers(count, Path(name), config(base_url, concurrency), None) | {"teacher": teacher}


@contextmanager
def served(latency: float = 0.0) -> Iterator[str]:
    """Have a server in a process of its own; yield its address."""
    command = [sys.executable, __file__, "serve", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def measure_waiting(count: int, concurrency: int = 64, latency: float = 0.2, repeats: int = 2) -> dict[str, Any]:
    """Ask with the journal and with commits that do nothing, in turn.

    Args:
        count: answers of each run.
        concurrency: requests in flight.
        latency: of the server, in seconds.
        repeats: runs of each kind.

    Returns:
        ``share``: the part of the wall time that the journal adds, from the medians; ``busy``: the
        part of it during which some method of the journal was at work, mostly beside the requests.
    """
    walls: dict[str, list[float]] = {"kept": [], "not kept": []}
    busy: list[float] = []
    asked = list(requests(count))
    with served(latency) as base_url:
        found = config(base_url, concurrency)
        for number in range(2 * repeats):
            kind = ("kept", "not kept")[(number + number // 2) % 2]
            clock = Journalled()
            with tempfile.TemporaryDirectory() as name, ExitStack() as stack, closing(_open(Path(name))) as journal:
                if kind == "not kept":
                    for commit in ("commit_answers", "commit_ledger"):
                        stack.enter_context(patch.object(Journal, commit, lambda *_, **__: None))
                else:
                    stack.enter_context(clock.watch())
                started = time.perf_counter()
                answers = TeacherClient(found.teacher, journal, found.budget).run(asked)
                walls[kind].append(time.perf_counter() - started)
            assert all(isinstance(answer, Response) for answer in answers.values())
            if kind == "kept":
                busy.append(clock.seconds / walls[kind][-1])
    kept, free = (statistics.median(walls[kind]) for kind in ("kept", "not kept"))
    return {
        "answers": count,
        "concurrency": concurrency,
        "latency_s": latency,
        "wall_s": {kind: [round(wall, 2) for wall in found] for kind, found in walls.items()},
        "efficiency": round(count * latency / (concurrency * kept), 3),
        "share": round(1 - free / kept, 4),
        "busy": round(statistics.median(busy), 4),
    }


def _open(folder: Path) -> Journal:
    return Journal(folder / "journal.db", AnswerStore.shared(folder / "answers.db"))


def _answers(count: int, folder: Path, found: RunConfig, teacher: Instant | None) -> dict[str, Any]:
    with closing(_open(folder)) as journal:
        # Imports and the event loop are no part of what grows.
        TeacherClient(found.teacher, journal, found.budget, teacher=teacher).run(list(requests(8)))
    asked = list(requests(count))
    clock, peak = Journalled(), Peak()
    started = time.perf_counter()
    with clock.watch(), closing(_open(folder)) as journal:
        answers = TeacherClient(found.teacher, journal, found.budget, teacher=teacher).run(asked)
    wall, grew = time.perf_counter() - started, peak.stop()
    missing = sum(not isinstance(answer, Response) for answer in answers.values())
    held = sum(len(a.text) + len(a.raw) for a in answers.values() if isinstance(a, Response)) / MB
    del answers
    started, worked = time.perf_counter(), time.process_time()
    with closing(_open(folder)) as journal:
        again = TeacherClient(found.teacher, journal, found.budget, teacher=teacher).run(asked)
    resumed, worked = time.perf_counter() - started, time.process_time() - worked
    assert len(again) == count
    return {
        "answers": count,
        "failed": missing,
        "wall_s": round(wall, 2),
        "per_second": round(count / wall),
        "grew_mb": round(grew, 1),
        "texts_mb": round(held, 1),
        "journal_s": round(clock.seconds, 2),
        "journal_share": round(clock.seconds / wall, 4),
        "journal_calls": clock.calls,
        "resume_s": round(resumed, 2),
        "resume_cpu_s": round(worked, 2),
        "journal_mb": round(sum(file.stat().st_size for file in folder.glob("journal.db*")) / MB, 1),
    }


# rows ----------------------------------------------------------------------------------


def rows(count: int) -> list[Candidate]:
    """Return candidates of which a tenth repeat an earlier one, with the little that a stage keeps of each."""
    messages = (Message("user", "Write a text."),)
    found = []
    for number in range(count):
        seed = number if number % 10 else number // 2
        words = [WORDS[(seed * step + step * step) % len(WORDS)] for step in (1, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)]
        request = Request(messages, Sampling(), 0, "round-0/seed", number, "ab"[number % 2])
        found.append(Candidate.of(request, f"{number:064}", f"{' '.join(words)} {seed}."))
    return found


def measure_rows(count: int) -> dict[str, Any]:
    """Judge rows, write them to the journal, export data set, results and page; memory is what comes on top of the rows."""
    from stepsynth.filters import FilterPipeline
    from stepsynth.report.derived import write_exports
    from stepsynth.run import RunDirectory

    found = config(None, 1)
    gold = [
        Example(f"harvest-{i}", f"Gold text number {i} of {' '.join(WORDS[i : i + 12])} and more.", "ab"[i % 2])
        for i in range(200)
    ]
    candidates = rows(count)
    rules = FilterPipeline.for_rows(found.task, gold, gold, {"a": count, "b": count})
    peak, started = Peak(), time.perf_counter()
    verdicts = rules.judge(candidates, [])
    judged, judge_mb = time.perf_counter() - started, peak.stop()
    dropped = sum(not verdict.accepted for verdict in verdicts)
    with (
        tempfile.TemporaryDirectory() as name,
        closing(RunDirectory.open(Path(name) / "run", found)) as directory,
        closing(Journal(directory.journal_path)) as journal,
    ):
        peak, started = Peak(), time.perf_counter()
        _written(journal, verdicts)
        written, write_mb = time.perf_counter() - started, peak.stop()
        del verdicts, candidates
        peak, started = Peak(), time.perf_counter()
        write_exports(journal, directory)
        exported, export_mb = time.perf_counter() - started, peak.stop()
        size = (directory.path / "dataset.jsonl").stat().st_size / MB
    return {
        "rows": count,
        "dropped": dropped,
        "judge_s": round(judged, 2),
        "judge_mb": round(judge_mb, 1),
        "write_s": round(written, 2),
        "write_mb": round(write_mb, 1),
        "export_s": round(exported, 2),
        "export_mb": round(export_mb, 1),
        "dataset_mb": round(size, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def _written(journal: Journal, verdicts: list[Verdict]) -> None:
    journal.start({"validation_sha256": "x"}, {})
    journal.finish_stage("round-0/seed", 0, "seed", verdicts, {"targets": {}, "missing": {}}, 0.0)


# report --------------------------------------------------------------------------------


def apart(*arguments: object) -> dict[str, Any]:
    """Measure one part in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["all", "answers", "waiting", "rows", "serve"], default="all")
    parser.add_argument("--answers", type=int, default=50_000)
    parser.add_argument("--teacher", choices=["process", "server"], default="process")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="of the server, for waiting")
    parser.add_argument("--repeats", type=int, default=2, help="for waiting")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    o = parser.parse_args()
    if o.part == "serve":
        serve(o.latency)
    elif o.part == "answers":
        print(json.dumps(measure_answers(o.answers, o.teacher, o.concurrency), indent=1))
    elif o.part == "waiting":
        print(json.dumps(measure_waiting(o.answers, o.concurrency, o.latency, o.repeats), indent=1))
    elif o.part == "rows":
        print(json.dumps(measure_rows(o.rows), indent=1))
    else:
        answers = [apart("answers", "--answers", o.answers, "--teacher", name) for name in ("process", "server")]
        waiting = apart("waiting", "--answers", o.answers, "--concurrency", o.concurrency, "--repeats", o.repeats)
        rows = [apart("rows", "--rows", n) for n in (100_000, 1_000_000)]
        found = {"cores": os.cpu_count(), "answers": answers, "waiting": waiting, "rows": rows}
        out = ROOT / "benchmarks" / "results" / "scale.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(json.dumps(found, indent=1) if o.json else lines(found))


def lines(found: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    said = []
    for part in found["answers"]:
        said.append(
            f"{part['answers']:,} answers ({part['teacher']}): {part['per_second']:,} per second, {part['grew_mb']:.0f} MB more, "
            f"known again after {part['resume_s']:.1f} s"
        )
    part = found["waiting"]
    said.append(
        f"{part['answers']:,} answers of a server that takes {part['latency_s']:g} s, {part['concurrency']} in flight: "
        f"the journal takes {100 * part['share']:.1f} % of the time, and is at work in {100 * part['busy']:.1f} % of it"
    )
    for part in found["rows"]:
        said.append(
            f"{part['rows']:,} rows: judged in {part['judge_s']:.0f} s with {part['judge_mb']:.0f} MB more, "
            f"exported in {part['export_s']:.0f} s with {part['export_mb']:.0f} MB more"
        )
    return "\n".join(said)


if __name__ == "__main__":
    main()
