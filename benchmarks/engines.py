"""Tokens a second of the embedded engine beside llama.cpp: the same GGUF file, prompts and lengths, side by side in one run.

    python benchmarks/engines.py                            # 1, 16 and 64 sequences, two repeats
    python benchmarks/engines.py --sequences 16 --json

- ``openvino``: the embedded teacher's engine, in a process of its own, with the settings of the teacher;
- ``llama.cpp``: its own HTTP server from the wheel ``xllamacpp``, with as many slots as sequences and one thread per core.

Every answer has exactly ``--tokens`` tokens, so both do the same work: prompts of the shipped example, read anew in each
repeat, then tokens. A request to the server costs some tenths of a millisecond besides. The wheel of llama.cpp is built without
the processor's newer instructions, and both compute with what the file holds: these figures compare what users can install,
not what the engines could do. Results: ``benchmarks/results/engines.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.generation import requests  # noqa: E402
from benchmarks.servers.kinds import KEY, LlamaCpp  # noqa: E402

from stepsynth.config import RunConfig, load_config  # noqa: E402
from stepsynth.model_cache import resolve  # noqa: E402
from stepsynth.teachers.local_openvino import chat_prompt, open_engine  # noqa: E402
from stepsynth.types import Request  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "engines.json"
CORES = len(os.sched_getaffinity(0))


class Slots(LlamaCpp):
    """llama.cpp's server with one slot per sequence and one thread per core."""

    niceness: ClassVar[int] = 0
    sequences = 1

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [*super().command(), str(self.sequences), str(CORES), str(1024 * self.sequences)]


def openvino(config: RunConfig, model: Path, asked: list[Request], tokens: int) -> float:
    """Return the seconds in which the embedded engine answers."""
    import openvino_genai

    engine = open_engine(model, config.teacher)
    tokenizer = engine.get_tokenizer()
    settings = openvino_genai.GenerationConfig()
    settings.apply_chat_template, settings.max_new_tokens, settings.ignore_eos = False, tokens, True
    settings.do_sample, settings.temperature, settings.rng_seed = True, 0.8, 1
    prompts = [chat_prompt(tokenizer, request.messages) for request in asked]
    engine.generate(["Hello"], [settings])
    started = time.perf_counter()
    answers = engine.generate(prompts, [settings] * len(prompts))
    seconds = time.perf_counter() - started
    if len(answers) != len(prompts):
        raise SystemExit(f"the engine gave {len(answers)} answers to {len(prompts)} prompts")
    return seconds


def llama_cpp(server: Slots, asked: list[Request], tokens: int) -> float:
    """Return the seconds in which llama.cpp answers."""

    def ask(messages: list[dict[str, str]], length: int) -> int:
        body = {
            "messages": messages,
            "max_tokens": length,
            "ignore_eos": True,
            "temperature": 0.8,
            "seed": 1,
            "cache_prompt": True,
        }
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        call = urllib.request.Request(f"{server.base_url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(call, timeout=1800) as reply:
            return int(json.load(reply)["usage"]["completion_tokens"])

    ask([{"role": "user", "content": "Hello"}], tokens)
    prompts = [[{"role": m.role, "content": m.content} for m in request.messages] for request in asked]
    with ThreadPoolExecutor(server.sequences) as pool:
        started = time.perf_counter()
        written = sum(pool.map(lambda messages: ask(messages, tokens), prompts))
        seconds = time.perf_counter() - started
    if written != tokens * len(prompts):
        raise SystemExit(f"the server wrote {written} tokens where {tokens * len(prompts)} were asked for")
    return seconds


def main() -> None:
    """Measure and report; with ``--one`` measure the embedded engine once, as the program itself calls it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="an embedded GGUF model")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--environments", type=Path, default=ROOT / "runs" / "environments")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, nargs=2, metavar=("SEQUENCES", "REPEAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    model = Path(resolve(options.model, kind="teacher"))

    def prepared(sequences: int, repeat: int) -> tuple[RunConfig, list[Request]]:
        changes = [f"teacher.model={options.model}", f"teacher.concurrency={sequences}"]
        config = load_config(ROOT / "examples" / "shop" / "config.yaml", changes)
        return config, requests(config, max(8, 2 * sequences), repeat)

    if options.one:
        config, asked = prepared(*options.one)
        print(openvino(config, model, asked, options.tokens))
        return
    rates: dict[tuple[int, str], list[float]] = defaultdict(list)
    for repeat in range(options.repeats):
        for sequences in options.sequences:
            _, asked = prepared(sequences, repeat)
            sides = ("openvino", "llama.cpp") if repeat % 2 == 0 else ("llama.cpp", "openvino")
            for side in sides:
                if side == "openvino":
                    line = [sys.executable, __file__, "--model", options.model, "--tokens", str(options.tokens)]
                    done = subprocess.run(
                        [*line, "--one", str(sequences), str(repeat)], capture_output=True, text=True, check=True
                    )
                    seconds = float(done.stdout.split()[-1])
                else:
                    with tempfile.TemporaryDirectory() as work:
                        server = Slots(model, options.environments.resolve(), Path(work))
                        server.sequences = sequences
                        with server:
                            seconds = llama_cpp(server, asked, options.tokens)
                rates[sequences, side].append(options.tokens * len(asked) / seconds)
                print(f"{sequences} sequences, {side}: {rates[sequences, side][-1]:.0f} tokens/s", file=sys.stderr, flush=True)
    rows: list[dict[str, Any]] = []
    for sequences in options.sequences:
        ours, theirs = rates[sequences, "openvino"], rates[sequences, "llama.cpp"]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        rows.append({"sequences": sequences, "openvino": ours, "llama.cpp": theirs, "ratio": statistics.median(ratios)})
        print(
            f"| {sequences} | {statistics.median(ours):.0f} | {statistics.median(theirs):.0f} | {statistics.median(ratios):.2f} |"
        )
    found = {"model": options.model, "tokens": options.tokens, "cores": CORES, "cpu": platform.processor(), "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
