"""The quick start against a real server: Hugging Face's ``transformers serve`` around a real small model.

    python benchmarks/real_server.py

The other tests of the ``openai`` teacher ask servers of our own, which agree with us by birth. This
one asks an OpenAI-compatible server that somebody else wrote, in an environment of its own, about
the shipped example: ``stepsynth plan``, a small ``stepsynth run``, and the same run again, which must
ask for nothing. The model is the embedded teacher's GGUF file, unpacked into a folder that the
server can read. On two cores it answers one request at a time at a few words per second: what is
tested is the protocol, not the speed.

Results go to ``benchmarks/results/real_server.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "real_server.json"
CONFIG = ROOT / "examples" / "shop" / "config.yaml"
MODEL = "smollm2-135m"
SERVED = re.compile(r'"POST /v1/chat/completions HTTP/1.1" (\d{3})')
# A smaller run than the example's, not another one: the same stages, prompts, filters and pages.
SMALL = (
    "data.validation.sample=24",
    "data.validation.seed=0",
    "data.test.sample=60",
    "data.test.seed=0",
    "method.rationales=1",
    "method.seed_rows=6",
    "method.rounds=1",
    "method.max_overgeneration=2",
    "student.epochs=3",
    "student.max_length=48",
    "teacher.sampling.max_tokens=32",
)


def unpack(source: Path, folder: Path) -> None:
    """Write a model folder out of a GGUF file; runs in the server's environment.

    ``transformers`` takes a quantised file's weights out as float32 but refuses to write the model
    that it read them into, so they move to a model of the same shape.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    whole = type(read)(read.config)
    whole.load_state_dict(read.state_dict())
    # Without this the server ignores temperature and top_p.
    whole.generation_config.do_sample = True
    whole.generation_config.bos_token_id = tokenizer.bos_token_id
    whole.generation_config.eos_token_id = tokenizer.eos_token_id
    whole.generation_config.pad_token_id = tokenizer.pad_token_id
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class RealServer:
    """``transformers serve`` on a free port; a context manager.

    Args:
        python: of the environment that has it.
        model: the model's folder.
        work: for its log and its cache.
    """

    def __init__(self, python: Path, model: Path, work: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        # The only name that it answers to.
        self.model = str(model)
        self._log = work / "server.log"
        hub = work / "hub"
        # Its list of models is what lies in this folder, and fails where there is none.
        hub.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub)}
        environment.pop("PYTHONPATH", None)
        command = [str(python.with_name("transformers")), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--device", "cpu", "--dtype", "float32"], stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def __enter__(self) -> RealServer:
        until = time.monotonic() + 180
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/health", timeout=5).close()
                return self
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.5)
        self.__exit__()
        raise SystemExit(f"the server did not start; the end of {self._log}:\n{self._log.read_text()[-1500:]}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def completions(self) -> int:
        """Return how many completions its own log says that it answered with 200."""
        return sum(code == "200" for code in SERVED.findall(self._log.read_text(encoding="utf-8", errors="replace")))


def stepsynth(command: str, *more: str, settings: list[str], timeout: float) -> tuple[dict[str, Any], float]:
    """Run a command with ``--json``; return what it printed and its seconds.

    Raises:
        SystemExit: it failed; the message is what it said.
    """
    line = [sys.executable, "-m", "stepsynth", command, str(CONFIG), "--json", *more]
    line += [part for setting in settings for part in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    started = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"stepsynth {command} ended with {done.returncode}:\n{done.stderr[-2000:]}\n{done.stdout[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found, seconds


def try_out(server: RealServer, work: Path, timeout: float) -> dict[str, Any]:
    """Plan, run, and run again; return what came of it.

    Raises:
        SystemExit: a command failed, the second run asked for answers that the first had bought, or the
            server's count is not the run's.
    """
    teacher = {"backend": "openai", "model": server.model, "base_url": server.base_url, "concurrency": 2, "timeout_s": 300}
    settings = [*(f"teacher.{name}={value}" for name, value in teacher.items()), *SMALL, "cache=null"]
    plan, plan_s = stepsynth("plan", settings=settings, timeout=timeout)
    asked_by_plan = server.completions()
    print(f"plan: {plan_s:.0f} s, {asked_by_plan} completions", file=sys.stderr, flush=True)
    out = ["--out", str(work / "run")]
    results, run_s = stepsynth("run", *out, settings=settings, timeout=timeout)
    asked_by_run = server.completions() - asked_by_plan
    print(f"run: {run_s:.0f} s, {asked_by_run} completions", file=sys.stderr, flush=True)
    _, again_s = stepsynth("run", *out, settings=settings, timeout=timeout)
    asked_again = server.completions() - asked_by_plan - asked_by_run
    if asked_again or not asked_by_run:
        raise SystemExit(f"the run asked {asked_by_run} times and, finished, {asked_again} times more.")
    if asked_by_run != results["methods"]["s3"]["requests"]:
        raise SystemExit(f"the server answered {asked_by_run} times, the run counts {results['methods']['s3']['requests']}.")
    return {
        "plan_s": round(plan_s, 1),
        "run_s": round(run_s, 1),
        "again_s": round(again_s, 1),
        "completions": {"plan": asked_by_plan, "run": asked_by_run, "again": asked_again},
        "planned": {name: plan[name] for name in ("requests", "tokens", "minutes")},
        "used": {name: results["methods"]["s3"][name] for name in ("requests", "tokens", "rows", "stages")},
    }


def main() -> None:
    """Make what is missing, start the server, run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ROOT / "runs" / "environments")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "real-server")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one command")
    parser.add_argument("--unpack", nargs=2, type=Path, metavar=("GGUF", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    if options.unpack:
        unpack(*options.unpack)
        return
    sys.path.insert(0, str(ROOT))
    from benchmarks.clients.running import make_environment

    from stepsynth import __version__
    from stepsynth.model_cache import resolve

    python = make_environment("real-server", ROOT / "benchmarks", options.environments.resolve())
    work = options.work.resolve()
    model = work / "model"
    if not (model / "model.safetensors").exists():
        source = resolve(MODEL, kind="teacher")
        subprocess.run([str(python), str(Path(__file__).resolve()), "--unpack", str(source), str(model)], check=True)
    with RealServer(python, model, work) as server:
        found = {"server": "transformers serve", "stepsynth": __version__, **try_out(server, work, options.timeout)}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1) if options.json else f"{found['completions']} completions, run {found['run_s']} s")


if __name__ == "__main__":
    main()
