"""What the package shows: names, examples, how light it is, and that docs and notebooks do what they say."""

from __future__ import annotations

import ast
import csv
import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import stepsynth as ss
from loopback import LoopbackServer
from stepsynth.teachers.fake import gold_text
from tiny_model import build_tiny_model
from world import build_world

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
IMPORT_S = 0.1
PRICE = {"input": 1, "output": 1}
STUDENT: dict[str, Any] = {"epochs": 2, "min_steps": 0, "batch_size": 16, "learning_rate": 3e-3, "max_length": 32}


def test_names_are_sorted_and_all_there() -> None:
    assert list(ss.__all__) == sorted(set(ss.__all__), key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for name in ss.__all__:
        assert getattr(ss, name) is not None
    assert dir(ss) == sorted(ss.__all__)
    with pytest.raises(AttributeError, match="no attribute 'synthesise'"):
        _ = ss.synthesise  # type: ignore[attr-defined]


def test_every_public_name_has_a_docstring_with_an_example() -> None:
    objects = {name: getattr(ss, name) for name in ss.__all__ if name != "__version__"}
    for name, found in objects.items():
        assert found.__doc__, name
        if not name.endswith("Error") and name != "Interrupted":
            assert ">>>" in found.__doc__, name


@pytest.mark.parametrize("module", ["nouns", "calls", "config", "run", "student", "comparison", "listing", "sweep"])
def test_the_examples_in_docstrings_are_right(module: str) -> None:
    """Those that need files are tried by the guide."""
    found = importlib.import_module(f"stepsynth.api.{module}")
    assert doctest.testmod(found).failed == 0
    assert ">>>" in Path(str(found.__file__)).read_text(encoding="utf-8")


def test_importing_it_takes_no_time_and_loads_nothing_heavy() -> None:
    light = "import time; t = time.process_time(); import stepsynth; print(time.process_time() - t)"
    seconds = min(float(subprocess.run([sys.executable, "-c", light], capture_output=True, check=True).stdout) for _ in range(5))
    assert seconds < IMPORT_S


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the guide names, and a small student in the place of the default one."""
    for name, first, each in (("labelled.csv", 0, 24), ("test.csv", 500, 12)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([gold_text(label, first + n), label] for n in range(each) for label in ("billing", "technical"))
    build_tiny_model(tmp_path / "student", ["billing", "technical", "the", "a", "invoice"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("STEPSYNTH_ANSWERS", "off")
    (tmp_path / "config.yaml").write_text(
        json.dumps(
            {
                "task": {"name": "t", "instruction": "Decide.", "labels": ["billing", "technical"]},
                "data": {"validation": {"path": "labelled.csv"}, "test": {"path": "test.csv"}},
                "teacher": {"backend": "fake"},
                "student": {"model": str(tmp_path / "student"), **STUDENT},
                "method": {"seed_rows": 12, "rounds": 1},
            }
        )
    )
    return tmp_path


def test_the_guide_does_what_it_says(place: Path) -> None:
    """Every snippet, in order; a loopback server is the provider, and students are small."""
    with LoopbackServer(models=("gpt-4.1-mini",)) as server:
        student = ss.Student(str(place / "student"), **STUDENT)
        teacher = ss.OpenAITeacher(
            "gpt-4.1-mini", api_key_env="OPENAI_API_KEY", base_url=server.base_url, price={"input": 1, "output": 1}
        )

        def small(call: Any) -> Any:
            fewer = {"seeds": 1} if call is ss.compare else {}
            settings = {"student": student, "teacher": teacher, "progress": False, **fewer}
            return lambda *given, **named: call(*given, **{**named, **settings})

        names = {
            **{name: getattr(ss, name) for name in ss.__all__},
            **{n: small(getattr(ss, n)) for n in ("synthesize", "plan", "compare")},
        }
        scope: dict[str, Any] = {}
        for code in snippets():
            tree = ast.parse(code)
            tree.body = [node for node in tree.body if not (isinstance(node, ast.Import) and node.names[0].name == "stepsynth")]
            scope["ss"] = SimpleNamespace(**names)
            exec(compile(tree, "guide", "exec"), scope)
    assert scope["run"].finished
    assert list(scope["table"].index) == ["s3", "zerogen", "gold"]
    assert (place / "runs" / "t" / "dataset.jsonl").is_file()


@pytest.mark.slow
def test_a_notebook_that_is_stopped_drains_and_goes_on(tmp_path: Path) -> None:
    world = build_world(tmp_path / "world")
    stop = """
import _thread, threading
threading.Timer(1.0, _thread.interrupt_main).start()
try:
    config.run(progress=False)
except ss.Interrupted as stopped:
    print(stopped)
"""
    with LoopbackServer(latency=0.05) as server:
        teacher = {"teacher.backend": "openai", "teacher.model": "loopback", "teacher.base_url": server.base_url}
        settings = {**teacher, "teacher.concurrency": 2, "method.rounds": 0, "method.seed_rows": 60, "cache": None}
        sources = (
            f"import stepsynth as ss\nconfig = ss.load_config({str(world.config_path)!r}, {settings!r})",
            stop,
            "run = config.run(progress=False)\nrun.finished",
        )
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        bodies = [seen.body for seen in server.completions]
    assert "nothing is lost" in "".join(out["text"] for out in notebook.cells[1]["outputs"] if out.get("name") == "stdout")
    assert notebook.cells[2]["outputs"][-1]["data"]["text/plain"] == "True"
    assert len(bodies) >= 60
