"""Learning curves and exchange: fits, choice of the form, real equivalents with intervals and bounds, saturation."""
import numpy as np
import pytest
from scipy import optimize, stats

import gilt
from gilt.evaluation.curves import Curve, choose, fit, misfit, rising
from gilt.evaluation.exchange import Interval, crossing, equivalent, jackknife, saturation

SIZES = np.array([250, 500, 1000, 2000, 4000.0])


def law(n, c=0.3, a=4.0, b=0.35):
    return c + a * np.asarray(n, float) ** -b


def seeds(count, *, noise=0.006, level=0.01, sizes=SIZES, true=law, seed=0):
    """Return errors (S, K) of seeds that differ in level, each with noise of its own, and those levels."""
    rng = np.random.default_rng(seed)
    levels = rng.normal(0, level, (count, 1))
    return true(sizes) + levels + rng.normal(0, noise, (count, len(sizes))), levels[:, 0]


@pytest.mark.parametrize("c, a, b", [(0.3, 4.0, 0.35), (0.0, 2.0, 0.2), (0.1, 30.0, 0.9), (0.05, 0.9, 0.1)])
def test_a_law_is_found_again(c, a, b):
    found = fit(SIZES, law(SIZES, c, a, b), "power3")
    assert found(SIZES) == pytest.approx(law(SIZES, c, a, b), abs=1e-6)
    assert found(1500) == pytest.approx(law(1500, c, a, b), abs=1e-5)


@pytest.mark.parametrize("form, start", [("power3", (0.2, 2.0, 0.3)), ("power2", (2.0, 0.3))])
def test_fits_are_as_good_as_scipys(form, start):
    errors = seeds(1, noise=0.01)[0][0]
    found = fit(SIZES, errors, form)

    def curve(n, *p):
        return law(n, *(p if form == "power3" else (0.0, *p)))

    best, _ = optimize.curve_fit(curve, SIZES, errors, p0=start, bounds=(0, np.inf), maxfev=20_000)
    assert ((found(SIZES) - errors) ** 2).sum() <= ((curve(SIZES, *best) - errors) ** 2).sum() + 1e-9


def test_a_rising_or_level_curve_is_fitted_by_a_level_one():
    assert np.ptp(fit(SIZES, [0.5, 0.52, 0.54, 0.56, 0.58], "power3")(SIZES)) < 1e-9
    assert fit(SIZES, [0.5] * 5, "interpolation")(700) == pytest.approx(0.5)


def test_interpolation_falls_and_goes_through_what_falls():
    errors = np.array([0.8, 0.6, 0.65, 0.4, 0.39])
    found = fit(SIZES, errors, "interpolation")
    grid = found(np.geomspace(250, 4000, 500))
    assert (np.diff(grid) <= 1e-12).all()
    assert found(SIZES[[0, 3, 4]]) == pytest.approx(errors[[0, 3, 4]])
    assert found(SIZES[[1, 2]]) == pytest.approx(np.sqrt(0.6 * 0.65))  # what rises is levelled, in log e


def test_nothing_is_extrapolated():
    for form in ("power3", "power2", "interpolation"):
        found = fit(SIZES, law(SIZES), form)
        assert found(100) == found(250)
        assert found(9000) == found(4000)


def test_an_error_of_nothing_breaks_no_logarithm():
    assert np.isfinite(fit(SIZES, [0.3, 0.1, 0.01, 0.0, 0.0], "interpolation")(np.array([250, 3000.0]))).all()


@pytest.mark.parametrize("sizes, errors, form, part", [
    ([100], [0.5], "power2", "at least two different sizes"),
    ([100, 100], [0.5, 0.4], "power2", "at least two different sizes"),
    ([100, 200], [0.5, 0.4], "power4", "no learning curve 'power4' .*Did you mean 'power3'")])
def test_what_makes_no_curve_is_refused(sizes, errors, form, part):
    with pytest.raises(gilt.ConfigError, match=part):
        fit(sizes, errors, form)


def test_the_forms_are_compared_by_the_largest_size_left_out():
    chosen = choose(SIZES, seeds(8, noise=0.0)[0])
    assert (chosen.form, chosen.best) == ("interpolation", "power3")
    assert chosen.left_out["power3"] == pytest.approx(0, abs=1e-5)
    for name in ("power2", "interpolation"):
        assert chosen.left_out[name] == pytest.approx(fit(SIZES[:4], seeds(8, noise=0.0)[0].mean(0)[:4], name).beyond(4000)
                                                      - seeds(8, noise=0.0)[0].mean(0)[4])
        assert abs(chosen.left_out[name]) > 1e-3


def test_a_law_that_misses_what_was_measured_is_named():
    def bent(n):
        return 0.35 + 0.35 / (1 + (n / 1200) ** 3)

    assert choose(SIZES, seeds(8, noise=0.003, true=bent)[0]).missing == ["power3", "power2"]
    assert choose(SIZES, seeds(8, noise=0.003)[0]).missing == ["power2"]


def test_a_curve_that_rises_more_than_noise_explains_is_found():
    def bumpy(n):
        return law(n) + 0.15 * (n == 1000)

    errors = seeds(6, true=bumpy)[0]
    assert choose(SIZES, errors).rises == (500, 1000)
    assert rising(SIZES, seeds(6)[0]) is None


def test_noise_alone_is_seldom_taken_for_a_rise_or_a_misfit():
    found = [seeds(6, seed=i, noise=0.01)[0] for i in range(150)]
    assert np.mean([rising(SIZES, errors) is not None for errors in found]) <= 0.08
    assert np.mean([misfit(SIZES, errors)["power3"] < 0.01 for errors in found]) <= 0.05


def test_the_form_can_be_asked_for_and_two_sizes_give_a_line():
    assert choose(SIZES, seeds(6)[0], "power2").form == "power2"
    two = choose(np.array([100, 400.0]), seeds(6, sizes=np.array([100, 400.0]))[0])
    assert (two.form, two.best, two.left_out) == ("interpolation", None, {})
    line = fit([100, 400], [0.8, 0.4], "interpolation")
    assert line(200) == pytest.approx(np.sqrt(0.8 * 0.4))


def curves(errors):
    return [fit(SIZES, row, "power3") for row in errors]


def test_the_interval_is_the_paired_t_test_turned_round():
    """Its ends are the numbers of rows at which scipy's paired t test of the arm against the curves gives p = 0.05."""
    errors, levels = seeds(6)
    arm = law(1500) + levels + np.random.default_rng(5).normal(0, 0.006, 6)
    found = equivalent(curves(errors), arm)
    assert found.n_eq.low < found.n_eq.value < found.n_eq.high
    for end in (found.n_eq.low, found.n_eq.high):
        assert stats.ttest_rel(arm, [float(curve(end)) for curve in curves(errors)]).pvalue == pytest.approx(0.05, abs=2e-3)
    middle = [float(curve(found.n_eq.value)) for curve in curves(errors)]
    assert np.mean(arm - middle) == pytest.approx(0, abs=1e-6)


def test_per_seed_the_interval_is_that_of_the_seeds_own_equivalents():
    errors, levels = seeds(6)
    found = equivalent(curves(errors), law(1500) + levels, way="per_seed")
    expected = stats.ttest_1samp(found.seeds, 0).confidence_interval(0.95)
    assert (found.n_eq.low, found.n_eq.high) == pytest.approx((expected.low, expected.high))
    for curve, n, error in zip(curves(errors), found.seeds, law(1500) + levels, strict=True):
        assert curve(n) == pytest.approx(error, abs=1e-5)


@pytest.mark.parametrize("n, low, high", [(40_000, 4000, np.inf), (20, -np.inf, 250)])
@pytest.mark.parametrize("way", ["paired", "per_seed"])
def test_beyond_the_measured_sizes_there_is_a_bound_and_no_value(n, low, high, way):
    errors, levels = seeds(6, noise=0.002)
    found = equivalent(curves(errors), law(n) + levels, way=way)
    assert found.n_eq.value is None
    assert set(found.seeds) == {None}
    assert (found.n_eq.low, found.n_eq.high) == ((low, high) if way == "paired" else (None, None))


def test_near_an_end_one_side_is_open():
    errors, levels = seeds(6, noise=0.01)
    found = equivalent(curves(errors), law(3900) + levels + np.random.default_rng(1).normal(0, 0.01, 6)).n_eq
    assert 1500 < found.low < 4000
    assert found.high == np.inf


def test_one_seed_or_seeds_without_spread_have_no_interval():
    one = equivalent(curves(seeds(1)[0]), np.array([law(1500)])).n_eq
    assert one.value is not None
    assert (one.low, one.high) == (None, None)
    same = np.tile(law(SIZES), (4, 1))
    assert equivalent(curves(same), np.full(4, float(law(1500)))).n_eq.low is None


@pytest.mark.parametrize("true", [law, lambda n: 0.35 + 0.35 / (1 + (n / 1200) ** 1.5)], ids=["power", "bent"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(true):
    """160 studies of 6 seeds: 152 are expected to hold it; fewer than 144 come by chance once in a few hundred times."""
    hits = 0
    for i in range(160):
        errors, levels = seeds(6, noise=0.008, true=true, seed=i)
        form = choose(SIZES, errors).form
        arm = true(1300.0) + levels + np.random.default_rng(10_000 + i).normal(0, 0.008, 6)
        hits += bool(equivalent([fit(SIZES, row, form) for row in errors], arm).n_eq.holds(1300.0))
    assert hits >= 144


@pytest.mark.parametrize("values, expected", [
    ([-1, -0.5, 0.5, 1], np.sqrt(6)), ([-1, 0, 0, 1], np.sqrt(6)), ([0, 0, 1, 2], np.sqrt(2)), ([1, 1, 2, 3], None),
    ([-3, -2, -1, -0.5], None), ([0, 0, 0, 0], 2.0)])
def test_a_crossing_is_found_and_a_level_stretch_gives_its_middle(values, expected):
    assert crossing(np.array([1, 2, 3, 4.0]), np.array(values, float)) == (expected and pytest.approx(expected))


def test_saturation_is_found_again():
    m = np.array([100, 400, 1600.0])
    gains = 700 * (1 - np.exp(-0.8 * m / 700))
    without = np.stack([gains * f for f in (0.95, 1.0, 1.05, 0.98, 1.02)])
    found = saturation(m, gains, without)
    assert (found.rate.value, found.ceiling.value) == pytest.approx((0.8, 700), rel=1e-4)
    assert found.rate.low < 0.8 < found.rate.high
    assert found.ceiling.low < 700 < found.ceiling.high
    assert found.gain(m) == pytest.approx(gains, rel=1e-4)
    slope = (found.gain(801.0) - found.gain(799.0)) / 2
    assert found.worth_buying(float(slope)) == pytest.approx(800, rel=1e-3)


def test_what_does_not_level_off_is_a_line_and_what_brings_nothing_is_none():
    m = np.array([100, 400, 1600.0])
    found = saturation(m, 0.3 * m)
    assert found.ceiling.value == np.inf
    assert found.rate.value == pytest.approx(0.3)
    assert (found.worth_buying(0.2), found.worth_buying(0.4)) == (1600, 0)
    assert saturation(m, -0.1 * m) is None
    assert saturation(m[:2], 0.3 * m[:2]) is None


def test_the_jackknife_of_a_mean_is_the_t_interval():
    values = np.array([1.0, 3.0, 2.0, 5.0])
    without = np.array([np.delete(values, i).mean() for i in range(4)])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert jackknife(values.mean(), without) == pytest.approx((expected.low, expected.high))


def test_an_interval_is_rescaled_with_its_open_ends():
    assert Interval(None, 400.0, np.inf).scaled(200, 100) == Interval(None, 2.0, np.inf)
    assert Interval(300.0, None, None).scaled(200, 100).value == 1.0
    assert Interval(1.0, 0.5, 2.0).holds(2.0)
    assert Interval(1.0, None, None).holds(1.0) is None


def test_a_curve_knows_what_it_would_foretell():
    exact = Curve("power2", SIZES, law(SIZES, 0.0), (0.0, 4.0, 0.35))
    assert exact.beyond(8000) == pytest.approx(law(8000, 0.0))
    assert fit(SIZES, law(SIZES, 0.0), "interpolation").beyond(8000) == pytest.approx(law(8000, 0.0), rel=1e-2)
