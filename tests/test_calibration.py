"""Calibration: a reader's own probabilities beside how often it was right, each judged by others."""

from __future__ import annotations

import random

import pytest

from stepsynth.evaluation.calibration import calibrated


def test_a_reader_that_is_too_sure_is_corrected() -> None:
    rng = random.Random(0)
    right = [rng.random() < 0.6 for _ in range(400)]
    shares = calibrated([0.99] * 400, right)
    assert shares is not None
    assert all(abs(share - 0.6) < 0.08 for share in shares)


def test_what_a_reader_knows_stays() -> None:
    rng = random.Random(1)
    said = [rng.choice([0.55, 0.8, 0.95]) for _ in range(600)]
    right = [rng.random() < share for share in said]
    shares = calibrated(said, right)
    assert shares is not None
    for share in (0.55, 0.8, 0.95):
        own = [found for found, given in zip(shares, said, strict=True) if given == share]
        assert sum(own) / len(own) == pytest.approx(share, abs=0.08)


def test_a_row_does_not_judge_itself() -> None:
    """With noise for probabilities a regression that had seen a row would be drawn to its truth."""
    rng = random.Random(2)
    gaps = []
    for _ in range(30):
        right = [rng.random() < 0.5 for _ in range(40)]
        shares = calibrated([rng.random() for _ in right], right)
        if shares is not None:
            yes = [share for share, truth in zip(shares, right, strict=True) if truth]
            no = [share for share, truth in zip(shares, right, strict=True) if not truth]
            gaps.append(sum(yes) / len(yes) - sum(no) / len(no))
    assert sum(gaps) / len(gaps) <= 0.02


@pytest.mark.parametrize("right", [[True] * 30, [False] * 30, [True] * 26 + [False] * 4])
def test_too_few_answers_of_a_kind_give_no_curve(right: list[bool]) -> None:
    assert calibrated([0.9] * 30, right) is None
