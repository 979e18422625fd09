"""What the wheel holds, and that it works outside of the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from guard import CHILDREN
from stepsynth import __version__
from stepsynth.cli.starter import STARTERS
from world import build_world

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stepsynth"


def call(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that finds no module of the source tree; only the network guard is on its path."""
    environment = {**os.environ, "PYTHONPATH": str(CHILDREN), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    call(*pip, "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def files(wheel: Path) -> dict[str, bytes]:
    """Name and content of what is in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> str:
    return f"stepsynth-{__version__}.dist-info"


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(files: dict[str, bytes], metadata: str) -> None:
    ours = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    package = {path.relative_to(SOURCE.parent).as_posix(): path.read_bytes() for path in ours}
    assert {path.suffix for path in ours} >= {".py", ".yaml", ".j2", ".css", ".typed"}
    rest = {name for name in files if name not in package and not name.startswith((f"{metadata}/", "stepsynth/starter/data/"))}
    assert rest == set()
    assert {name: files.get(name) == content for name, content in package.items()} == dict.fromkeys(package, True)


def test_the_wheel_holds_the_rows_that_init_writes(files: dict[str, bytes]) -> None:
    """They stand in ``examples/`` in the source tree."""
    wanted = {
        f"stepsynth/starter/data/{family}/{path.name}": path.read_bytes()
        for family, example in STARTERS.items()
        for path in (ROOT / "examples" / example).iterdir()
        if path.name.startswith(("validation.", "test."))
    }
    assert len(wanted) == 2 * len(STARTERS)
    assert {name: content for name, content in files.items() if name.startswith("stepsynth/starter/data/")} == wanted


def test_the_wheel_names_licence_command_and_python(files: dict[str, bytes], metadata: str) -> None:
    assert files[f"{metadata}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert "stepsynth = stepsynth.cli:main" in files[f"{metadata}/entry_points.txt"].decode()
    said = files[f"{metadata}/METADATA"].decode()
    assert f"\nVersion: {__version__}\n" in said
    assert "\nRequires-Python: >=3.11\n" in said
    assert (ROOT / "README.md").read_text(encoding="utf-8") in said


def test_init_from_the_unpacked_wheel_writes_what_it_writes_here(wheel: Path, tmp_path: Path) -> None:
    """No file of ``examples/`` is beside it there."""
    from stepsynth.cli.starter import write_starter

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path / "unpacked")!r})
import stepsynth.cli.starter as starter
assert starter.__file__.startswith({str(tmp_path)!r}), starter.__file__
for family in {sorted(STARTERS)!r}:
    starter.write_starter(Path(family), family)
"""
    (tmp_path / "there").mkdir()
    call(sys.executable, "-c", program, cwd=tmp_path / "there")
    for family in STARTERS:
        write_starter(tmp_path / "here" / family, family)
    written = {place: contents(tmp_path / place) for place in ("here", "there")}
    assert len(written["here"]) == 3 * len(STARTERS)
    assert written["there"] == written["here"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command of an environment that holds the wheel and sees what stepsynth needs, but not stepsynth, of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file names is searched last, and the .pth files in it are not read: no editable install is seen.
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    found = call(folder / "bin" / "python", "-c", "import stepsynth; print(stepsynth.__file__)", cwd=folder).stdout
    assert Path(found.strip()) == site / "stepsynth" / "__init__.py"
    return lambda *arguments, cwd: call(folder / "bin" / "stepsynth", *arguments, cwd=cwd)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(STARTERS))
def test_init_plan_run_and_predict_of_an_installed_wheel(
    installed: Callable[..., subprocess.CompletedProcess[str]], family: str, tmp_path: Path
) -> None:
    """In an empty folder, with the fake teacher and a student of a few thousand weights."""
    student = build_world(tmp_path / "lent").folder / "student"
    here = tmp_path / "empty"
    here.mkdir()
    installed("init", "new", "--task", family, cwd=here)
    small = {"teacher.backend": "fake", "teacher.model": "fake", "student.model": student, "method.name": "s3"}
    small |= {"method.seed_rows": 12, "method.rounds": 1, "method.rationales": 2, "method.label_check": "none"}
    small |= {"student.epochs": 1, "student.min_steps": 0, "student.max_length": 64, "student.stride": 8}
    keys = [piece for key, value in small.items() for piece in ("--set", f"{key}={value}")]
    installed("plan", "new/config.yaml", *keys, cwd=here)
    installed("run", "new/config.yaml", *keys, "--out", "made", cwd=here)
    installed("verify", "made", cwd=here)
    (rows,) = (here / "new").glob("test.*")
    installed("predict", "made", rows, "--out", "predicted.csv", cwd=here)
    for name in ("made/results.json", "made/dataset.jsonl", "made/report.html", "predicted.csv"):
        assert (here / name).stat().st_size > 0
    assert "<style>" in (here / "made" / "report.html").read_text(encoding="utf-8")
