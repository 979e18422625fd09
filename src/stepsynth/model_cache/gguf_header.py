"""Read the header of a GGUF file, its settings and the positions of its tensors, without loading weights.

The `gguf` package also reads headers, but takes seconds for a vocabulary of 150,000 words, and this
runs every time a teacher starts.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path

from stepsynth.errors import AssetError

__all__ = ["Header", "Tensor", "gguf_architecture", "read_header"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file.

    Attributes:
        name: its name.
        shape: its dimensions in the file's order, the row's length first.
        type: the number of its GGUF type.
        offset: its position from the start of the data.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a file before the weights.

    Attributes:
        version: version of the format.
        keys: number of settings.
        values: settings that are a single number or text.
        places: positions in the file of settings with four bytes.
        settings: start and end of all settings in the file.
        tensors: all tensors, in the order of the file.
        alignment: tensors begin at multiples of this.
        data: position of the weights in the file.
        size: size of the file in bytes.
    """

    version: int
    keys: int
    values: dict[str, object]
    places: dict[str, int]
    settings: tuple[int, int]
    tensors: tuple[Tensor, ...]
    alignment: int
    data: int
    size: int


def read_header(path: Path) -> Header:
    """Read a file's header.

    Raises:
        AssetError: it is not a GGUF file, or it ends before its header does.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise AssetError(f"{str(path)!r} is not a GGUF file.", hint="Give a GGUF file or an OpenVINO folder.")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
                return _Reader(memory).header()
    except OSError as error:
        raise AssetError(f"{str(path)!r} cannot be read: {error.strerror}.") from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise AssetError(
            f"{str(path)!r} is damaged: its header cannot be read ({error}).", hint="Copy or download the file again."
        ) from error


def gguf_architecture(path: Path) -> str:
    """Return the architecture of a GGUF file; empty if it is not a GGUF file or does not name one."""
    try:
        return str(read_header(path).values.get("general.architecture", ""))
    except AssetError:
        return ""


class _Reader:
    """Parses a header from start to end."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._at = 4

    def header(self) -> Header:
        (version,) = self._take("I")
        if version not in (2, 3):
            raise ValueError(f"version {version}")
        tensors, keys = self._take("QQ")
        start = self._at
        values: dict[str, object] = {}
        places: dict[str, int] = {}
        for _ in range(keys):
            name = self._text()
            (kind,) = self._take("I")
            place = self._at
            value = self._value(kind)
            if value is not None:
                values[name] = value
            if self._at - place == 4:
                places[name] = place
        end = self._at
        found = tuple(self._tensor() for _ in range(tensors))
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"alignment {alignment!r}")
        data = -(-self._at // alignment) * alignment
        return Header(version, keys, values, places, (start, end), found, alignment, data, len(self._memory))

    def _take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(f"<{form}", self._memory, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._memory):
            raise ValueError("it ends too early")

    def _text(self) -> str:
        (length,) = self._take("Q")
        start = self._at
        self._skip(length)
        return self._memory[start : self._at].decode("utf-8", errors="replace")

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            self._skip_array()
            return None
        if kind not in _SCALARS:
            raise ValueError(f"a setting of type {kind}")
        return self._take(_SCALARS[kind])[0]

    def _skip_array(self) -> None:
        kind, count = self._take("IQ")
        if kind in _SCALARS:
            self._skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        elif kind == _STRING:
            unpack, memory, at, end = struct.Struct("<Q").unpack_from, self._memory, self._at, len(self._memory)
            for _ in range(count):
                at += 8 + unpack(memory, at)[0]
                if at > end:
                    raise ValueError("it ends too early")
            self._at = at
        else:
            raise ValueError(f"a list of type {kind}")

    def _tensor(self) -> Tensor:
        name = self._text()
        (dimensions,) = self._take("I")
        if dimensions > 8:
            raise ValueError(f"a tensor with {dimensions} dimensions")
        shape = self._take("Q" * dimensions)
        kind, offset = self._take("IQ")
        return Tensor(name, shape, kind, offset)
