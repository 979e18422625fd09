"""`predict` on files: the formats, the columns that it keeps, files of any length, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from command import stepsynth
from family_rows import PAIR, QA, TAGS, run_config
from stand_in_student import stand_in
from stepsynth.cli.predicting import Output, predict_file
from stepsynth.data.readers.delimited import has_stray_quotes
from stepsynth.errors import DataError, RunError, UserError
from stepsynth.exporting import predicting as exporting_predicting
from stepsynth.types import Example, Prediction

ONE = {"name": "t", "instruction": "Decide.", "labels": {"a": "first", "b": "second"}}
Predict = Callable[..., Path]


class Counting:
    """Says which row of its part a text is, and remembers how many rows it got at once."""

    def __init__(self, answer: Callable[[Example], Prediction]) -> None:
        self.answer = answer
        self.parts: list[int] = []

    def load(self, folder: Path) -> Counting:
        return self

    def predict(self, examples: Sequence[Example]) -> list[Prediction]:
        self.parts.append(len(examples))
        return [self.answer(example) for example in examples]


def by_length(example: Example) -> Prediction:
    """Label b for texts of even length."""
    even = len(example.text) % 2 == 0
    return Prediction(example.id, "b" if even else "a", {"a": 0.25 if even else 0.75, "b": 0.75 if even else 0.25})


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict a file with a rote student; return the output's path."""

    def run(
        file: Path, out: str, *, task: dict[str, Any] = ONE, answer: Any = by_length, form: str | None = None, **options: Any
    ) -> Path:
        student = Counting(answer)
        stand_in(monkeypatch, run_config(task, tmp_path / "unused"), student)
        target = tmp_path / out
        settings = {"columns": {}, "output": Output(target, form), "round_number": None}
        predict_file(tmp_path, file, **{**settings, **options})
        return target

    return run


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the form that the path's ending names."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path).to_pylist())
    return list(csv.DictReader(io.StringIO(path.read_text()), delimiter="\t" if path.suffix == ".tsv" else ","))


ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
ROWS = [{"id": "007", "text": "four", "score": 1.5}, {"id": "x", "text": "odd", "score": -2.0}]


@pytest.mark.parametrize(
    "name", ["no.csv", "no.tsv", "no.jsonl", "no.parquet", "no.xlsx", "no.txt", "no", "folder/no.csv", "link.csv"]
)
def test_a_file_that_is_not_there_is_one_line(predict: Predict, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(UserError, match="does not exist") as raised:
        predict(tmp_path / name, "out.csv")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["a\x00b.csv", "~nobody-of-this-name/x.csv", "\udcff.csv"])
def test_a_name_that_no_file_has_is_one_line(predict: Predict, name: str) -> None:
    with pytest.raises(UserError):
        predict(Path(name), "out.csv")


def test_a_file_that_vanishes_while_it_is_read_is_named(predict: Predict, tmp_path: Path) -> None:
    """And not the output, which stays as it was."""
    file, out = write_table(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    out.write_text("old")

    def answer(example: Example) -> Prediction:
        file.unlink(missing_ok=True)
        return by_length(example)

    with pytest.raises(DataError, match=r"in\.csv' was changed while it was read"):
        predict(file, "out.csv", answer=answer)
    assert out.read_text() == "old"


@pytest.mark.parametrize("ours", ENDINGS)
@pytest.mark.parametrize("theirs", ENDINGS)
def test_other_columns_stay_in_their_order(predict: Predict, tmp_path: Path, theirs: str, ours: str) -> None:
    found = read_table(predict(write_table(tmp_path / f"in{theirs}", ROWS), f"out{ours}"))
    probabilities = ["probabilities"] if ours == ".jsonl" else ["p(a)", "p(b)"]
    assert list(found[0]) == ["id", "text", "score", "label", *probabilities]
    assert [(row["id"], row["text"], row["label"], float(row["score"])) for row in found] == [
        ("007", "four", "b", 1.5),
        ("x", "odd", "a", -2.0),
    ]


@pytest.mark.parametrize(("ending", "form"), [(".csv", "csv"), (".tsv", "tsv"), (".jsonl", "jsonl")])
def test_without_other_columns_the_bytes_are_those_of_before(predict: Predict, tmp_path: Path, ending: str, form: str) -> None:
    """The texts under our names, in the family's order, whatever the file calls them and however it orders them."""
    file = write_table(tmp_path / f"in{ending}", [{"review": "one, two"}])
    expected = {
        "csv": 'text,label,p(a),p(b)\r\n"one, two",b,0.250000,0.750000\r\n',
        "tsv": "text\tlabel\tp(a)\tp(b)\r\none, two\tb\t0.250000\t0.750000\r\n",
        "jsonl": '{"text": "one, two", "label": "b", "probabilities": {"a": 0.25, "b": 0.75}}\n',
    }[form]
    assert predict(file, f"out{ending}", columns={"text": "review"}).read_bytes().decode() == expected
    more = write_table(tmp_path / f"more{ending}", [{"id": 1, "review": "one, two"}])
    assert predict(more, f"out{ending}", columns={"text": "review"}, keep=False).read_bytes().decode() == expected


def test_names_that_are_taken_are_not_used_twice(predict: Predict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"label": "gold", "predicted_label": 1, "text": "note", "review": "four", "p(a)": "x"}]
    out = predict(write_table(tmp_path / "in.csv", rows), "out.csv", columns={"text": "review"})
    (row,) = read_table(out)
    names = ["label", "predicted_label", "text", "review", "p(a)", "predicted_label_2", "predicted_p(a)", "p(b)"]
    assert list(row) == names
    assert (row["label"], row["predicted_label_2"], row["text"], row["review"]) == ("gold", "b", "note", "four")
    assert "in.csv' has a column 'label', so the predictions are in 'predicted_label_2'." in capsys.readouterr().err


@pytest.mark.parametrize("ending", ENDINGS)
def test_pairs_questions_and_several_labels_in_every_form(predict: Predict, tmp_path: Path, ending: str) -> None:
    def tags(example: Example) -> Prediction:
        return Prediction(example.id, "warm|windy", {"warm": 0.9, "wet": 0.2, "windy": 0.6})

    def span(example: Example) -> Prediction:
        return Prediction(example.id, "sun", {"sun": 0.5}, start=4)

    (row,) = read_table(
        predict(write_table(tmp_path / f"t{ending}", [{"n": "1", "text": "x"}]), f"o{ending}", task=TAGS, answer=tags)
    )
    assert row["labels"] == (["warm", "windy"] if ending in (".jsonl", ".parquet") else "warm|windy")
    rows = [{"question": "What?", "n": "1", "context": "the sun"}]
    (row,) = read_table(predict(write_table(tmp_path / f"q{ending}", rows), f"o{ending}", task=QA, answer=span))
    assert [*row] == ["question", "n", "context", "answer", "answer_start", "probability"]
    assert (row["answer"], int(row["answer_start"]), float(row["probability"])) == ("sun", 4, 0.5)

    def pair(example: Example) -> Prediction:
        return Prediction(example.id, "no", {"yes": 0.25, "no": 0.75})

    rows = [{"text2": "claim", "n": "1", "text1": "note"}]
    (row,) = read_table(predict(write_table(tmp_path / f"p{ending}", rows), f"o{ending}", task=PAIR, answer=pair))
    assert ([*row][:4], row["text1"], row["label"]) == (["text2", "n", "text1", "label"], "note", "no")


def test_types_of_a_parquet_file_are_kept_and_those_of_json_lines_found(predict: Predict, tmp_path: Path) -> None:
    import datetime

    stored = pyarrow.table(
        {
            "text": ["four", "odd"],
            "day": pyarrow.array([datetime.date(2024, 3, 1), None]),
            "small": pyarrow.array([1, 2], pyarrow.int8()),
            "kind": pyarrow.array(["u", "v"]).dictionary_encode(),
            "tags": [["x"], []],
        }
    )
    pyarrow.parquet.write_table(stored, tmp_path / "in.parquet")
    found = pyarrow.parquet.read_schema(predict(tmp_path / "in.parquet", "out.parquet"))
    assert [found.field(name).type for name in stored.column_names] == [field.type for field in stored.schema]
    (row, _) = read_table(predict(tmp_path / "in.parquet", "out.jsonl"))
    assert (row["day"], row["tags"]) == ("2024-03-01", ["x"])
    rows = [{"text": "x", "n": 1, "f": 1, "b": True, "mixed": "x"}, {"text": "y", "f": 0.5, "mixed": {"k": [1]}, "late": None}]
    schema = pyarrow.parquet.read_schema(predict(write_table(tmp_path / "in.jsonl", rows), "out.parquet"))
    assert {name: str(schema.field(name).type) for name in schema.names[1:6]} == {
        "n": "int64",
        "f": "double",
        "b": "bool",
        "mixed": "string",
        "late": "string",
    }
    assert [row["mixed"] for row in read_table(tmp_path / "out.parquet")] == ["x", '{"k": [1]}']


def test_rows_come_in_parts_and_in_order(predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting_predicting, "PART_ROWS", 3)
    rows = [{"id": str(number), "text": "x" * (1 + number % 5)} for number in range(10)]
    for ending in ENDINGS:
        found = read_table(predict(write_table(tmp_path / f"in{ending}", rows), f"out{ending}"))
        assert [row["id"] for row in found] == [row["id"] for row in rows]
        assert [row["label"] for row in found] == ["b" if len(row["text"]) % 2 == 0 else "a" for row in rows]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "in.csv", "is empty"),
        (b"id,txet\n1,a\n", "in.csv", r"has no column 'text' for the text.*Did you mean 'txet'"),
        (b"text\n", "in.csv", "has no rows"),
        (b"text\na\n", "in.dat", r"has the unsupported suffix '.dat'"),
        (b"PAR1 and nothing else", "in.parquet", "is not a readable Parquet file"),
        (b"PAR1 and nothing else", "in.csv", "is a Parquet file. Give it its own suffix"),
        (b'{"text": "a"}\n{"text": ""}\n{"text": "c"}\n', "in.jsonl", "row 1 of .* has an empty text"),
        (b'{"text": "a"}\n{"id": 1}\n', "in.jsonl", "line 2 of .* has no column 'text'"),
        (b'{"text": "a", "x": "\\ud800"}\n', "in.jsonl", "row 0 of .* holds half a surrogate pair"),
        (b"text,x,x\na,b,c\n", "in.csv", "has more than one column 'x'"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(predict: Predict, tmp_path: Path, content: bytes, name: str, said: str) -> None:
    """Every row is checked before the first one is predicted, so there is no half of a result, not on standard output either."""
    (tmp_path / name).write_bytes(content)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        predict(tmp_path / name, "out.csv")
    assert re.search(said, " ".join(str(caught.value).split())), str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_student_that_fails_leaves_the_old_file(predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting_predicting, "PART_ROWS", 1)

    def fails(example: Example) -> Prediction:
        if example.id == "1":
            raise ValueError("its own defect")
        return by_length(example)

    file = write_table(tmp_path / "in.csv", [{"text": "a"}, {"text": "b"}])
    for ending in ENDINGS:
        (tmp_path / f"out{ending}").write_bytes(b"old")
        with pytest.raises(ValueError, match="its own defect"):
            predict(file, f"out{ending}", answer=fails)
        assert (tmp_path / f"out{ending}").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.part"))
    with pytest.raises(RunError, match="cannot write"):
        predict(file, "no/such/folder.csv")


def test_a_file_that_changes_while_it_is_read_is_refused(predict: Predict, tmp_path: Path) -> None:
    file = write_table(tmp_path / "in.csv", [{"text": "a"}])

    def grows(example: Example) -> Prediction:
        with file.open("a") as handle:
            handle.write("more\n")
        return by_length(example)

    with pytest.raises(DataError, match="was changed while it was read"):
        predict(file, "out.csv", answer=grows)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--threshold", "1.5"], "--threshold is 1.5, not a probability. Give a number from 0 to 1, for instance 0.8."),
        (["--threshold", "nan"], "--threshold is nan, not a probability. Give a number from 0 to 1, for instance 0.8."),
        (["--format", "parquet"], "a Parquet file goes to no standard output, pipe or device. Name a file with --out."),
        (
            ["--format", "parquet", "--out", "x.csv"],
            "--out is 'x.csv', but the format is parquet. Use a name that ends in .parquet.",
        ),
        (["--out", "in.csv"], "the result would overwrite the input file. Name another file (out= / --out)."),
    ],
)
def test_options_that_cannot_be_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("text\na\n")
    outcome = stepsynth(capsys, "predict", "run", "in.csv", *options)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", f"stepsynth: {said}\n")


def test_new_rows_may_have_the_columns_of_the_labelled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run knew that texts are in `message`, and `predict` asked for it again."""
    config = run_config(ONE, tmp_path / "unused", source__columns={"text": "message", "label": "team"})
    stand_in(monkeypatch, config, Counting(by_length))

    def predicted(name: str, rows: list[dict[str, Any]], columns: dict[str, str] | None = None) -> list[dict[str, str]]:
        target = tmp_path / "out.csv"
        source = write_table(tmp_path / name, rows)
        predict_file(tmp_path, source, columns=columns or {}, output=Output(target), round_number=None)
        return list(csv.DictReader(io.StringIO(target.read_text())))

    (row,) = predicted("theirs.csv", [{"id": "7", "message": "four"}])
    assert (row["id"], row["text"], row["label"]) == ("7", "four", "b")
    # What the run learned from is read, not another column that has our name.
    (row,) = predicted("both.csv", [{"text": "one", "message": "four"}])
    assert (row["text"], row["message"], row["label"]) == ("one", "four", "b")
    (row,) = predicted("ours.csv", [{"id": "7", "text": "one"}])
    assert row["label"] == "a"
    (row,) = predicted("named.csv", [{"other": "one", "message": "four"}], {"text": "other"})
    assert row["label"] == "a"
    with pytest.raises(DataError, match="has no column 'message'"):
        predicted("neither.csv", [{"words": "one", "n": "1"}])
    with pytest.raises(DataError, match="empty text"):
        predicted("hole.csv", [{"message": "", "n": "1"}, {"message": "two", "n": "2"}])


def test_a_text_may_stand_in_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, run_config(ONE, tmp_path / "unused"), Counting(by_length))
    said = stepsynth(capsys, "predict", tmp_path, "--text", "Where is my invoice?", "--text", 'two\nlines, "quoted"')
    assert said.code == 0, said.err
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(row["text"], row["label"]) for row in rows] == [("Where is my invoice?", "b"), ('two\nlines, "quoted"', "a")]
    for arguments, problem in (
        ([], "there is nothing to predict. Give a file, or one text or more with --text."),
        ([tmp_path / "x.csv", "--text", "a"], "both a file and --text are given. Give a file, or one text or more with --text."),
        (["--text", " "], "a --text is empty. Write the text after it."),
        (["--text", "a", "--column", "x"], "--column says how to read a file, but --text is given. Leave one of them out."),
        (["--text", "a", "--sheet", "x"], "--sheet says how to read a file, but --text is given. Leave one of them out."),
        (["Where is it?"], "there is no file 'Where is it?'. To predict this text, write it after --text."),
    ):
        refused = stepsynth(capsys, "predict", tmp_path, *arguments)
        assert (refused.code, refused.err) == (2, f"stepsynth: {problem}\n")
    stand_in(monkeypatch, run_config(PAIR, tmp_path / "unused"), Counting(by_length))
    refused = stepsynth(capsys, "predict", tmp_path, "--text", "a")
    assert (refused.code, refused.err) == (
        2,
        "stepsynth: --text is one text, but a row of this task has text1 and text2. Give a file.\n",
    )


def test_stray_quotes_are_found_line_by_line() -> None:
    """Only one line is in memory, whatever a quote seems to open."""
    assert has_stray_quotes(iter(["a\tb\n", '1\t"x\n', "2\ty\n", '3\t"z\n']))
    assert not has_stray_quotes(iter(["a\tb\n", '1\t"x"\n', "2\ty\n"]))
    assert not has_stray_quotes(iter(["a\tb\n", '1\t"x\n', "2\n", '3\t"z\n']))
    assert has_stray_quotes(iter(["a\tb\n", '1\tx "y\n', '2\t"z\n']))


MILLION = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from stepsynth.cli import predicting
from stepsynth.config import SOURCES, TaskConfig
from stepsynth.types import Prediction
import pyarrow.parquet
task = TaskConfig.model_validate({"name": "t", "instruction": "Decide.", "labels": {"a": "", "b": ""}})
student = SimpleNamespace(predict=lambda rows: [Prediction(row.id, "a", {"a": 0.75, "b": 0.25}) for row in rows])
config = SimpleNamespace(task=task, data=SimpleNamespace(**dict.fromkeys(SOURCES)))
predicting.student_config = lambda folder: config
predicting.find_student = lambda *arguments: SimpleNamespace(config=config, folder=None, round=0, load=lambda: student)
for file in sys.argv[1:]:
    for ending in (".csv", ".jsonl", ".parquet"):
        output = predicting.Output(Path(file).with_name("out" + ending))
        predicting.predict_file(Path("run"), Path(file), columns={}, output=output, round_number=None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_million_rows_need_no_more_memory_than_some_ten_thousand(tmp_path: Path, ending: str) -> None:
    def rows(count: int) -> Path:
        path = tmp_path / f"in-{count}{ending}"
        if ending == ".parquet":
            texts = {"id": [str(n) for n in range(count)], "text": [f'a short "text" {n}' for n in range(count)]}
            pyarrow.parquet.write_table(pyarrow.table(texts), path)
        else:
            sign, line = ("\t" if ending == ".tsv" else ","), '{"id": "%d", "text": "a short text %d"}\n'
            with path.open("w") as file:
                file.writelines(
                    line % (n, n) if ending == ".jsonl" else f'{n}{sign}"a ""text"" {n}"\n' if n >= 0 else f"id{sign}text\n"
                    for n in range(0 if ending == ".jsonl" else -1, count)
                )
        return path

    files = [str(rows(50_000)), str(rows(1_000_000))]
    done = subprocess.run([sys.executable, "-c", MILLION, *files], capture_output=True, text=True, check=True)
    few, many = (int(line) for line in done.stdout.split())
    assert many - few < 60_000, f"{few:,} KiB grew to {many:,} KiB"
    with (tmp_path / "out.jsonl").open() as lines:
        assert all(json.loads(line)["id"] == str(number) for number, line in enumerate(lines))
    assert pyarrow.parquet.read_metadata(tmp_path / "out.parquet").num_rows == 1_000_000
