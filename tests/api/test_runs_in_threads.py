"""Several runs at once, in threads of one process that has imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from world import build_world

CODE = """
import sys, threading
from pathlib import Path
import stepsynth as ss

folder, failed = Path(sys.argv[1]), []
changes = {"method.label_check": "harvest", "method.rounds": 0}
begin = threading.Barrier(3)

def call(number):
    try:
        begin.wait()
        ss.load_config(folder / "config.yaml", changes).run(folder / f"run-{number}", progress=False)
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=call, args=[number]) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("; ".join(failed) or 0)
"""

# What runs import at first, each in a thread of its own.
FIRST = """
import sys, threading
from stepsynth.students import batches, classifier, probe
from stepsynth.students.checking import check_base

model, failed = sys.argv[1], []
sys.setswitchinterval(1e-5)
begin = threading.Barrier(3)
calls = [
    lambda: probe._load(model),
    lambda: classifier._architecture(pooled=True),
    lambda: probe._load(model),
]

def call(number):
    try:
        begin.wait()
        calls[number]()
    except BaseException as error:
        failed.append(repr(error))

threads = [threading.Thread(target=call, args=[number]) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit("; ".join(failed) or 0)
"""


def test_large_libraries_may_be_needed_by_several_threads_first(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world")
    model = str(world.folder / "student")
    done = subprocess.run([sys.executable, "-c", FIRST, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_first_runs_of_a_process_may_be_begun_together(tmp_path: Path) -> None:
    """Large libraries import their parts lazily, which several threads at once do not survive by themselves."""
    world = build_world(tmp_path / "world")
    done = subprocess.run([sys.executable, "-c", CODE, str(world.folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    models = [(world.folder / f"run-{number}" / "models" / "round-0" / "head.safetensors").read_bytes() for number in range(3)]
    assert models[0] == models[1] == models[2]
