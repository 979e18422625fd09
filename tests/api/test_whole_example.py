"""A program with every noun and call in it, from a CSV file to a comparison: in a notebook, and inside a running event loop."""

from __future__ import annotations

import asyncio
import csv
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import nbformat
import pytest
from nbclient import NotebookClient

from loopback import LoopbackServer
from stepsynth.teachers.fake import gold_text
from tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

# A script's words, but for the server's address with a price, and a student that is small.
FIRST = """
import datasets, stepsynth as ss

class NoUrls(ss.RowFilter):
    reason = "has a web address"

    def keep(self, row):
        return "http" not in row.text

task = ss.Classification(
    "tickets",
    "Decide which team a support ticket belongs to.",
    labels={"billing": "invoices, refunds", "technical": "something is broken"},
)
gold = datasets.load_dataset("csv", data_files="labelled.csv", split="train")
teacher = ss.OpenAITeacher("gpt-4.1-mini", api_key_env="OPENAI_API_KEY", base_url=URL, price={"input": 1, "output": 1})
student = ss.Student("student", epochs=2, min_steps=0, batch_size=16, learning_rate=3e-3, max_length=32)
call = dict(
    validation=gold, test="test.csv", teacher=teacher, student=student, method=ss.S3(rounds=1, seed_rows=16, rationales=4),
    filters=[NoUrls()], budget=ss.Budget(usd=5), out="runs/tickets", progress=BARS,
)
run = ss.synthesize(task, **call)
"""
THEN = """
again = ss.synthesize(task, **call)
rows = run.dataset()
found = {
    "columns": rows.column_names,
    "rows": len(rows),
    "dropped": [row["dropped"] for row in run.rows(accepted=False)],
    "answer": run.student.predict(["Where is my invoice?"])[0],
    "piped": run.student.pipeline()("Where is my invoice?")[0]["label"],
    "same": again.scores == run.scores and again.results == run.results,
    "mistakes": [mistake["label"] for mistake in run.mistakes(round=0)],
    "page": run.report().name,
    "html": "<table>" in run._repr_html_(),
    "loaded": ss.Run.load("runs/tickets").scores == run.scores,
    "planned": ss.plan(task, **{**call, "out": None}) is not None,
}
from pathlib import Path
Path("config.yaml").write_text(run.config.to_yaml())
found["yaml"] = ss.load_config("config.yaml").result_digest() == run.config.result_digest()
"""
COMPARE = """
table = ss.compare(
    task, [ss.S3(rounds=1, seed_rows=16, rationales=4), ss.ZeroGen(), ss.Gold()], validation=gold, test="test.csv",
    teacher=teacher, student=student, seeds=1, out="runs/compared", progress=False,
).to_pandas()
found["compared"] = list(table.index)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    """The folder that the program works in, with its files and the provider."""
    for name, first, each in (("labelled.csv", 0, 24), ("test.csv", 500, 12)):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([gold_text(label, first + n), label] for n in range(each) for label in ("billing", "technical"))
    build_tiny_model(tmp_path / "student", ["billing", "technical", "the", "a", "invoice"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    # Reading a CSV file, `datasets` would count the load on a server of its makers.
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    with LoopbackServer(models=("gpt-4.1-mini",)) as server:
        yield server


def check(found: dict[str, Any]) -> None:
    assert found["columns"][:2] == ["text", "label"]
    assert {"round", "source"} <= set(found["columns"])
    assert found["rows"] >= 16
    assert all(found["dropped"])
    assert found["answer"] == found["piped"]
    assert found["answer"] in {"billing", "technical"}
    assert found["page"] == "report.html"
    assert all(found[name] for name in ("same", "html", "loaded", "planned", "yaml"))


@pytest.mark.slow
def test_in_a_notebook(place: LoopbackServer, tmp_path: Path) -> None:
    """In the kernel's running event loop, with bars."""
    again = "async def again():\n    return ss.synthesize(task, **call).scores\nawait again() == run.scores"
    sources = (f"URL, BARS = {place.base_url!r}, True{FIRST}", "run", f"{THEN}{COMPARE}\nfound", again)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    run, then, waited = (cell["outputs"][-1]["data"] for cell in notebook.cells[1:])
    assert "<table>" in run["text/html"]
    found = eval(then["text/plain"], {})
    check(found)
    assert found["compared"] == ["s3", "zerogen", "gold"]
    assert waited["text/plain"] == "True"


def test_inside_a_running_event_loop(place: LoopbackServer) -> None:
    scope: dict[str, Any] = {"URL": place.base_url, "BARS": False}
    body = textwrap.indent(FIRST + THEN, "    ")
    exec(compile(f"async def program():\n{body}\n    return found", "program", "exec"), scope)
    check(asyncio.run(scope["program"]()))
