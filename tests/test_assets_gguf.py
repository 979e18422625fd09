"""GGUF files with tensors that the embedded engine does not read: written anew once, told in one line, or left alone."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from command import stepsynth
from stepsynth.config import TeacherConfig
from stepsynth.errors import AssetError
from stepsynth.model_cache import requantise, resolve
from stepsynth.model_cache.gguf_header import read_header
from stepsynth.model_cache.requantise import readable, unread_types
from stepsynth.teachers.local_openvino import OpenVinoTeacher, open_engine
from stepsynth.testing import make_request
from tiny_gguf import MATRICES, build_tiny_gguf
from world import build_world

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

READ = ("F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K")
# Every other type of weights that the gguf package can turn into floats, and what becomes of it.
UNREAD = {
    **dict.fromkeys(("Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K", "IQ4_NL", "IQ4_XS"), "Q8_0"),
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4"), "Q8_0"),
    **dict.fromkeys(("F32", "BF16", "F64"), "F16"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tensors(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {str(tensor.name): tensor for tensor in GGUFReader(path).tensors}


def answer(path: Path) -> str:
    """Ask the embedded teacher itself, which converts what it must."""
    teacher = OpenVinoTeacher(TeacherConfig(backend="openvino", model=str(path), concurrency=2))
    ((_, response),) = teacher.generate_batch([make_request("he", temperature=0.0, max_tokens=4)], [0])
    assert response.usage.completion_tokens > 0
    return response.text


@pytest.mark.parametrize("kind", READ)
def test_the_engine_reads_what_is_left_alone(kind: str, tmp_path: Path, cache: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", kind)
    assert resolve(str(path), kind="teacher") == path
    answer(path)
    assert not cache.exists(), "nothing was copied"


@pytest.mark.parametrize("kind", ["Q5_0", "Q2_K", "IQ4_XS", "TQ1_0", "F32", "BF16"])
def test_the_engine_reads_what_was_converted_and_not_what_it_was_made_from(kind: str, tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", kind)
    with pytest.raises(AssetError, match="the engine cannot read"):
        open_engine(path, TeacherConfig(concurrency=2))
    answer(path)


@pytest.mark.parametrize("kind", sorted(UNREAD))
def test_every_other_type_is_requantised_and_nothing_else_is_touched(kind: str, tmp_path: Path) -> None:
    """Against the gguf package's own reader and arithmetic."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader
    from gguf.quants import dequantize, quantize

    path = build_tiny_gguf(tmp_path / "model.gguf", "Q8_0", {"blk.0.ffn_up.weight": kind, "blk.0.attn_k.weight": kind})
    said: list[str] = []
    copy = readable(path, said.append)
    assert copy != path
    assert kind in said[0]
    before, after = tensors(path), tensors(copy)
    assert list(before) == list(after)
    for name, tensor in before.items():
        got = after[name]
        assert list(got.shape) == list(tensor.shape)
        if len(tensor.shape) == 1 or tensor.tensor_type.name != kind:
            assert (got.tensor_type, got.data.tobytes()) == (tensor.tensor_type, tensor.data.tobytes())
            continue
        target = GGMLQuantizationType[UNREAD[kind]]
        floats = tensor.data if kind == "F64" else dequantize(tensor.data, tensor.tensor_type)
        assert got.tensor_type == target
        assert got.data.tobytes() == quantize(np.asarray(floats, dtype=np.float32), target).tobytes()
    old, new = GGUFReader(path), GGUFReader(copy)
    for name, field in old.fields.items():
        assert new.fields[name].contents() == field.contents(), name


@pytest.mark.parametrize(
    "changes",
    [
        {"vector": "BF16"},
        {"vector": "F16"},
        {"file_type": None},
        {"file_type": 1},
        {"kind": "Q5_0", "architecture": "llama", "file_type": 0},
        {"kind": "F32", "file_type": 0},
        {"kind": "Q4_0", "kinds": {"blk.0.attn_v.weight": "Q5_1"}, "file_type": None},
    ],
)
def test_headers_and_vectors_that_stop_the_engine_are_mended(changes: dict[str, Any], tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", **changes)
    with pytest.raises(AssetError):
        open_engine(path, TeacherConfig(concurrency=2))
    answer(path)


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_embeddings_in_floats_need_no_copy(kind: str, tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q8_0", {"token_embd.weight": kind, "output.weight": kind})
    assert readable(path, print) == path
    answer(path)


def test_it_is_converted_once_and_again_when_the_copy_or_the_file_changes(tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    said: list[str] = []
    copy = readable(path, said.append)
    assert len(said) == 3
    assert "does not read Q5_0; converting once" in said[0]
    assert readable(path, said.append) == copy
    assert len(said) == 3
    whole = copy.read_bytes()
    copy.chmod(0o644)
    copy.write_bytes(whole[:-1] + b"x")
    assert readable(path, said.append) == copy
    assert copy.read_bytes() == whole
    build_tiny_gguf(path, "Q5_1")
    assert readable(path, said.append) != copy


def test_another_version_of_the_converter_writes_another_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    first = readable(path, lambda _: None)
    monkeypatch.setattr(requantise, "CONVERTER", requantise.CONVERTER + 1)
    assert readable(path, lambda _: None).parent != first.parent


def test_the_request_key_is_the_same_whether_a_file_was_converted_or_not(tmp_path: Path) -> None:
    """It names what the config names, never a place in a cache."""
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    config = TeacherConfig(backend="openvino", model=str(path))
    before = config.identity()
    readable(path, lambda _: None)
    assert config.identity() == before == {"backend": "openvino", "model": str(path), "base_url": None, "precision": "f32"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from stepsynth.model_cache import requantise
from stepsynth.model_cache.requantise import readable
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "publish":
    requantise.publish = die
else:
    seen = []
    copy = requantise._copy
    requantise._copy = lambda *a: die() if len(seen) > 3 else (seen.append(1), copy(*a))
readable(Path(sys.argv[1]), print)
"""


@pytest.mark.parametrize("moment", ["middle", "publish"])
def test_a_kill_in_the_middle_leaves_nothing_half_done(moment: str, tmp_path: Path, cache: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _KILLED, path, moment], env=environment, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [entry.name for entry in (cache / "models").iterdir() if not entry.name.startswith(".")] == []
    assert set(tensors(readable(path, lambda _: None))) >= set(MATRICES)


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        AssetError, match=r"needs 0\.0 GB of disk in .* but 0\.0 GB are free\. Free some space, or set STEPSYNTH_CACHE"
    ):
        readable(path, lambda _: None)
    assert not (cache / "models").exists()


def test_types_that_nobody_reads_are_named_in_one_line(tmp_path: Path) -> None:
    """A type that is newer than the gguf package: its number, and which files work."""
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q8_0")
    data = bytearray(path.read_bytes())
    name = b"blk.0.ffn_up.weight"
    place = data.index(name) + len(name) + 4 + 16
    struct.pack_into("<I", data, place, 31)
    path.write_bytes(data)
    with pytest.raises(AssetError) as caught:
        resolve(str(path), kind="teacher")
    said = str(caught.value)
    assert "holds tensors of types Q8_0 (8), F32 (6), number 31 (1); number 31 can neither be read nor converted" in said
    assert "The engine reads F16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K; " in said
    assert "IQ4_XS" in said.split("are converted")[0]
    assert "\n" not in said


def test_types_that_the_gguf_package_cannot_convert_are_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf.quants

    path = build_tiny_gguf(tmp_path / "model.gguf", "IQ4_XS")

    def unable(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(gguf.quants, "dequantize", unable)
    with pytest.raises(AssetError, match=r"types IQ4_XS \(9\), F32 \(6\); IQ4_XS can neither .* by gguf [\d.]+\. .* update gguf"):
        resolve(str(path), kind="teacher")
    assert not cache.exists(), "nothing was begun"


@pytest.mark.parametrize("kind", ["Q8_1", "Q8_K"])
def test_types_without_a_conversion_are_told_before_anything_is_written(kind: str, tmp_path: Path, cache: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0", {"blk.0.ffn_down.weight": kind})
    with pytest.raises(AssetError, match=rf"types Q5_0 \(8\), F32 \(6\), {kind} \(1\); {kind} can neither be read nor converted"):
        resolve(str(path), kind="teacher")
    assert not cache.exists()


@pytest.mark.parametrize("name", ["model.GGUF", "sha256-0f3a", "model.bin"])
def test_a_gguf_file_of_another_name_is_told_so(name: str, tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / name)
    with pytest.raises(AssetError, match=r"is a GGUF file, but its name does not end in '\.gguf'.* Rename it, or link it"):
        resolve(str(path), kind="teacher")
    path.write_bytes(b"something else")
    with pytest.raises(AssetError, match=r"is not a GGUF file\. Give a GGUF file or an OpenVINO folder"):
        resolve(str(path), kind="teacher")


def test_plan_and_run_tell_it_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = build_world(tmp_path / "world")
    path = build_tiny_gguf(tmp_path / "model.gguf", "Q8_K")
    world.write_config({"teacher": {"backend": "openvino", "model": str(path)}})
    for command in ("plan", "run"):
        outcome = stepsynth(capsys, command, world.config_path)
        assert outcome.code == 2
        assert "Q8_K can neither be read nor converted" in outcome.err
        assert "Traceback" not in outcome.err


def test_networks_that_the_engine_does_not_know_are_told(tmp_path: Path) -> None:
    """With and without a conversion before; a file is not converted for nothing."""
    for kind in ("Q5_0", "Q8_0"):
        path = build_tiny_gguf(tmp_path / f"{kind}.gguf", kind, architecture="gemma3")
        with pytest.raises(AssetError, match=r"is a 'gemma3' model[,;] .*llama, qwen2, qwen3"):
            answer(path)


@pytest.mark.parametrize("keep", [0, 3, 4, 20, 500, 3000])
def test_a_damaged_header_is_one_line(keep: int, tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AssetError, match=r"is not a GGUF file|is damaged: its header cannot be read"):
        resolve(str(path), kind="teacher")


def test_a_file_that_was_cut_off_is_one_line(tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(AssetError, match=r"is cut off: '.*' ends after the end of the file\. Copy or download"):
        resolve(str(path), kind="teacher")


def test_a_split_file_is_left_to_the_engine_or_told(tmp_path: Path) -> None:
    path = build_tiny_gguf(tmp_path / "a-00001-of-00002.gguf", split=2)
    assert readable(path, print) == path
    path = build_tiny_gguf(tmp_path / "b-00001-of-00002.gguf", "Q5_0", split=2)
    with pytest.raises(AssetError, match=r"a part of a split GGUF .*Q5_0.*`llama-gguf-split --merge"):
        readable(path, print)


def test_the_header_is_the_one_that_the_gguf_package_reads(tmp_path: Path) -> None:
    from gguf import GGUFReader

    path = build_tiny_gguf(tmp_path / "model.gguf", "Q5_0")
    header, reader = read_header(path), GGUFReader(path)
    assert [(t.name, t.shape, t.type) for t in header.tensors] == [
        (t.name, tuple(map(int, t.shape)), int(t.tensor_type)) for t in reader.tensors
    ]
    assert [header.data + t.offset for t in header.tensors] == [int(t.data_offset) for t in reader.tensors]
    assert header.values["general.architecture"] == "qwen2"
    assert unread_types(path) == ["Q5_0"]
