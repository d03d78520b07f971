"""Significance: each test against scipy, statsmodels, scikit-posthocs or a published table."""
import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import gilt
from gilt.evaluation.significance import (
    better,
    critical_difference,
    friedman,
    holm,
    interval_width,
    mcnemar,
    paired_t,
    sd_interval,
    seeds_needed,
    sign_flip,
)
from gilt.evaluation.uncertainty import t_interval, wilson


@pytest.mark.parametrize("k", [2, 3, 6, 12])
def test_the_paired_t_test_is_scipys(k):
    a, b = np.random.default_rng(k).normal([[0.5], [0]], 1, (2, k))
    assert paired_t(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1], []])
def test_without_spread_there_is_no_t_test(differences):
    assert paired_t(differences) is None


@pytest.mark.parametrize("k", [3, 6, 9])
def test_the_sign_flip_test_is_scipys_exact_one(k):
    values = np.random.default_rng(k).normal(0.5, 1, k)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values) == pytest.approx(exact.pvalue)


def test_beyond_16_seeds_signs_are_drawn_and_p_is_near_the_exact_one():
    values = np.random.default_rng(0).normal(0.25, 1, 18)
    exact = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=2**18)
    assert sign_flip(values) == pytest.approx(exact.pvalue, abs=0.01)
    assert sign_flip(np.arange(1, 41)) > 0


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels(seed):
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    ps = np.random.default_rng(seed).uniform(0, 0.1, 7).round(2)  # with ties
    assert holm(list(ps)) == pytest.approx(list(multipletests(ps, method="holm")[1]))


def test_an_arm_without_p_does_not_count_in_holm():
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([]) == []


@pytest.mark.parametrize("only_a, only_b", [(3, 11), (0, 5), (20, 20), (0, 0), (1, 0)])
def test_mcnemar_is_statsmodels_exact_one(only_a, only_b):
    statsmodels = pytest.importorskip("statsmodels.stats.contingency_tables")
    a = np.array([True] * 30 + [True] * only_a + [False] * only_b + [False] * 7)
    b = np.array([True] * 30 + [False] * only_a + [True] * only_b + [False] * 7)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b, found.n) == (only_a, only_b, len(a))
    assert found.p == pytest.approx(statsmodels.mcnemar([[30, only_a], [only_b, 7]], exact=True).pvalue)


@pytest.mark.parametrize("seed, ties", [(0, False), (1, False), (2, True)])
def test_friedmans_statistic_and_nemenyis_p_are_those_of_scipy_and_scikit_posthocs(seed, ties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn
        posthocs = pytest.importorskip("scikit_posthocs")
    values = np.random.default_rng(seed).normal([0.8, 0.82, 0.83, 0.8, 0.85], 0.05, (9, 5))
    values = values.round(1) if ties else values
    found = friedman(values)
    expected = stats.friedmanchisquare(*values.T)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.04)  # scipy's is the approximation, ours nearly exact
    assert found.nemenyi == pytest.approx(posthocs.posthoc_nemenyi_friedman(pd.DataFrame(-values)).to_numpy(), abs=1e-6)
    assert found.ranks == pytest.approx(stats.rankdata(-values, axis=1).mean(0))


def test_friedmans_p_is_exact_on_few_data_sets():
    values = np.array([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])  # all agree: the one order in six that the second may give
    assert friedman(values).p == pytest.approx(1 / 6)
    assert friedman(values).smallest == pytest.approx(1 / 6)
    three = np.vstack([values, [[0.3, 0.1, 0.2]]])
    statistic = friedman(three).statistic
    every = [stats.friedmanchisquare(*np.array([(1, 2, 3), a, b]).T).statistic
             for a, b in itertools.product(itertools.permutations((1, 2, 3)), repeat=2)]
    assert friedman(three).p == pytest.approx(np.mean(np.array(every) >= statistic - 1e-9))


def test_for_the_loss_the_lowest_ranks_first():
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    assert friedman(values, lower=True).ranks == pytest.approx([1, 2, 3])
    assert friedman(values).ranks == pytest.approx([3, 2, 1])


def test_arms_that_are_all_level_have_no_statistic():
    found = friedman(np.ones((4, 3)))
    assert (found.statistic, found.p) == (0, 1)
    assert found.groups == ((0, 1, 2),)


@pytest.mark.parametrize("shape", [(1, 4), (5, 2)])
def test_friedman_asks_for_three_arms_and_two_data_sets(shape):
    with pytest.raises(gilt.ConfigError, match="3 arms or more on 2 data sets or more"):
        friedman(np.ones(shape))


@pytest.mark.parametrize("arms, q", [
    (2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)])
def test_the_critical_difference_is_that_of_demsars_table(arms, q):
    """Demsar 2006, table 5a: q at 0.05 of Nemenyi's test for 2 to 10 classifiers."""
    assert critical_difference(arms, 14) == pytest.approx(q * (arms * (arms + 1) / (6 * 14)) ** 0.5, abs=1e-3)


def test_demsars_example_comes_out_as_printed():
    """Demsar 2006, section 3.2.2: C4.5 with and without m and cf tuned on 14 data sets, table 6."""
    auc = np.array([[0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
                    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
                    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
                    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
                    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]])
    found = friedman(auc)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.cd == pytest.approx(1.25, abs=0.01)  # printed as 1.25
    # without the correction for ties, which the paper leaves out, the statistic is the printed 9.28
    assert 12 * 14 / (4 * 5) * ((found.ranks**2).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.01)
    assert found.p < 0.05


def test_groups_are_the_longest_runs_within_the_critical_difference():
    values = np.tile([0.9, 0.8, 0.7, 0.6, 0.5], (10, 1))
    found = friedman(values)  # mean ranks 1 to 5, critical difference 1.93
    assert found.groups == ((0, 1), (1, 2), (2, 3), (3, 4))
    assert (found.nemenyi[0, 2] < 0.05, found.nemenyi[0, 1] < 0.05) == (True, False)


@pytest.mark.parametrize("wins, n", [(3, 3), (4, 5), (0, 6)])
def test_the_probability_over_seeds_is_the_part_that_wins_with_wilsons_interval(wins, n):
    found = better([1.0] * wins + [-1.0] * (n - wins))
    assert (found.value, found.n, found.images) == (pytest.approx(wins / n), n, False)
    assert (found.low, found.high) == pytest.approx(wilson(wins, n), abs=1e-9)


def test_a_tie_is_half_a_win():
    assert better([0.0, 0.0]).value == 0.5


def test_the_probability_over_images_is_that_of_redrawn_test_sets():
    rng = np.random.default_rng(0)
    images = rng.choice([-1.0, 0.0, 1.0], 200, p=[0.15, 0.65, 0.2])
    drawn = rng.choice(images, (20_000, 200)).sum(1)
    expected = (drawn > 0).mean() + (drawn == 0).mean() / 2
    found = better([images, images, images, images])
    assert found.images
    assert found.value == pytest.approx(expected, abs=0.03)


def test_clear_needs_a_high_value_and_an_interval_above_one_half():
    assert better([1.0] * 6).clear
    assert not better([1.0] * 3).clear  # three wins of three: the interval begins at 0.44
    assert not better([1.0] * 14 + [-1.0] * 6).clear  # 0.7, surely above chance, yet not above 0.75


@pytest.mark.parametrize("sd, width", [(1.9, 2.0), (0.5, 2.0), (3.0, 0.4), (1.0, 30.0)])
def test_the_seeds_planned_are_the_fewest_whose_interval_is_narrow_enough(sd, width):
    needed = seeds_needed(width, sd)
    assert interval_width(sd, needed) <= width
    assert needed == 2 or interval_width(sd, needed - 1) > width


def test_the_width_is_that_of_the_t_interval():
    values = np.random.default_rng(0).normal(0, 2, 7)
    _, low, high = t_interval(values)
    assert interval_width(values.std(ddof=1), 7) == pytest.approx(high - low)


def test_without_spread_two_seeds_are_enough_and_a_width_of_nothing_is_an_error():
    assert seeds_needed(2, 0) == 2
    assert seeds_needed(1e-9, 1) == 1_000_000
    with pytest.raises(gilt.ConfigError, match="a number above 0, not 0"):
        seeds_needed(0, 1)


def test_the_interval_of_a_standard_deviation_holds_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0, 1, (4000, 4)).std(1, ddof=1)
    held = [low <= 1 <= high for low, high in (sd_interval(sd, 4) for sd in draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
