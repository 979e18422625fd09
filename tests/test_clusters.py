"""Rows that share a context count as one cluster, in every interval and test; without shared contexts nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

from simulated_students import DIFFICULTY, EASE, expected, two_methods_on_passages
from stepsynth.evaluation import (
    evaluate_classification,
    evaluate_extractive_qa,
    evaluate_multi_label,
    hierarchical_interval,
    hierarchical_paired,
    mcnemar,
    paired_difference,
    wilson,
)
from stepsynth.evaluation.clusters import cluster_sums, clusters_of, design_effect, pseudo_rows
from stepsynth.evaluation.drift import halves_drift
from stepsynth.evaluation.forecast import CurvePoint, forecast
from stepsynth.evaluation.power import too_small_for
from stepsynth.evaluation.statistics import share_interval
from stepsynth.types import Example, Prediction, Span

PASSAGE_SD = 1.5


def rows(*contexts: str) -> list[Example]:
    return [Example(f"test-{place}", f"text {place}", "yes", context) for place, context in enumerate(contexts)]


# which rows


def test_rows_of_one_context_are_one_cluster_whatever_their_case_and_white_space() -> None:
    assert clusters_of(rows("a b", "c", "A  B", "", "", "c")) == (0, 1, 0, 2, 3, 1)


@pytest.mark.parametrize("contexts", [(), ("",) * 3, ("a", "b", ""), ("a",)])
def test_rows_that_share_no_context_have_no_clusters(contexts: tuple[str, ...]) -> None:
    assert clusters_of(rows(*contexts)) is None


def test_clusters_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 for 3 rows"):
        cluster_sums(np.zeros(3), (0, 1))


# clusters of one row each are rows


def test_clusters_of_one_row_each_change_nothing_but_the_quantile() -> None:
    """Of so many clusters even that is nearly the same."""
    random = np.random.default_rng(0)
    a, b = random.random((3, 1_000)) < 0.8, random.random((3, 1_000)) < 0.75
    alone, x, y = tuple(range(1_000)), a.tolist(), b.tolist()
    assert pseudo_rows(a.astype(float), alone) == pytest.approx(a.astype(float))
    assert share_interval(a[0].tolist(), alone) == pytest.approx(wilson(int(a[0].sum()), 1_000), abs=1e-4)
    assert mcnemar(a[0], b[0], alone) == mcnemar(a[0], b[0])
    for plain_call, clustered in (
        (hierarchical_interval(x, 0), hierarchical_interval(x, 0, alone)),
        (hierarchical_paired(x, y, 0).ci95, hierarchical_paired(x, y, 0, alone).ci95),
        (paired_difference(a[0], b[0], 0).ci95, paired_difference(a[0], b[0], 0, alone).ci95),
    ):
        assert clustered == pytest.approx(plain_call, abs=1e-3)


def test_copies_of_rows_add_nothing() -> None:
    """Four equal rows a cluster: the interval is that of one of them."""
    random = np.random.default_rng(1)
    a, b = random.random((3, 200)) < 0.7, random.random((3, 200)) < 0.6
    alone, four = tuple(range(200)), tuple(place // 4 for place in range(800))
    a4, b4 = np.repeat(a, 4, axis=1), np.repeat(b, 4, axis=1)
    assert design_effect(a4[0].astype(float), four) == pytest.approx(4, rel=0.02)
    assert share_interval(a4[0].tolist(), four) == pytest.approx(share_interval(a[0].tolist(), alone), abs=1e-3)
    one = hierarchical_paired(a.tolist(), b.tolist(), 0, alone)
    copied = hierarchical_paired(a4.tolist(), b4.tolist(), 0, four)
    assert (*copied.ci95, copied.p_value) == pytest.approx((*one.ci95, one.p_value), abs=1e-5)
    assert hierarchical_interval(a4.tolist(), 0, four) == pytest.approx(hierarchical_interval(a.tolist(), 0, alone), abs=1e-5)
    assert paired_difference(a4[0], b4[0], 0, four).p_value == pytest.approx(mcnemar(a[0], b[0]), abs=0.015)
    assert mcnemar(a4[0], b4[0]) < mcnemar(a4[0], b4[0], four)


def test_the_interval_of_a_share_agrees_with_statsmodels_for_the_effective_number_of_rows() -> None:
    from scipy.stats import t
    from statsmodels.stats.proportion import proportion_confint

    clusters = tuple(place // 5 for place in range(400))
    right = np.random.default_rng(2).random(80).repeat(5) < 0.6
    rows_left = 400 / design_effect(right.astype(float), clusters)
    level = 2 * (1 - t.cdf(t.ppf(0.975, 79), 10**9))
    low, high = proportion_confint(right.mean() * rows_left, rows_left, alpha=level, method="wilson")
    assert share_interval(right.tolist(), clusters) == pytest.approx((low, high), abs=1e-5)


def test_the_variance_of_one_seed_is_that_of_a_cluster_robust_regression() -> None:
    import statsmodels.api as sm

    a, b, places = two_methods_on_passages(np.random.default_rng(3), 1, 1, 60, 0.0, PASSAGE_SD)
    differences = (a - b)[0, 0]
    regression = sm.OLS(differences, np.ones(len(differences))).fit
    fitted = regression(cov_type="cluster", cov_kwds={"groups": np.array(places)})
    ours = pseudo_rows(differences[None, :], places)[0]
    # The library corrects by (n - 1) / (n - 1) * G / (G - 1), as we do.
    assert ours.std(ddof=1) / len(ours) ** 0.5 == pytest.approx(fitted.bse[0], rel=1e-6)


# borders


def test_one_passage_says_nothing_about_others() -> None:
    right, wrong, one = [True, True, False], [False, True, False], (0, 0, 0)
    assert share_interval(right, one) == (0.0, 1.0)
    for result in (paired_difference(right, wrong, 0, one), hierarchical_paired([right] * 2, [wrong] * 2, 0, one)):
        assert (result.ci95, result.p_value) == ((-1.0, 1.0), 1.0)
    assert hierarchical_interval([right, wrong], 0, one) == (0.0, 1.0)


def test_all_right_counts_each_passage_once() -> None:
    clusters = tuple(place // 5 for place in range(100))
    low, high = share_interval([True] * 100, clusters)
    assert (low, high) == hierarchical_interval([[True] * 100] * 3, 0, clusters)
    assert low == pytest.approx(wilson(20, 20)[0], abs=0.02)
    assert high == 1.0
    assert low < wilson(100, 100)[0]


def test_passages_that_all_come_to_the_same_leave_what_they_did_not_show() -> None:
    """Resampling passages with one win and one loss each would call a difference impossible."""
    a, b, clusters = [True, False] * 10, [False, True] * 10, tuple(place // 2 for place in range(20))
    for result in (paired_difference(a, b, 0, clusters), hierarchical_paired([a] * 2, [b] * 2, 0, clusters)):
        assert (result.difference, result.ci95, result.p_value) == (0.0, (-0.3, 0.3), 1.0)


# what the intervals promise


@pytest.mark.parametrize("seeds", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_intervals_over_passages_hold_the_truth_where_intervals_over_rows_do_not(seeds: int) -> None:
    """About 40 passages with 4.5 questions each; 500 runs leave a binomial error of 1 point."""
    a, b, places = two_methods_on_passages(np.random.default_rng(seeds), 500, seeds, 42, 0.0, PASSAGE_SD)
    truth = expected(EASE, float(np.hypot(DIFFICULTY, PASSAGE_SD * 2**0.5)))
    held = {}
    for name, clusters in (("rows", None), ("passages", places)):
        single = [hierarchical_interval(run, 0, clusters) for run in a.tolist()]
        paired = [hierarchical_paired(x, y, 0, clusters) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        held[name] = (
            np.mean([low <= truth <= high for low, high in single]),
            np.mean([low <= 0 <= high for low, high in (result.ci95 for result in paired)]),
            np.mean([result.p_value >= 0.05 for result in paired]),
        )
    assert max(held["rows"]) < 0.91, held
    assert min(held["passages"]) >= 0.925, held
    assert max(held["passages"]) <= 0.985, held


def test_shares_of_passages_are_resampled_by_passage() -> None:
    random = np.random.default_rng(5)
    places = tuple(place // 6 for place in range(120))
    held: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(100):
        scores = np.clip(0.5 + random.normal(0, 0.2, 20).repeat(6) + random.normal(0, 0.1, 120), 0, 1)
        for clustered in held:
            low, high = hierarchical_interval([scores.tolist()], 0, places if clustered else None)
            held[clustered].append(low <= 0.5 <= high)
    assert np.mean(held[False]) < 0.75
    assert 0.91 <= np.mean(held[True]) <= 0.99


# where they are used


def test_evaluations_say_how_many_contexts_there_are_and_count_them() -> None:
    gold = rows(*("a" * 10 + "b" * 10 + "c" * 10))
    said = [Prediction(row.id, "no" if row.context == "c" else "yes", {"yes": 0.5, "no": 0.5}) for row in gold]
    spans = [Example(row.id, row.text, context=row.context, answers=(Span(row.context, 0),)) for row in gold]
    found = [Prediction(row.id, "x" if row.context == "c" else row.context, {"x": 1.0, row.context: 1.0}, 0) for row in spans]
    for evaluation in (
        evaluate_classification(gold, said, ["yes", "no"]),
        evaluate_multi_label(gold, said, ["yes", "no"]),
        evaluate_extractive_qa(spans, found),
    ):
        assert evaluation.details["clusters"] == 3
        low, high = evaluation.ci95
        assert high - low > 0.8 > wilson(20, 30)[1] - wilson(20, 30)[0]
    alone = rows(*(f"{place}" for place in range(30)))
    plain_one = evaluate_classification(alone, said, ["yes", "no"])
    assert plain_one.ci95 == wilson(20, 30)
    assert "clusters" not in plain_one.details


def test_warnings_and_forecasts_count_contexts() -> None:
    random = np.random.default_rng(6)
    a, b = random.random(40).repeat(10) < 0.8, random.random(40).repeat(10) < 0.7
    clusters = tuple(place // 10 for place in range(400))
    assert too_small_for(0.1, a.tolist(), b.tolist()) is None
    warning = too_small_for(0.1, a.tolist(), b.tolist(), clusters)
    assert warning is not None
    assert "on 400 rows of 40 contexts" in warning
    points = [CurvePoint(0, n, side.tolist()) for n, side in ((50, b), (100, a))]
    wide, narrow = (forecast(points, 200, clusters=c).ci95 for c in (clusters, None))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    # Of 20 contexts five are gained and two are lost.
    steady, better = [[place // 10 in right for place in range(200)] for right in (range(10), range(2, 15))]
    places = tuple(place // 10 for place in range(200))
    assert halves_drift([steady, better], [steady, steady]) is not None
    assert halves_drift([steady, better], [steady, steady], clusters=(places, places)) is None
    # A gain on every row of a single passage looks certain, and is one passage.
    one = ((0,) * 6, (0,) * 6)
    assert halves_drift([[False] * 6, [True] * 6], [[False] * 6, [False] * 6]) is not None
    assert halves_drift([[False] * 6, [True] * 6], [[False] * 6, [False] * 6], clusters=one) is None


def test_a_drift_warning_is_as_rare_with_few_contexts() -> None:
    random, warned, runs = np.random.default_rng(5), 0, 400
    for _ in range(runs):
        halves = [[np.repeat(random.random(4) < 0.5, 5).tolist() for _ in range(2)] for _ in range(2)]
        places = tuple(place // 5 for place in range(20))
        warned += halves_drift(halves[0], halves[1], clusters=(places, places)) is not None
    # One in forty is promised; with plain percentiles it is about one in fifteen.
    assert warned <= 0.04 * runs


def test_equal_gains_of_few_contexts_are_not_established() -> None:
    """The p-value says no more than the interval that takes the place of a width of zero."""
    worse, better = [[0.0, 0.0] * 5] * 3, [[1.0, 0.0] * 5] * 3
    found = hierarchical_paired(better, worse, 0, tuple(place // 2 for place in range(10)))
    assert found.ci95[0] <= 0 < found.difference
    assert found.p_value == 1.0
