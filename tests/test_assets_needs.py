"""What a teacher needs of the machine: estimated, said in one line, and a smaller one where it is too much."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from stepsynth.config import TeacherConfig
from stepsynth.errors import ConfigError
from stepsynth.model_cache import choose_teacher, free_memory, list_assets, needed_memory, needs, shortage
from stepsynth.run.settling import style_for
from stepsynth.teachers import probe_teacher
from tiny_gguf import build_tiny_gguf

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "teachers.json"
LARGE, MIDDLE, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_CACHE", str(tmp_path / "cache"))


def memory(free: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "free_memory", lambda: None if free is None else int(free * 1e9))


@pytest.mark.parametrize(("free", "chosen"), [(64.0, LARGE), (None, LARGE), (3.0, MIDDLE), (1.5, SMALL), (0.1, SMALL)])
def test_the_largest_that_fits_is_chosen(free: float | None, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(free, monkeypatch)
    name, sentence = choose_teacher(LARGE)
    assert name == chosen
    if chosen == LARGE:
        assert sentence == ""
    else:
        assert sentence.startswith(f"{chosen} in place of {LARGE}: {free:.1f} GB of memory are free, ")
        assert sentence.endswith(" GB are needed.")


def test_nothing_larger_than_what_is_wanted_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(64, monkeypatch)
    assert choose_teacher(SMALL) == (SMALL, "")
    assert choose_teacher(MIDDLE) == (MIDDLE, "")
    with pytest.raises(ConfigError, match="no embedded model is called 'x'"):
        choose_teacher("x")


def test_a_disk_without_room_chooses_a_smaller_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(64, monkeypatch)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_500_000_000))
    name, sentence = choose_teacher(LARGE)
    assert name == MIDDLE
    assert sentence.startswith(f"{MIDDLE} in place of {LARGE}: needs 2.2 GB of disk in ")


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    free = free_memory()
    assert free is not None
    assert 10_000_000 < free < 10**14


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of files that were read are given up when memory is wanted."""
    monkeypatch.setattr(needs, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\nactive_file 500000\ninactive_file 1000000\n")
    assert free_memory() == 2_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert (free_memory() or 0) > 10_000_000


def test_too_little_memory_is_said_before_a_run_and_does_not_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_tiny_gguf(tmp_path / "model.gguf")
    config = TeacherConfig(backend="openvino", model=str(path))
    memory(0.2, monkeypatch)
    said: list[str] = []
    sentence = probe_teacher(config, said.append)
    assert "0.2 GB of memory are free, 0.8 GB are needed" in sentence
    assert said == [f"teacher {path}: {shortage(needed_memory(path))}; it may be slow or get killed. A smaller model needs less."]
    memory(64, monkeypatch)
    said.clear()
    assert "GB of memory" not in probe_teacher(config, said.append)
    assert said == []


def test_the_estimate_counts_the_weights_as_the_engine_gets_them(tmp_path: Path) -> None:
    small = build_tiny_gguf(tmp_path / "q4.gguf", "Q4_0")
    before = build_tiny_gguf(tmp_path / "q5.gguf", "Q5_0")
    after = build_tiny_gguf(tmp_path / "q8.gguf", "Q8_0")
    assert needed_memory(small) < needed_memory(before) == needed_memory(after)
    folder = tmp_path / "ir"
    folder.mkdir()
    (folder / "openvino_model.bin").write_bytes(b"x" * 1_000_000)
    assert needed_memory(folder) == needs._BASE + 3_200_000


def test_what_the_catalogue_says_was_measured() -> None:
    """Memory, speed and fidelity come from benchmarks, and the estimate of the memory is above what was measured."""
    measured = json.loads(RESULTS.read_text())["models"]
    written = json.loads(RESULTS.with_name("templates.json").read_text())
    for asset in list_assets():
        if asset.kind != "teacher":
            continue
        product = measured[asset.name]["product"]
        assert asset.tokens_per_second == round(product["tokens_per_s"]["16"])
        style = style_for(TeacherConfig(model=asset.name))
        rows = [written[f"{asset.name}/{style}/{name}/rows=32/per_answer=1"]["gold"] for name in ("trec", "rotten_tomatoes")]
        assert asset.fidelity == round(100 * sum(row["faithful"] for row in rows) / len(rows))
        assert asset.memory == round(product["peak_gb"], 2) * 1e9
        assert needs._BASE + needs._PER_BYTE * (637e6 if asset.name == MIDDLE else asset.size) > asset.memory
