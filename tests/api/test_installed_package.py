"""A family, a method and a filter of a package that pip installed from a wheel: run from YAML, and read about when it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import own_families
import own_method
from guard import CHILDREN
from world import World, build_world

SOURCE = Path(__file__).parents[2] / "src"
FILTER = '''
import stepsynth as ss

class NotLong(ss.RowFilter):
    """Drops long rows."""

    reason = "longer than the package likes"

    def __init__(self, words=9):
        self.words = words

    def keep(self, row):
        return len(row.text.split()) <= self.words
'''
POINTS = """
[stepsynth.families]
rating = own_families:Rating
[stepsynth.methods]
between = own_method:Between
[stepsynth.filters]
not-long = package_filter:NotLong
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the package into."""
    folder = tmp_path_factory.mktemp("package")
    wheel = folder / "rows_package-1.0-py3-none-any.whl"
    facts = "rows_package-1.0.dist-info"
    files = {f"{module.__name__}.py": Path(str(module.__file__)).read_text() for module in (own_families, own_method)} | {
        "package_filter.py": FILTER,
        f"{facts}/METADATA": "Metadata-Version: 2.1\nName: rows-package\nVersion: 1.0\n",
        f"{facts}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{facts}/entry_points.txt": POINTS,
    }
    files[f"{facts}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{facts}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder / "site"),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "site"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A config that names all three; no class of this process is in it."""
    world = build_world(tmp_path_factory.mktemp("world"))
    world.write_config({"cache": None})
    config = yaml.safe_load(world.config_path.read_text())
    config["task"] |= {"family": "rating", "options": {"steps": 3}}
    config["method"] = {"name": "between", "label_check": "none", "options": {"per_label": 4}}
    config["filters"] = [{"name": "not-long", "options": {"words": 30}}]
    world.config_path.write_text(yaml.safe_dump(config))
    return world


def command(*arguments: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``stepsynth ARGUMENTS`` where nothing but the package and what is installed can be imported."""
    path = os.pathsep.join(map(str, filter(None, (CHILDREN, site, SOURCE))))
    environment = {**os.environ, "PYTHONPATH": path, "STEPSYNTH_ANSWERS": "off"}
    call = [sys.executable, "-m", "stepsynth", *map(str, arguments)]
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_config_names_what_a_package_brings(site: Path, world: World, tmp_path: Path) -> None:
    done = command("run", world.config_path, "--out", tmp_path / "run", "--json", site=site)
    assert done.returncode == 0, done.stderr
    (method,) = json.loads(done.stdout)["methods"]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (method, stored["task"]["family"]) == ("between", "rating")
    assert (stored["task"]["options"], stored["task"]["identity"]["metric"]) == ({"steps": 3}, "closeness")
    (kept,) = stored["filters"]
    assert (kept["name"], kept["options"]) == ("not-long", {"words": 30})
    other = command("run", world.config_path, "--out", tmp_path / "run", "--set", "method.options={per_label: 5}", site=site)
    assert (other.returncode, "method.options" in other.stderr, other.stderr.count("\n")) == (2, True, 1)

    # Without the package: what is written can be read, and what cannot be done says so in a line.
    assert command("status", tmp_path / "run").returncode == 0
    (tmp_path / "run" / "results.json").unlink()
    read = command("report", tmp_path / "run")
    assert (read.returncode, "rating" in read.stderr) == (0, True), read.stderr
    gone = command("run", world.config_path, "--out", tmp_path / "new")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1), gone.stderr
    assert "'rating'" in gone.stderr
    assert not (tmp_path / "new").exists()
