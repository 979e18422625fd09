"""The long ones: real models, random kills. `make test-slow`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conditions import Margin
from loopback import LoopbackServer
from stepsynth.model_cache import is_cached
from world import build_world

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stepsynth", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.learns
@pytest.mark.skipif(not (is_cached("smollm2-135m") and is_cached("minilm-l6")), reason="the embedded models are not pulled")
def test_the_shipped_example_runs_with_the_embedded_models_and_repeats(tmp_path: Path, margin: Margin) -> None:
    """Two runs that share nothing write the same rows: the same batches get the same answers."""
    small = [
        "teacher.model=smollm2-135m",
        "method.seed_rows=24",
        "method.rounds=1",
        "method.rationales=4",
        "method.name=s3",
        "student.epochs=2",
        "student.min_steps=20",
        "cache=null",
    ]
    overrides = [piece for override in small for piece in ("--set", override)]
    rows = []
    for name in ("one", "two"):
        config = ROOT / "examples" / "shop" / "config.yaml"
        done = subprocess.run(
            command("run", config, "--out", tmp_path / name, "--json", *overrides),
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        margin.above(json.loads(done.stdout)["methods"]["s3"]["rounds"][0]["rows"] / 24, 0.5, name)
        rows.append((tmp_path / name / "dataset.jsonl").read_bytes())
    assert rows[0] == rows[1]


def test_random_kills_over_a_real_server_lose_nothing_and_ask_nothing_committed_again(tmp_path: Path) -> None:
    """Twenty random kill -9: the same data set as an undisturbed run, extra requests within what was in flight."""
    world = build_world(tmp_path / "world")
    dice = random.Random(0)
    with LoopbackServer(latency=0.05) as server:
        teacher = {"backend": "openai", "model": "loopback", "base_url": server.base_url, "concurrency": 8}
        world.write_config({"teacher": teacher, "method.seed_rows": 300})
        calm = subprocess.run(
            command("run", world.config_path, "--out", tmp_path / "calm" / "run", "-q"),
            env=environment(),
            check=False,
            capture_output=True,
        )
        assert calm.returncode == 0, calm.stderr
        undisturbed = len(server.completions)
        kills, endings = 0, []
        while kills < 20:
            process = subprocess.Popen(
                command("run", world.config_path, "--out", tmp_path / "torn" / "run", "-q"), env=environment()
            )
            try:
                endings.append(process.wait(dice.uniform(0.5, 9)))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                endings.append(process.wait())
                kills += 1
        # A run ends well or is killed: no attempt may stumble over what the one before it left.
        assert set(endings) <= {0, -signal.SIGKILL}
        assert kills == 20 or endings[-1] == 0
        last = subprocess.run(
            command("run", world.config_path, "--out", tmp_path / "torn" / "run", "-q"), env=environment(), check=False
        )
        assert last.returncode == 0
        extra = len(server.completions) - 2 * undisturbed
    assert kills > 0
    # At most 64 answers, or those of a quarter of a second, wait for their commit, and 8 are in flight.
    assert extra <= kills * (64 + 8)
    for name in ("dataset.jsonl", "results.json"):
        assert (tmp_path / "torn" / "run" / name).read_bytes() == (tmp_path / "calm" / "run" / name).read_bytes()
