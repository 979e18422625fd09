"""Figures of the gap between two sets of rows, against known answers, brute force and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stepsynth.evaluation.gap import (
    GapRow,
    _apart,
    distinct_share,
    matched,
    measure_gap,
    noise_floor,
    surface_features,
)
from stepsynth.evaluation.two_samples import kernel_width, neighbourhoods, separability, squared_mmd, vendi_score


def vectors(rows: int, seed: int, shift: float = 0.0, features: int = 12) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, features)) + shift


def rows_of(found: Any, name: str, *, key: str = "", text: str = "A boat left the harbour") -> list[GapRow]:
    return [GapRow(f"{text} {place} {name}", key, f"{name} {place}", vector) for place, vector in enumerate(found)]


# told apart ------------------------------------------------------------------------------


def test_rows_of_one_distribution_are_not_told_apart_and_shifted_ones_are() -> None:
    same = separability(vectors(100, 1), vectors(100, 2), range(200), 0)
    apart = separability(vectors(100, 1, shift=2.0), vectors(100, 2), range(200), 0)
    assert same is not None
    assert apart is not None
    assert same[1] is not None
    assert same[1][0] <= 0.5 <= same[1][1]
    assert apart[0] > 0.99


def test_the_interval_covers_no_difference_about_as_often_as_it_says() -> None:
    covered, found = 0, []
    for seed in range(60):
        value = separability(vectors(40, seed), vectors(40, seed + 1000), range(80), seed)
        assert value is not None
        assert value[1] is not None
        found.append(value[0])
        covered += value[1][0] <= 0.5 <= value[1][1]
    # It leaves out how the classifier varies, so it is somewhat too narrow.
    assert covered >= 48
    assert abs(np.mean(found) - 0.5) < 0.05


def test_only_rows_of_one_fold_are_compared() -> None:
    """Folds with other classifiers have scores on other scales: pooled, no difference would look like less than none."""
    found = [separability(vectors(15, s), vectors(15, s + 1000), range(30), s, interval=False) for s in range(40)]
    assert np.mean([value[0] for value in found if value]) > 0.45


def test_copies_in_one_group_give_nothing_away_and_widen_the_interval() -> None:
    written, real = vectors(20, 1, shift=0.3), vectors(20, 2)
    alone = separability(written, real, range(40), 0)
    copied = separability(np.repeat(written, 4, axis=0), np.repeat(real, 4, axis=0), [place // 4 for place in range(160)], 0)
    assert alone is not None
    assert copied is not None
    assert alone[1] is not None
    assert copied[1] is not None
    # Four times as many rows that say nothing new.
    assert copied[1][1] - copied[1][0] > 0.6 * (alone[1][1] - alone[1][0])
    assert abs(copied[0] - alone[0]) < 0.2


def test_too_few_groups_have_no_figure() -> None:
    assert separability(vectors(20, 1), vectors(20, 2), [place % 4 for place in range(40)], 0) is None


def test_the_same_rows_give_the_same_figures() -> None:
    one, other = vectors(50, 1), vectors(50, 2)
    assert separability(one, other, range(100), 3) == separability(one, other, range(100), 3)


# distances -------------------------------------------------------------------------------


def test_the_discrepancy_is_none_on_average_without_a_difference_and_grows_with_it() -> None:
    width = kernel_width(vectors(100, 0))
    none = [squared_mmd(vectors(50, s), vectors(50, s + 100), width) for s in range(30)]
    some = squared_mmd(vectors(50, 1, shift=0.5), vectors(50, 2), width)
    more = squared_mmd(vectors(50, 1, shift=1.0), vectors(50, 2), width)
    assert abs(np.mean(none)) < 0.003
    assert 0.01 < some < more


def test_the_discrepancy_is_that_of_the_formula() -> None:
    one, other = vectors(6, 1, features=3), vectors(4, 2, features=3)

    def like(a: Any, b: Any) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * 1.5**2))

    within = sum(like(a, b) for i, a in enumerate(one) for j, b in enumerate(one) if i != j) / 30
    beyond = sum(like(a, b) for i, a in enumerate(other) for j, b in enumerate(other) if i != j) / 12
    across = sum(like(a, b) for a in one for b in other) / 24
    assert squared_mmd(one, other, 1.5) == pytest.approx(within + beyond - 2 * across)


def test_neighbourhoods_are_those_of_a_loop_over_all_pairs() -> None:
    written, real, k = vectors(25, 1, shift=0.4, features=4), vectors(30, 2, features=4), 5

    def reach(rows: Any, place: int) -> float:
        return sorted(float(np.linalg.norm(rows[place] - other)) for at, other in enumerate(rows) if at != place)[k - 1]

    def near(one: Any, other: Any, most: float) -> bool:
        return float(np.linalg.norm(one - other)) <= most

    inside = [[near(w, r, reach(real, at)) for at, r in enumerate(real)] for w in written]
    around = [[near(w, r, reach(written, at)) for r in real] for at, w in enumerate(written)]
    found = neighbourhoods(written, real, k)
    assert found.precision == pytest.approx(sum(map(any, inside)) / 25)
    assert found.recall == pytest.approx(sum(any(row[at] for row in around) for at in range(30)) / 30, abs=1e-6)
    assert found.density == pytest.approx(sum(map(sum, inside)) / (k * 25), abs=1e-6)
    assert found.coverage == pytest.approx(sum(any(row[at] for row in inside) for at in range(30)) / 30, abs=1e-6)


def test_without_a_difference_neighbourhoods_are_what_the_papers_say() -> None:
    found = [neighbourhoods(vectors(60, s, features=4), vectors(60, s + 100, features=4)) for s in range(20)]
    # Naeem et al. 2020: density is 1 on average, and coverage nearly 1 - 1 / 2^k.
    assert np.mean([each.density for each in found]) == pytest.approx(1.0, abs=0.06)
    assert np.mean([each.coverage for each in found]) == pytest.approx(1 - 1 / 2**5, abs=0.02)


def test_neighbourhoods_need_more_rows_than_neighbours() -> None:
    with pytest.raises(ValueError, match="found 5 and 9"):
        neighbourhoods(vectors(5, 1), vectors(9, 2))


# variety ---------------------------------------------------------------------------------


def test_equal_rows_count_as_one_and_orthogonal_ones_each() -> None:
    assert vendi_score(np.ones((7, 3))) == pytest.approx(1.0)
    assert vendi_score(np.eye(5)) == pytest.approx(5.0)
    assert vendi_score(np.vstack([np.eye(4), np.eye(4)])) == pytest.approx(4.0)


def test_distinct_shares_count_runs_of_words() -> None:
    assert distinct_share(["a b a b"], 1) == 0.5
    assert distinct_share(["A b, a b"], 2) == pytest.approx(2 / 3)
    assert distinct_share([""], 1) == 0.0


def test_a_surface_does_not_know_what_words_mean() -> None:
    assert surface_features("Cats eat 12 mice!") == surface_features("Dogs hid 34 nuts!")
    assert surface_features("") == pytest.approx([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert all(map(math.isfinite, surface_features("\u4eca\u65e5\u306f \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \ud800")))


# both sides ------------------------------------------------------------------------------


def test_both_sides_have_as_many_rows_of_each_label() -> None:
    written = [*rows_of(vectors(30, 1), "w", key="a"), *rows_of(vectors(30, 2), "v", key="b")]
    real = [*rows_of(vectors(40, 3), "r", key="a"), *rows_of(vectors(12, 4), "s", key="b"), *rows_of(vectors(9, 5), "t", key="c")]
    ours, theirs = matched(written, real)
    assert [sum(row.key == key for row in ours) for key in "abc"] == [30, 12, 0]
    assert [sum(row.key == key for row in theirs) for key in "abc"] == [30, 12, 0]
    assert ours[:30] == written[:30]


def test_however_many_rows_there_are_no_more_than_the_limit_are_compared() -> None:
    many = rows_of(vectors(900, 1), "w", key="a")
    ours, theirs = matched(many, many)
    assert len(ours) == len(theirs) == 500


def test_another_mix_of_labels_is_no_gap() -> None:
    """Labels lie far apart; the written rows have other shares of them, but each label's rows are as the real ones."""

    def side(name: str, first: int, second: int, seed: int) -> list[GapRow]:
        low, high = vectors(first, seed), vectors(second, seed + 1, shift=4.0)
        return [*rows_of(low, f"{name}a", key="a", text="x"), *rows_of(high, f"{name}b", key="b", text="x")]

    figures = measure_gap(side("w", 80, 30, 1), side("r", 30, 80, 5), 5.0, 0)
    assert figures is not None
    assert figures.n == 60
    assert figures.embedding_auc == pytest.approx(0.5, abs=0.15)


def test_too_few_rows_have_no_figures() -> None:
    assert measure_gap(rows_of(vectors(19, 1), "w"), rows_of(vectors(60, 2), "r"), 1.0, 0) is None


def test_without_vectors_there_are_the_figures_of_texts() -> None:
    written = [GapRow(f"It is number {place}.", "", f"w{place}") for place in range(30)]
    real = [GapRow(f"so many boats, {place} or {place + 1}", "", f"r{place}") for place in range(30)]
    figures = measure_gap(written, real, None, 0)
    assert figures is not None
    assert figures.embedding_auc is None
    assert figures.vendi is None
    assert figures.agreement is None
    assert figures.surface_auc == 1.0
    assert figures.distinct_1 is not None


def test_agreement_and_near_duplicates_are_shares_of_rows() -> None:
    texts = ["Where is my invoice for March?", *(f"Boat {chr(97 + n) * 5} sank near {chr(122 - n) * 6}" for n in range(24))]
    real = [GapRow(text, "", f"r{n}", None, True) for n, text in enumerate(texts)]
    said = ["Where is my invoice for March", *(f"{chr(97 + n) * 7} took {chr(110 + n % 9) * 6} home" for n in range(24))]
    written = [GapRow(text, "", f"w{n}", None, n < 20) for n, text in enumerate(said)]
    figures = measure_gap(written, real, None, 0)
    assert figures is not None
    assert figures.near_real == pytest.approx(1 / 25)
    assert figures.agreement == pytest.approx(20 / 25)
    assert figures.agreement_real == 1.0
    assert figures.agreement_ci95 is not None
    assert figures.agreement_ci95[0] < 0.8 < figures.agreement_ci95[1]


def test_records_are_rounded_json_values() -> None:
    figures = measure_gap(rows_of(vectors(30, 1), "w"), rows_of(vectors(30, 2), "r"), 5.0, 0)
    assert figures is not None
    record = figures.record()
    assert record["n"] == 30
    assert record["vendi"] == round(record["vendi"], 4)
    assert isinstance(record["embedding_auc_ci95"], list)


# noise floor -----------------------------------------------------------------------------


def test_the_floor_is_what_no_gap_looks_like() -> None:
    floor = noise_floor(rows_of(vectors(60, 1), "r"), 5.0, 0)
    assert floor is not None
    assert floor["n"] == 30
    assert floor["embedding_auc"]["low"] < 0.5 < floor["embedding_auc"]["high"]
    assert floor["density"]["mean"] == pytest.approx(1.0, abs=0.2)
    assert "near_written" not in floor
    _apart.forget()
    assert noise_floor(rows_of(vectors(60, 1), "r"), 5.0, 0) == floor


def test_too_few_rows_have_no_floor() -> None:
    assert noise_floor(rows_of(vectors(19, 1), "r"), 5.0, 0) is None
