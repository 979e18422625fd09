"""Convert GGUF tensors of types that the engine does not read, once per file.

OpenVINO GenAI reads weight matrices in F16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K. A file with other types
(Q5_0, Q5_K, Q2_K, Q3_K, IQ..., F32, BF16, ...) is copied into the cache with those tensors in Q8_0,
or in F16 if they were floats or their rows do not fit Q8_0. The rest of the file is unchanged byte
for byte. tests/test_assets_gguf.py asks the engine itself what it reads.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stepsynth.errors import AssetError
from stepsynth.model_cache.catalogue import Report, models_folder
from stepsynth.model_cache.gguf_header import Header, Tensor, read_header
from stepsynth.model_cache.storage import Meter, alone, digest_of, empty, publish, require_room, staging

__all__ = ["ARCHITECTURES", "CONVERTER", "readable", "readable_size", "refuse_other_file", "unread_types"]

# Increase it whenever the output for the same file may change: it is part of the cache's digest.
CONVERTER = 1

# The engine does not read GGUF files of other networks, whatever their tensor types.
ARCHITECTURES = ("llama", "qwen2", "qwen3")

_F32, _F16, _Q8_0 = 0, 1, 8
_BF16, _F64 = 30, 28
_INTEGERS = {24, 25, 26, 27}
# Types that the engine reads for matrices: F16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K.
_READ = {1, 2, 3, 8, 12, 14}
_READ_NAMES = "F16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K"
# The engine also reads these two as plain floats of any width.
_EMBEDDINGS = {"token_embd.weight", "output.weight"}
_FILE_TYPE = "general.file_type"
# File types. In files of the types 0 and 1 (all F32, mostly F16) the engine looks for no scales.
_MOSTLY_F16, _MOSTLY_Q8_0 = 1, 7
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Step:
    """The conversion of a tensor: its new type, and its bytes before and after."""

    tensor: Tensor
    target: int
    before: int
    after: int


def readable(path: Path, say: Report) -> Path:
    """Return a file that the engine reads: the given one, or its converted copy in the cache.

    Args:
        path: a local GGUF file.
        say: called with one sentence per slow step.

    Raises:
        AssetError: it is not a complete GGUF file, or has tensors that cannot be converted.
    """
    header = read_header(path)
    steps = _plan(path, header)
    if not _must_change(header, steps):
        return path
    if "split.count" in header.values and header.values["split.count"] != 1:
        raise AssetError(
            f"{str(path)!r} is a part of a split GGUF with tensors of types that the engine does not read "
            f"({', '.join(unread_types(path))}).",
            hint="Join the parts with llama.cpp's `llama-gguf-split --merge` and give the joined file.",
        )
    kind = header.values.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise AssetError(
            f"{str(path)!r} is a {kind!r} model, which the embedded engine does not read.",
            hint=f"It reads GGUF files of {', '.join(ARCHITECTURES)}; serve others with llama.cpp or Ollama (backend 'openai').",
        )
    # Checked before gigabytes are read and written.
    if unable := sorted({s.tensor.type for s in steps if s.target != s.tensor.type and not _convertible(s.tensor.type)}):
        raise _unusable(path, header, unable)
    source = digest_of(path)
    folder = _place(path, source)
    name = f"{folder.name.rpartition('-')[0].removeprefix('gguf-')}.gguf"
    if _damage(folder, name, source):
        with alone(folder.name, say):
            if _damage(folder, name, source):
                _convert(path, header, steps, folder, name, source, say)
    return folder / name


def refuse_other_file(path: Path) -> None:
    """Refuse a file whose name does not end in ``.gguf``: the engine goes by the name.

    Raises:
        AssetError: always; says what the file is and what to do.
    """
    try:
        with path.open("rb") as stream:
            is_gguf = stream.read(4) == b"GGUF"
    except OSError as error:
        raise AssetError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    if is_gguf:
        raise AssetError(
            f"{str(path)!r} is a GGUF file, but its name does not end in '.gguf', and the engine goes by the name.",
            hint=f"Rename it, or link it: ln -s {path.name} {path.stem}.gguf",
        )
    raise AssetError(f"{str(path)!r} is not a GGUF file.", hint="Give a GGUF file or an OpenVINO folder.")


def readable_size(path: Path) -> int:
    """Return the bytes of a file's weights in the types that the engine gets.

    Raises:
        AssetError: it is not a complete GGUF file.
    """
    return sum(step.after for step in _plan(path, read_header(path)))


def unread_types(path: Path) -> list[str]:
    """Return a file's tensor types that the engine does not read, most frequent first."""
    steps = _plan(path, read_header(path))
    counted = Counter(_type_name(step.tensor.type) for step in steps if step.target != step.tensor.type)
    return [name for name, _ in counted.most_common()]


def _must_change(header: Header, steps: list[_Step]) -> bool:
    if any(step.target != step.tensor.type for step in steps):
        return True
    # Without a file type the engine stops; with a wrong one it drops the scales.
    kind = header.values.get(_FILE_TYPE)
    return kind is None or (kind in (0, 1) and any(_is_quantised(step.target) for step in steps))


def _is_quantised(kind: int) -> bool:
    return kind not in {_F32, _F16, _BF16, _F64, *_INTEGERS}


def _plan(path: Path, header: Header) -> list[_Step]:
    """Return the conversion of every tensor, in the order of the file."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    known = {int(kind): GGML_QUANT_SIZES[kind] for kind in GGMLQuantizationType if kind in GGML_QUANT_SIZES}
    if unknown := sorted({t.type for t in header.tensors if t.type not in known}):
        raise _unusable(path, header, unknown)
    steps = []
    for tensor in header.tensors:
        before = _bytes(tensor, known[tensor.type])
        if tensor.shape and tensor.shape[0] % known[tensor.type][0]:
            raise AssetError(f"{str(path)!r} is damaged: {tensor.name!r} has rows of {tensor.shape[0]}.")
        if header.data + tensor.offset + before > header.size:
            raise AssetError(
                f"{str(path)!r} is cut off: {tensor.name!r} ends after the end of the file.",
                hint="Copy or download the file again.",
            )
        target = _target(tensor)
        steps.append(_Step(tensor, target, before, _bytes(tensor, known[target])))
    return steps


def _bytes(tensor: Tensor, block: tuple[int, int]) -> int:
    return tensor.elements // block[0] * block[1]


def _target(tensor: Tensor) -> int:
    """Return the tensor type to give to the engine."""
    kind = tensor.type
    if kind in _INTEGERS:
        return kind
    if len(tensor.shape) < 2:
        # The engine reads norms only in F32, and biases as any float.
        read = (_F32,) if "norm" in tensor.name else (_F32, _F16, _BF16)
        return kind if kind in read else _F32
    if kind in _READ or (tensor.name in _EMBEDDINGS and kind in (_F32, _BF16)):
        return kind
    if kind in (_F32, _BF16, _F64) or tensor.shape[0] % 32:
        return _F16
    return _Q8_0


def _convertible(kind: int) -> bool:
    """Whether the gguf package can dequantise a type, tried on a block of zeros."""
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if kind in (_F32, _F16, _F64):
        return True
    quantised = GGMLQuantizationType(kind)
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[quantised][1]), dtype=np.uint8), quantised)
    except NotImplementedError:
        return False
    return True


def _unusable(path: Path, header: Header, bad: list[int]) -> AssetError:
    """Return the error for types that can neither be read nor converted, naming the file's types and those that work."""
    from gguf.constants import GGMLQuantizationType

    held = Counter(_type_name(tensor.type) for tensor in header.tensors).most_common()
    works = [str(kind.name) for kind in GGMLQuantizationType if kind not in (*_READ, *_INTEGERS) and _converts(kind)]
    return AssetError(
        f"{str(path)!r} holds tensors of types {', '.join(f'{name} ({count})' for name, count in held)}; "
        f"{', '.join(map(_type_name, bad))} can neither be read nor converted by gguf {_gguf_version()}.",
        hint=f"The engine reads {_READ_NAMES}; {', '.join(works)} are converted. Use such a file, for instance one called "
        "Q4_K_M or Q8_0, or update gguf (pip install -U gguf).",
    )


def _converts(kind: int) -> bool:
    from gguf.constants import GGML_QUANT_SIZES

    return kind in GGML_QUANT_SIZES and _convertible(kind)


def _gguf_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gguf")
    except PackageNotFoundError:
        return "(version unknown)"


def _type_name(kind: int) -> str:
    from gguf.constants import GGMLQuantizationType

    try:
        return str(GGMLQuantizationType(kind).name)
    except ValueError:
        return f"number {kind}"


def _place(path: Path, source: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", path.stem).strip("-.")[:60] or "model"
    own = hashlib.sha256(f"{source} converter {CONVERTER}".encode()).hexdigest()
    return models_folder() / f"gguf-{stem}-{own[:12]}"


def _damage(folder: Path, name: str, source: str) -> list[str]:
    """Return the faults of a converted copy; empty if it is intact."""
    try:
        note = json.loads((folder / "converted.json").read_text(encoding="utf-8"))
        whole = note["source_sha256"] == source and digest_of(folder / name) == note["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["it is missing"]
    return [] if whole else ["its digest has changed since it was written"]


def _convert(path: Path, header: Header, steps: list[_Step], folder: Path, name: str, source: str, say: Report) -> None:
    names = ", ".join(unread_types(path)) or "its header"
    size = sum(step.after + header.alignment for step in steps) + header.data + 4096
    require_room(folder, size, f"a copy of {str(path)!r} that the engine reads")
    say(f"{path.name}: the engine does not read {names}; converting once, {size / 1e6:,.0f} MB")
    with staging(folder, folder.name) as files:
        empty(files)
        sha256 = _write(path, header, steps, files / name, Meter(say, f"{path.name}: converting", sum(s.before for s in steps)))
        note = {"source_sha256": source, "source": path.name, "sha256": sha256, "converter": CONVERTER}
        (files / "converted.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        publish(files, folder, lambda place: _damage(place, name, source))
    say(f"{path.name}: converted, in {str(folder)!r}")


class _Sink:
    """A file that is hashed while it is being written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self.at = stream, hashlib.sha256(), 0

    def write(self, data: Any) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self.at += memoryview(data).nbytes

    def pad(self, alignment: int) -> None:
        self.write(b"\0" * (-self.at % alignment))

    def digest(self) -> str:
        return self._hash.hexdigest()


def _write(path: Path, header: Header, steps: list[_Step], target: Path, meter: Meter) -> str:
    """Write the converted copy tensor by tensor, with a few megabytes in memory at a time; return its sha256."""
    import numpy as np

    weights = np.memmap(path, dtype=np.uint8, mode="r")
    done = 0
    with target.open("wb") as stream:
        sink = _Sink(stream)
        sink.write(_head(weights, header, steps))
        sink.pad(header.alignment)
        for step in steps:
            start = header.data + step.tensor.offset
            _copy(weights[start : start + step.before], step, sink)
            sink.pad(header.alignment)
            done += step.before
            meter.at(done)
    return sink.digest()


def _head(weights: Any, header: Header, steps: list[_Step]) -> bytes:
    """Return the new header: the old settings, and the tensors with their new types and positions."""
    start, end = header.settings
    settings = bytearray(weights[start:end].tobytes())
    keys = header.keys
    kind = header.values.get(_FILE_TYPE)
    quantised = any(_is_quantised(step.target) for step in steps)
    if kind is None:
        name = _FILE_TYPE.encode()
        settings += struct.pack(f"<Q{len(name)}sII", len(name), name, 4, _MOSTLY_Q8_0 if quantised else _MOSTLY_F16)
        keys += 1
    elif kind in (0, 1) and quantised and _FILE_TYPE in header.places:
        struct.pack_into("<I", settings, header.places[_FILE_TYPE] - start, _MOSTLY_Q8_0)
    out = bytearray(b"GGUF" + struct.pack("<IQQ", header.version, len(steps), keys)) + settings
    offset = 0
    for step in steps:
        name, shape = step.tensor.name.encode(), step.tensor.shape
        out += struct.pack(f"<Q{len(name)}sI{len(shape)}Q", len(name), name, len(shape), *shape)
        out += struct.pack("<IQ", step.target, offset)
        offset += -(-step.after // header.alignment) * header.alignment
    return bytes(out)


def _copy(data: Any, step: _Step, sink: _Sink) -> None:
    """Write one tensor, a few rows at a time."""
    tensor = step.tensor
    if step.target == tensor.type:
        for start in range(0, len(data), 8 * _CHUNK):
            sink.write(data[start : start + 8 * _CHUNK].tobytes())
        return
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    source, target = GGMLQuantizationType(tensor.type), GGMLQuantizationType(step.target)
    rows = tensor.elements // tensor.shape[0]
    table = data.reshape(rows, -1)
    at_once = max(1, _CHUNK // tensor.shape[0])
    for start in range(0, rows, at_once):
        piece = np.ascontiguousarray(table[start : start + at_once])
        try:
            plain = piece.view(np.float64) if tensor.type == _F64 else dequantize(_typed(piece, tensor.type), source)
        except NotImplementedError:
            raise AssetError(
                f"tensors of type {source.name} (such as {tensor.name!r}) cannot be converted by this version of gguf.",
                hint=f"Update it (pip install -U gguf), or use a file with tensors in {_READ_NAMES}.",
            ) from None
        floats = np.asarray(plain, dtype=np.float32)
        if step.target == _F16:
            floats = np.clip(floats, -65504, 65504)
        sink.write(np.ascontiguousarray(quantize(floats, target)).tobytes())


def _typed(piece: Any, kind: int) -> Any:
    """Return rows in the form that `gguf` needs: floats as floats, everything else as bytes."""
    import numpy as np

    return piece.view({_F32: np.float32, _F16: np.float16}[kind]) if kind in (_F32, _F16) else piece
