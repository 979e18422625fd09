"""S5: a text of the data or of a model is never a template: it reaches the teacher byte for byte."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from family_worlds import FAMILIES, build_family_world, lend_student, rows_of
from loopback import LoopbackServer
from stepsynth.cli.running import run_config
from stepsynth.config import TaskConfig
from stepsynth.errors import ConfigError
from stepsynth.journal import Journal
from stepsynth.prompts import Prompts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

TEMPLATES = ("{{7*7}}", "{{ 7*7 }}", "${HOME}", "$HOME", "{0.__class__}", "{text}", "%(text)s", "{% raw %}", "{# x #}", "#{7*7}")
MARK = "Zq " + " ".join(TEMPLATES) + " qZ"
# In another order, so that what a teacher says is no copy of a gold row.
SAID = "Zr " + " ".join(reversed(TEMPLATES)) + " rZ"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


def laced(family: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with template syntax in front of every text."""
    laced_rows = []
    for row in rows:
        new = {
            name: f"{MARK} {value}" if name in ("text", "text1", "text2", "question") else value for name, value in row.items()
        }
        if family == "extractive_qa":
            new["context"] = f"{MARK} {row['context']}"
            new["answers"] = {"text": row["answers"]["text"], "answer_start": [row["answers"]["answer_start"][0] + len(MARK) + 1]}
        laced_rows.append(new)
    return laced_rows


@pytest.mark.parametrize("family", FAMILIES)
def test_s05_template_syntax_of_data_and_answers_reaches_the_server_byte_for_byte(
    family: str, student: Path, tmp_path: Path
) -> None:
    """Texts, contexts and reasons, in every stage of a run with a teacher that answers in templates, too."""
    teacher = {"backend": "openai", "model": "loopback", "concurrency": 4, "attempts": 1}
    with LoopbackServer() as server:
        counts: list[int] = []

        def answer(body: dict[str, Any]) -> str:
            counts.append(1)
            return f"{SAID} number {len(counts)} ends?"

        server.answer = answer
        changes: dict[str, Any] = {"teacher": {**teacher, "base_url": server.base_url}, "task__name": f"t {TEMPLATES[0]}"}
        world = build_family_world(tmp_path / "world", family, student=student, validation=12, **changes)
        world.write_rows("validation.jsonl", laced(family, rows_of(family, 12)))
        run_config(world.config("method.seed_rows=4", "method.rationales=2", "cache=null"), tmp_path / "run", quiet=True)
        prompts = ["\n".join(turn["content"] for turn in seen.json["messages"]) for seen in server.completions]
    whole = [prompt for prompt in prompts if MARK in prompt]
    assert whole
    assert any(SAID in prompt for prompt in prompts), "a reason was shown"
    # Wherever a mark begins it is whole, so nothing was computed.
    for begin, mark in (("Zq", MARK), ("Zr", SAID)):
        assert all(prompt.count(begin) == prompt.count(mark) for prompt in prompts)
    with closing(Journal(tmp_path / "run" / "journal.db")) as journal:
        assert any(SAID in row.text for row in journal.dataset())
    rows = (tmp_path / "run" / "dataset.jsonl").read_text(encoding="utf-8")
    assert rows.count("Zr") == rows.count(SAID) > 0


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ instruction.__class__ }}",
    "{{ instruction|attr('__class__') }}",
    "{{ instruction['__class__'] }}",
    "{{ '%s'|format(instruction.__init__) }}",
    "{{ '{0.__class__.__base__}'.format(instruction) }}",
    "{{ '{0.__class__}'.format_map({'0': 1}) }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'].mkdir('owned') }}",
    "{{ self.__init__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ rationales.append('x') }}",
    "{{ labels.clear() }}",
    "{{ labels.update({'a': 'b'}) }}",
    "{% import 'os' as os %}{{ os }}",
    "{% include '/etc/hostname' %}",
    "{% extends '/etc/hostname' %}",
    "{% set x = instruction.__class__ %}{{ x }}",
    "{{ (instruction, )|map(attribute='__class__')|list }}",
    "{{ [instruction]|map('attr', '__class__')|list }}",
    "{{ rationales.__class__.__init__.__globals__ }}",
    "{{ range(10 ** 9)|list }}",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_s05_an_own_prompt_cannot_leave_its_sandbox(escape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try is refused, or comes out as harmless text that shows nothing of the interpreter."""
    monkeypatch.chdir(tmp_path)
    task = TaskConfig(name="t", instruction="Decide.", labels={"a": "x", "b": "y"}, prompts={"seed": f"--- user\n{escape}"})
    prompts = Prompts(task)
    try:
        messages = prompts.render("seed", "a", rationales=("a reason",))
    except ConfigError:
        pass
    else:
        said = "".join(message.content for message in messages)
        assert not any(
            part in said for part in ("<class", "<built-in", "<bound", "<module", "<function", "<slot", "object at 0x")
        )
        assert "root" not in said
    assert list(tmp_path.iterdir()) == []
    assert dict(task.labels) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    "bomb", ["{{ 'x' * 10 ** 9 }}", "{{ ['x'] * 10 ** 9 }}", "{{ 9 ** 9 ** 9 }}", "{{ 'x' * 10 ** 6 * 10 ** 6 }}"]
)
def test_s05_an_own_prompt_cannot_fill_the_memory_by_a_single_expression(bomb: str) -> None:
    task = TaskConfig(name="t", instruction="Decide.", labels={"a": "x", "b": "y"}, prompts={"seed": f"--- user\n{bomb}"})
    with pytest.raises(ConfigError, match="prompt 'seed'"):
        Prompts(task).check()
