"""Soft labels and weights: what a student's answers make of rows, and what the next student learns from them."""

from __future__ import annotations

import json
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from command import stepsynth
from family_worlds import FAMILIES, build_family_world, lend_student, rows_of
from spying_student import SpyingStudent
from stepsynth.config import TaskConfig
from stepsynth.config.run import with_later_keys
from stepsynth.errors import ConfigError
from stepsynth.report.verify import verify_run
from stepsynth.students import create_student
from stepsynth.students.classifier import Classifier, _soft_loss
from stepsynth.tasks import TaskFamily, create_family
from stepsynth.training.runner import _learned
from stepsynth.training.soft_labels import pseudo_labelled, weighted
from stepsynth.training.workers import Job
from stepsynth.training.workers.wire import job_document, read_job
from stepsynth.types import Example, Prediction
from test_pool import FOLDS, pooled, run

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = {"cold": "", "warm": "", "hot": ""}
TEXTS = [Example(f"pool-{place}", f"text {place}") for place in range(4)]
# The mean of the probabilities of "cold" is 0.6; one of the texts is unsure.
SAID = [
    Prediction(row.id, "cold", {"cold": cold, "warm": warm, "hot": round(1 - cold - warm, 6)})
    for row, (cold, warm) in zip(TEXTS, [(0.9, 0.05), (0.8, 0.1), (0.4, 0.35), (0.3, 0.6)], strict=True)
]
SAID[3] = Prediction("pool-3", "warm", SAID[3].probabilities)
TEXTS_COLD = [Example(f"round-0/{place}", f"text {place}", "cold") for place in range(4)]
GOLD = [Example(f"g{place}", f"gold {place}", label) for place, label in enumerate(["cold"] * 2 + ["warm"] * 5 + ["hot"] * 2)]


def family_of(kind: str = "classification") -> TaskFamily:
    return create_family(TaskConfig(family=kind, name="t", instruction="Decide.", labels=LABELS))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lend_student(tmp_path_factory.mktemp("student") / "tiny")


# labels for texts ---------------------------------------------------------------------------------


def test_hard_labels_are_the_likeliest_ones_and_nothing_else() -> None:
    rows = pseudo_labelled("hard", family_of(), TEXTS, SAID, GOLD)
    assert [row.label for row in rows] == ["cold", "cold", "cold", "warm"]
    assert {(row.soft_label, row.weight) for row in rows} == {((), 1.0)}


def test_soft_labels_are_the_students_probabilities() -> None:
    rows = pseudo_labelled("soft", family_of(), TEXTS, SAID, GOLD)
    assert [dict(row.soft_label) for row in rows] == [dict(said.probabilities) for said in SAID]
    assert [(row.label, row.weight) for row in rows] == [("cold", 1.0), ("cold", 1.0), ("cold", 1.0), ("warm", 1.0)]


def test_aligned_labels_have_more_of_what_gold_rows_have_more_of() -> None:
    rows = pseudo_labelled("aligned", family_of(), TEXTS, SAID, GOLD)
    # By hand: gold shares with one row more of each label are 3, 6 and 3 of 12; the texts' means are 0.6, 0.275, 0.125.
    moved = [0.4 * 0.25 / 0.6, 0.35 * 0.5 / 0.275, 0.25 * 0.25 / 0.125]
    assert list(dict(rows[2].soft_label).values()) == pytest.approx([value / sum(moved) for value in moved], abs=1e-6)
    assert rows[2].label == "warm"
    assert all(sum(share for _, share in row.soft_label) == pytest.approx(1.0, abs=1e-5) for row in rows)
    assert {row.weight for row in rows} == {1.0}


def test_a_text_counts_less_where_the_student_is_less_sure() -> None:
    rows = pseudo_labelled("confident", family_of(), TEXTS, SAID, GOLD)
    aligned = pseudo_labelled("aligned", family_of(), TEXTS, SAID, GOLD)
    assert [row.soft_label for row in rows] == [row.soft_label for row in aligned]
    sure = [max(share for _, share in row.soft_label) for row in rows]
    middle = statistics.mean(sure)
    above, below = [[row.weight for row, s in zip(rows, sure, strict=True) if (s >= middle) is side] for side in (True, False)]
    assert above, below
    assert len(set(above)) == 1
    assert max(below) < above[0]
    assert statistics.mean([row.weight for row in rows]) == pytest.approx(1.0, abs=1e-5)


def test_texts_of_which_a_student_is_equally_sure_count_the_same() -> None:
    said = [Prediction(row.id, "hot", {"cold": 0.1, "warm": 0.1, "hot": 0.8}) for row in TEXTS]
    assert {row.weight for row in pseudo_labelled("confident", family_of(), TEXTS, said, GOLD)} == {1.0}


def test_several_labels_are_probabilities_of_their_own() -> None:
    said = [Prediction(row.id, "cold|hot", {"cold": 0.9, "warm": 0.2, "hot": 0.7}) for row in TEXTS]
    rows = pseudo_labelled("soft", family_of("multi_label"), TEXTS, said, [])
    assert {row.label for row in rows} == {"cold|hot"}
    assert dict(rows[0].soft_label) == {"cold": 0.9, "warm": 0.2, "hot": 0.7}


def test_a_label_without_gold_rows_is_not_aligned() -> None:
    """Of its share nothing is known."""
    gold = [row for row in GOLD if row.label != "hot"]
    rows = pseudo_labelled("aligned", family_of(), TEXTS, SAID, gold)
    # With one row more of each label, cold has 3 and warm 6 of 10.
    moved = [0.4 * 0.3 / 0.6, 0.35 * 0.6 / 0.275, 0.25]
    assert list(dict(rows[2].soft_label).values()) == pytest.approx([value / sum(moved) for value in moved], abs=1e-6)


def test_probabilities_of_a_users_own_student_are_cut() -> None:
    (row,) = pseudo_labelled("soft", family_of(), TEXTS[:1], [Prediction("pool-0", "warm", {"cold": -0.001, "warm": 1.001})], [])
    assert dict(row.soft_label) == {"cold": 0.0, "warm": 1.0, "hot": 0.0}
    (row,) = weighted(family_of(), TEXTS_COLD[:1], [Prediction("x", "warm", {"cold": -0.001, "warm": 1.001})], GOLD)
    assert row.weight >= 0


@pytest.mark.parametrize("how", ["hard", "soft", "aligned", "confident"])
def test_texts_without_an_answer_are_left_out(how: str) -> None:
    assert pseudo_labelled(how, family_of(), TEXTS, [Prediction(row.id, "", {}) for row in TEXTS], GOLD) == []
    assert pseudo_labelled(how, family_of(), [], [], GOLD) == []


# weights of written rows --------------------------------------------------------------------------


def test_a_written_row_weighs_what_a_student_gives_its_label() -> None:
    rows = weighted(family_of(), TEXTS_COLD, SAID, GOLD)
    assert [row.weight for row in rows] == pytest.approx([0.9 / 0.6, 0.8 / 0.6, 0.4 / 0.6, 0.3 / 0.6], abs=1e-6)
    assert {(row.label, row.soft_label) for row in rows} == {("cold", ())}


def test_each_of_several_labels_is_a_decision() -> None:
    written = [Example("round-0/0", "a", "cold|hot"), Example("round-0/1", "b", "warm"), Example("round-0/2", "c", "")]
    said = [Prediction("x", "cold", {"cold": 0.9, "warm": 0.2, "hot": 0.5}) for _ in written]
    one, two, none = 0.9 * 0.8 * 0.5, 0.1 * 0.2 * 0.5, 0.1 * 0.8 * 0.5
    mean = (one + two + none) / 3
    rows = weighted(family_of("multi_label"), written, said, GOLD)
    assert [row.weight for row in rows] == pytest.approx([one / mean, two / mean, none / mean], abs=1e-5)


def test_rows_that_a_student_thinks_impossible_all_count_the_same() -> None:
    written = [Example("round-0/0", "a", "cold"), Example("round-0/1", "b", "cold")]
    said = [Prediction("x", "hot", {"hot": 1.0}) for _ in written]
    assert [row.weight for row in weighted(family_of(), written, said, GOLD)] == [1.0, 1.0]
    assert weighted(family_of(), [], [], GOLD) == []


def test_rows_of_a_label_that_the_student_does_not_know_keep_the_mean_weight() -> None:
    """They are needed most, and it finds them impossible."""
    written = [*TEXTS_COLD, Example("round-0/9", "a heat wave", "hot")]
    said = [*SAID, Prediction("x", "warm", {"cold": 0.5, "warm": 0.5, "hot": 0.0})]
    gold = [row for row in GOLD if row.label != "hot"]
    *others, rare = weighted(family_of(), written, said, gold)
    assert rare.weight == pytest.approx(1.0, abs=1e-5)
    assert [row.weight for row in others] == pytest.approx([0.9 / 0.6, 0.8 / 0.6, 0.4 / 0.6, 0.3 / 0.6], abs=1e-5)
    assert weighted(family_of(), written, said, GOLD)[-1].weight == 0.0


def test_a_bar_in_the_only_label_of_a_row_separates_nothing() -> None:
    task = TaskConfig(name="t", instruction="Decide.", labels={"a|b": "", "a": "", "b": ""})
    said = [Prediction("x", "a|b", {"a|b": 0.2, "a": 0.8, "b": 0.0}), Prediction("x", "a", {"a|b": 0.6, "a": 0.4, "b": 0.0})]
    written = [Example("round-0/0", "one", "a|b"), Example("round-0/1", "two", "a|b")]
    rows = weighted(create_family(task), written, said, written)
    assert [row.weight for row in rows] == pytest.approx([0.5, 1.5])
    aligned = pseudo_labelled("aligned", create_family(task), written, said, written)
    assert [sum(share for _, share in row.soft_label) for row in aligned] == pytest.approx([1.0, 1.0], abs=1e-5)


# what a student learns ----------------------------------------------------------------------------


def test_plain_rows_have_the_usual_loss() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    targets = torch.cat([torch.nn.functional.one_hot(labels, 3).float(), torch.ones(5, 1)], 1)
    assert _soft_loss(logits, targets, several=False).item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-6
    )
    held = torch.randint(0, 2, (5, 3)).float()
    assert _soft_loss(logits, torch.cat([held, torch.ones(5, 1)], 1), several=True).item() == pytest.approx(
        torch.nn.functional.binary_cross_entropy_with_logits(logits, held).item(), rel=1e-6
    )


@pytest.mark.parametrize("several", [False, True])
def test_a_row_of_weight_two_is_a_row_twice(several: bool) -> None:
    torch.manual_seed(0)
    logits, shares = torch.randn(2, 3), torch.rand(2, 3).softmax(1)
    once = _soft_loss(logits, torch.cat([shares, torch.tensor([[2.0], [1.0]])], 1), several=several)
    twice = _soft_loss(logits[[0, 0, 1]], torch.cat([shares[[0, 0, 1]], torch.ones(3, 1)], 1), several=several)
    assert (2 * once).item() == pytest.approx((3 * twice).item(), rel=1e-6)


@pytest.mark.parametrize("head", ["probe-start", "fresh"])
@pytest.mark.parametrize("family", ["classification", "multi_label"])
def test_a_student_learns_the_soft_label_and_what_has_weight(head: str, family: str, student: Path, tmp_path: Path) -> None:
    """The labels say the opposite of the soft ones, and rows without weight the opposite of both."""
    config = build_family_world(tmp_path / "world", family, student=student).config(
        f"student.head={head}", "student.min_steps=150", "student.learning_rate=3e-3", "student.batch_size=8", "student.keep=last"
    )
    made = create_student(config)
    assert isinstance(made, Classifier)
    one, other = list(config.task.labels)[:2]
    rows = []
    for place, row in enumerate(rows_of("classification", 16)):
        right, wrong = (one, other) if row["label"] == "kalm" else (other, one)
        soft = tuple((label, 0.95 if label == right else 0.05 / (len(made.labels) - 1)) for label in made.labels)
        rows.append(Example(f"s{place}", row["text"], wrong, soft_label=soft))
        rows.append(Example(f"z{place}", row["text"], wrong, weight=0.0))
    model = made.fit(rows, [], seed=0, out=_made(tmp_path / "model"))
    said = [max(found.probabilities, key=found.probabilities.__getitem__) for found in model.predict(rows)]
    # One of two rows is the same text without weight; all have the opposite label.
    assert [s == row.label for s, row in zip(said, rows, strict=True)] == [False] * len(rows)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_labels_are_smoothed_as_those_of_plain_rows(student: Path, tmp_path: Path) -> None:
    config = build_family_world(tmp_path / "world", "classification", student=student).config("student.label_smoothing=0.2")
    made = create_student(config)
    assert isinstance(made, Classifier)
    first, second, *_ = made.labels
    count = len(made.labels)
    found = made._soft_targets([Example("a", "a", first), Example("b", "b", first, soft_label=((first, 0.5), (second, 0.5)))])
    assert found[0][:2] == pytest.approx([0.8 + 0.2 / count, 0.2 / count])
    assert found[1][:2] == pytest.approx([0.4 + 0.2 / count] * 2)
    logits = torch.randn(1, count)
    usual = torch.nn.functional.cross_entropy(logits, torch.tensor([0]), label_smoothing=0.2)
    assert _soft_loss(logits, torch.tensor(found[:1]), several=False).item() == pytest.approx(usual.item(), rel=1e-5)


def test_a_worker_gets_soft_labels_and_weights(student: Path, tmp_path: Path) -> None:
    config = build_family_world(tmp_path / "world", "classification", student=student).config()
    rows = [Example("a", "a", "kalm", soft_label=(("kalm", 0.75), ("spitz", 0.25)), weight=0.5), Example("b", "b", "kalm")]
    assert list(read_job(json.loads(json.dumps(job_document(Job(config, [rows]))))).parts) == [rows]


def test_students_of_plain_rows_keep_their_identity() -> None:
    row = Example("a", "text", "kalm")
    assert _learned(row) == ["text", "kalm", "", []]
    assert _learned(Example("a", "text", "kalm", weight=0.5)) != _learned(row)
    assert _learned(Example("a", "text", "kalm", soft_label=(("kalm", 1.0),))) != _learned(row)


# in runs ------------------------------------------------------------------------------------------


REFUSED = {
    ("extractive_qa", "soft"): "pool_labels=soft is for tasks with labels",
    ("extractive_qa", "aligned"): "pool_labels=aligned is for tasks with labels",
    ("extractive_qa", "confident"): "pool_labels=confident is for tasks with labels",
    ("multi_label", "aligned"): "pool_labels=aligned is for rows with one label",
    ("multi_label", "confident"): "pool_labels=confident is for rows with one label",
}


@pytest.mark.parametrize("how", ["hard", "soft", "aligned", "confident"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_cannot_tell_is_refused(family: str, how: str, student: Path, tmp_path: Path) -> None:
    world = pooled(tmp_path / "world", family, student)
    said = REFUSED.get((family, how))
    refused: Any = pytest.raises(ConfigError, match=said) if said else nullcontext()
    with refused:
        world.config(f"method.pool_labels={how}")
    if family == "extractive_qa":
        with pytest.raises(ConfigError, match="final=weighted is for tasks with labels"):
            world.config("method.name=crossfit", "method.final=weighted")


@pytest.mark.parametrize("changes", ["method.pool_labels=soft", "method.final=weighted"])
def test_a_probe_cannot_learn_them_and_says_so(changes: str, student: Path, tmp_path: Path) -> None:
    world = pooled(tmp_path / "world", "classification", student)
    with pytest.raises(ConfigError, match="no effect on a linear probe"):
        world.config("method.name=crossfit", "student.head=probe", changes)
    # A method that labels no texts with a student does not read the key.
    world.config("method.name=annotate", "student.head=probe", "method.pool_labels=soft")


@pytest.mark.parametrize(("method", "how"), [("pool", "soft"), ("crossfit", "soft"), ("pool", "confident")])
def test_what_students_learn_of_the_pool_in_every_fold(
    method: str, how: str, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soft labels, made with gold rows outside the fold that is judged."""
    shown: list[frozenset[str]] = []

    def spy(found: str, family: TaskFamily, texts: Any, said: Any, gold: Any) -> list[Example]:
        assert found == how
        shown.append(frozenset(row.id for row in gold))
        # The spying student's labels tell who gave them; none of them is the task's, so they cannot be aligned.
        return pseudo_labelled("soft", family, texts, said, gold)

    monkeypatch.setattr("stepsynth.training.crossfit.pseudo_labelled", spy)
    pupil = SpyingStudent()
    config = pooled(tmp_path / "world", "classification", student, name=method, seed_rows=24, rounds=0).config(
        f"method.pool_labels={how}", "method.final=pool"
    )
    run(config, tmp_path / "run", pupil)
    assert pupil.leaks == []
    learned = [[row for row in train if row.id.startswith("pool-")] for train, _ in pupil.fits]
    assert sum(map(bool, learned)) == FOLDS + 1
    assert all(row.soft_label for rows in learned for row in rows)
    *folds, everything = sorted(shown, key=len)
    assert len(folds) == FOLDS
    assert sorted(name for fold in folds for name in everything - fold) == sorted(everything)


@pytest.mark.parametrize("how", ["soft", "confident"])
def test_a_run_with_soft_labels_resumes_and_predicts(
    how: str, student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With real students, from the shell."""
    world = pooled(tmp_path / "world", "classification", student)
    out = tmp_path / "run"
    said = stepsynth(capsys, "run", world.config_path, "--out", out, "--set", f"method.pool_labels={how}")
    assert said.code == 0, said.err
    assert verify_run(out) == []
    again = stepsynth(capsys, "run", world.config_path, "--out", out, "--set", f"method.pool_labels={how}")
    assert again.code == 0, again.err
    changed = stepsynth(capsys, "run", world.config_path, "--out", out)
    assert changed.code == 2
    assert "pool_labels" in changed.err
    (tmp_path / "new.txt").write_text("one text\n")
    assert stepsynth(capsys, "predict", out, tmp_path / "new.txt", "--out", tmp_path / "answers.jsonl").code == 0


def test_a_stored_config_without_the_key_means_hard_labels(student: Path, tmp_path: Path) -> None:
    world = pooled(tmp_path / "world", "classification", student)
    assert "pool_labels" not in world.config().resolved()["method"]
    assert world.config().method.pool_labels == with_later_keys({"method": {}})["method"]["pool_labels"] == "hard"
