"""The quick start against real servers: ``transformers serve``, llama.cpp and vLLM around a real small model.

    python benchmarks/real_server.py                       # all of them, one after the other
    python benchmarks/real_server.py --servers llama.cpp

The other tests of the ``openai`` teacher ask servers of our own, which agree with us by birth. This
one asks OpenAI-compatible servers that somebody else wrote, each in an environment of its own, about
the shipped example:

- ``stepsynth models check`` with every setting in use;
- ``stepsynth plan``, a small ``stepsynth run``, and the same run again, which must ask for nothing;
- a run killed (-9) in the middle and resumed, which must not buy an answer twice;
- a run with JSON and two rows per request, and one with log-probabilities;
- another model, a wrong key, a prompt that is too long, a limit that is too high.

The model is the embedded teacher's GGUF file, unpacked into a folder where the server wants that. On two
cores it answers at a few words per second: what is tested is the protocol, not the speed.

Results go to ``benchmarks/results/real_server.json``, one entry per server.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]
RESULTS = ROOT / "benchmarks" / "results" / "real_server.json"
MODEL = "smollm2-135m"
STEPS = ("check", "run", "kill", "json", "logprobs", "refusals")


def measured(name: str, steps: list[str], options: argparse.Namespace) -> str:
    """Start a server, ask it, and keep what came of each step; return the server's version."""
    from benchmarks.servers.kinds import SERVERS
    from benchmarks.servers.steps import Commands, checked, killed, refusals, small_run, variant

    from stepsynth import __version__
    from stepsynth.model_cache import resolve

    work = options.work.resolve() / SERVERS[name].needs
    for folder in ("run", "killed", "json", "logprobs"):
        shutil.rmtree(work / folder, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    with SERVERS[name](Path(resolve(MODEL, kind="teacher")), options.environments.resolve(), work) as server:
        version, commands = server.version(), Commands(server, work, options.timeout)
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "check": lambda: {"check": checked(commands)},
            "run": lambda: small_run(commands),
            "kill": lambda: {"killed": killed(commands, after=options.kill_after)},
            "json": lambda: {"json": variant(commands, "json")},
            "logprobs": lambda: {"logprobs": variant(commands, "logprobs")},
            "refusals": lambda: {"refusals": refusals(commands)},
        }
        for step in steps:
            _keep(name, {"version": version, "stepsynth": __version__, **ways[step]()})
    return version


def _keep(name: str, found: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {**results.get(name, {}), **found}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make what is missing, ask one server after the other and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("transformers serve", "llama.cpp", "vLLM")
    parser.add_argument("--servers", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="what to do; results of other steps stay")
    parser.add_argument("--kill-after", type=int, default=5, help="answers before the kill")
    parser.add_argument("--environments", type=Path, default=ROOT / "runs" / "environments")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "real-server")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one command")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    for name in options.servers:
        version = measured(name, list(options.steps), options)
        if not options.json:
            print(f"{name} {version}: {', '.join(options.steps)}")
    if options.json:
        print(RESULTS.read_text(encoding="utf-8").rstrip())


if __name__ == "__main__":
    main()
