"""The tutorials do what they say: the code of each page runs in order, on the files that `stepsynth init` writes.

A student of a few thousand weights takes the place of the embedded one, and the fake teacher that of the real ones.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

import stepsynth as ss
from stepsynth.cli.starter import write_starter
from tiny_model import build_tiny_model

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = sorted(TUTORIALS.glob("*.md"))
_INIT = re.compile(r"^stepsynth init (\S+)(?: --task (\w+))?$", re.MULTILINE)
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
TRAINED = {"epochs": 1, "min_steps": 0, "batch_size": 32, "learning_rate": 3e-3}


def small_names(student: Path, questions: bool) -> SimpleNamespace:
    """Return the public names, with small models in the place of real ones."""

    def small_student(*_: Any, **__: Any) -> ss.Student:
        # Questions have no probe.
        settings = {**TRAINED, "stride": 8} if questions else {"head": "probe"}
        return ss.Student(str(student), max_length=48, **settings)

    def fake_teacher(*_: Any, **__: Any) -> ss.Teacher:
        return ss.Teacher(backend="fake")

    def plan(*given: Any, **named: Any) -> Any:
        return ss.plan(*given, **{"progress": False, **named, "budget": None})

    def synthesize(*given: Any, **named: Any) -> ss.Run:
        return ss.synthesize(*given, **{"progress": False, "student": small_student(), **named, "budget": None})

    names = {name: getattr(ss, name) for name in ss.__all__}
    replaced = {"Student": small_student, "EmbeddedTeacher": fake_teacher, "OpenAITeacher": fake_teacher}
    return SimpleNamespace(**{**names, **replaced, "plan": plan, "synthesize": synthesize})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ((folder, family),) = _INIT.findall(text)
    write_starter(Path(folder), family or "classification")
    words = pandas.concat([*map(read, Path(folder).glob("validation.*"))]).astype(str).to_numpy().ravel().tolist()
    build_tiny_model(tmp_path / "student", words, spread=0.5)
    scope: dict[str, Any] = {}
    for code in _CODE.findall(text):
        tree = ast.parse(code)
        tree.body = [node for node in tree.body if "stepsynth" not in ast.unparse(node) or not isinstance(node, ast.Import)]
        scope["ss"] = small_names(tmp_path / "student", family == "extractive_qa")
        exec(compile(tree, page.name, "exec"), scope)
    assert scope["run"].finished
    assert {path.name for path in Path("runs").iterdir()} >= {f"{folder}-fake", folder}
    assert capsys.readouterr().out.strip()


def read(path: Path) -> pandas.DataFrame:
    return pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_json(path, lines=True)


def test_every_family_has_a_tutorial() -> None:
    shown = [_INIT.findall(page.read_text(encoding="utf-8")) for page in PAGES]
    assert sorted(family or "classification" for ((_, family),) in shown) == [
        "classification",
        "extractive_qa",
        "multi_label",
        "pair",
    ]
