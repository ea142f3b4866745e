"""Copulas against statsmodels' closed forms, relations to Kendall's tau, tail limits, and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.distributions.copula import api as statsmodels_copulas

from actors.risk.correlation import copulas
from cluster.errors import InvalidMarketData

PARAMETERS = {"gaussian": [0.6], "student_t": [0.6, 4.0], "clayton": [2.0], "gumbel": [1.8]}


def theirs(family, parameters):
    return {
        "gaussian": lambda: statsmodels_copulas.GaussianCopula(corr=parameters[0]),
        "student_t": lambda: statsmodels_copulas.StudentTCopula(corr=parameters[0], df=parameters[1]),
        "clayton": lambda: statsmodels_copulas.ClaytonCopula(theta=parameters[0]),
        "gumbel": lambda: statsmodels_copulas.GumbelCopula(theta=parameters[0]),
    }[family]()


def draw(family, parameters, n, seed):
    """By constructions that know no density: common shocks, and frailties (Marshall & Olkin 1988)."""
    rng = np.random.default_rng(seed)
    if family in ("gaussian", "student_t"):
        x = rng.normal(size=(n, 2)) @ np.linalg.cholesky([[1, parameters[0]], [parameters[0], 1]]).T
        if family == "student_t":
            x /= np.sqrt(rng.chisquare(parameters[1], (n, 1)) / parameters[1])
        return scipy.stats.norm.cdf(x) if family == "gaussian" else scipy.stats.t(parameters[1]).cdf(x)
    waits = rng.exponential(size=(n, 2))
    if family == "clayton":
        return (1 + waits / rng.gamma(1 / parameters[0], size=(n, 1))) ** (-1 / parameters[0])
    alpha, angle = 1 / parameters[0], rng.uniform(0, np.pi, (n, 1))  # a positive stable frailty (Kanter 1975)
    stable = np.sin(alpha * angle) / np.sin(angle) ** parameters[0]
    stable *= (np.sin((1 - alpha) * angle) / rng.exponential(size=(n, 1))) ** ((1 - alpha) / alpha)
    return np.exp(-((waits / stable) ** alpha))


def ranks(sample):
    observations = copulas.pseudo_observations(sample)
    return observations[:, 0].copy(), observations[:, 1].copy()


@pytest.mark.parametrize("family", PARAMETERS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), weak=st.booleans())
def test_density_equals_statsmodels(family, seed, weak):
    parameters = {"gaussian": [-0.3], "student_t": [-0.3, 11.0], "clayton": [0.2], "gumbel": [1.05]}[family]
    parameters = parameters if weak else PARAMETERS[family]
    u, v = np.random.default_rng(seed).uniform(0.001, 0.999, (2, 50))
    expected = theirs(family, parameters).logpdf(np.column_stack([u, v]))
    np.testing.assert_allclose(
        copulas.FAMILIES[family].density(u, v, np.array(parameters)), expected, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("family", PARAMETERS)
def test_density_is_one_in_the_mean_and_has_uniform_margins(family):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x, w = scipy.stats.norm.cdf(4.5 * nodes), weights * 4.5 * scipy.stats.norm.pdf(4.5 * nodes)
    for u in (0.05, 0.4, 0.9):
        density = np.exp(copulas.FAMILIES[family].density(np.full(200, u), x, np.array(PARAMETERS[family])))
        assert density @ w == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("family", PARAMETERS)
def test_start_has_the_kendall_tau_asked_for(family):
    for tau in (0.1, 0.5, 0.8):
        parameters = copulas.FAMILIES[family].start(tau)
        assert theirs(family, parameters.tolist()).tau() == pytest.approx(tau, abs=1e-6)


@pytest.mark.parametrize("family", PARAMETERS)
def test_free_numbers_and_parameters_are_each_others_inverse(family):
    parameters = np.array(PARAMETERS[family])
    chosen = copulas.FAMILIES[family]
    np.testing.assert_allclose(chosen.bound(chosen.free(parameters)), parameters, rtol=1e-12)


@pytest.mark.parametrize("family", PARAMETERS)
def test_truth_is_recovered_and_chosen_by_aic(family):
    u, v = ranks(draw(family, PARAMETERS[family], 4000, seed=1))
    fits = {name: copulas.fit_pair(u, v, name) for name in PARAMETERS}
    own = fits[family]
    assert next(iter(own.parameters.values())) == pytest.approx(PARAMETERS[family][0], rel=0.07)
    if family == "student_t":
        assert own.parameters["degrees"] == pytest.approx(4.0, rel=0.3)
    assert min(fits.values(), key=lambda fit: fit.bic).family == family
    assert own.aic == pytest.approx(2 * len(own.parameters) - 2 * own.log_likelihood)


@pytest.mark.parametrize("family", ["student_t", "clayton", "gumbel"])
def test_tail_dependence_is_the_limit_of_its_definition(family):
    """C(q, q) / q below, and the same of the survival copula above, ever further out."""
    lower, upper = copulas.FAMILIES[family].tails(np.array(PARAMETERS[family]))
    if family == "student_t":
        q, rho, nu = 1e-8, 0.6, 4.0
        edge = scipy.stats.t(nu).ppf(q)

        def falls_with(x):  # given one return of x, the other is t with one degree more
            scale = np.sqrt((1 - rho**2) * (nu + x**2) / (nu + 1))
            return scipy.stats.t(nu).pdf(x) * scipy.stats.t(nu + 1).cdf((edge - rho * x) / scale)

        both = scipy.integrate.quad(lambda s: falls_with(edge / s) * -edge / s**2, 0, 1)[0]
        assert lower == upper
        assert lower == pytest.approx(both / q, rel=1e-3)
        return
    copula = theirs(family, PARAMETERS[family])
    q = 1e-6
    assert lower == pytest.approx(copula.cdf([q, q]) / q, abs=5e-3) if family == "clayton" else lower == 0
    joint = 1 - 2 * (1 - q) + copula.cdf([1 - q, 1 - q])
    assert upper == pytest.approx(joint / q, abs=5e-3)


@pytest.mark.parametrize("family", ["student_t", "clayton", "gumbel"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(family):
    lower, upper = copulas.FAMILIES[family].tails(np.array(PARAMETERS[family]))
    inside = []
    for seed in range(12 if family == "student_t" else 40):
        fit = copulas.fit_pair(*ranks(draw(family, PARAMETERS[family], 500, seed)), family)
        truth, bounds = (lower, fit.lower_bounds) if family != "gumbel" else (upper, fit.upper_bounds)
        inside.append(bounds[0] <= truth <= bounds[1])
    assert np.mean(inside) >= 0.8


def test_spread_of_clayton_is_that_of_the_bootstrap():
    """Ranks drawn again, the fit made again: the interval is about 2 x 1.96 of those spreads wide."""
    sample = draw("clayton", [1.5], 600, seed=3)
    fit = copulas.fit_pair(*ranks(sample), "clayton")
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(60):
        again = sample[rng.integers(600, size=600)] + rng.normal(0, 1e-9, (600, 2))
        draws.append(copulas.fit_pair(*ranks(again), "clayton").lower)
    assert fit.lower_bounds[1] - fit.lower_bounds[0] == pytest.approx(2 * 1.96 * np.std(draws), rel=0.3)


def test_negative_dependence_is_left_to_the_elliptical_families():
    sample = draw("gaussian", [-0.5], 500, seed=2)
    u, v = ranks(sample)
    assert copulas.fit_pair(u, v, "clayton") is None
    assert copulas.fit_pair(u, v, "gumbel") is None
    assert copulas.fit_pair(u, v, "gaussian").parameters["rho"] == pytest.approx(-0.5, abs=0.08)
    assert copulas.fit_pair(u, v, "student_t").parameters["rho"] == pytest.approx(-0.5, abs=0.08)


def test_copies_of_a_series_end_at_the_limit_of_every_family_without_failing():
    u = copulas.pseudo_observations(np.random.default_rng(0).normal(size=(300, 1)))[:, 0]
    for family in PARAMETERS:
        fit = copulas.fit_pair(u, u.copy(), family)
        assert np.isfinite([fit.log_likelihood, fit.lower, fit.upper]).all()


@pytest.mark.parametrize("degrees", [4.0, None])
def test_copula_of_a_book_is_recovered(degrees):
    rng = np.random.default_rng(7)
    truth = np.array([[1, 0.5, 0.2], [0.5, 1, 0.3], [0.2, 0.3, 1]])
    sample = rng.normal(size=(4000, 3)) @ np.linalg.cholesky(truth).T
    if degrees:
        sample = sample / np.sqrt(rng.chisquare(degrees, (4000, 1)) / degrees)
    observations = copulas.pseudo_observations(np.exp(sample.clip(-50, 50)))  # margins of any law
    gaussian, student = (copulas.fit_book(observations, family) for family in ("gaussian", "student_t"))
    np.testing.assert_allclose(student.correlation, truth, atol=0.05)
    if degrees:
        assert student.degrees_bounds[0] <= degrees <= student.degrees_bounds[1]
        assert student.bic < gaussian.bic
    else:
        assert student.degrees > 40
        assert gaussian.bic < student.bic
        np.testing.assert_allclose(gaussian.correlation, truth, atol=0.04)


def test_likelihoods_of_a_book_equal_scipys_densities():
    rng = np.random.default_rng(8)
    observations = copulas.pseudo_observations(rng.normal(size=(200, 1)) + rng.normal(size=(200, 3)))
    fit = copulas.fit_book(observations, "gaussian")
    scores = scipy.stats.norm.ppf(observations)
    joint = scipy.stats.multivariate_normal(np.zeros(3), fit.correlation).logpdf(scores)
    assert fit.log_likelihood == pytest.approx((joint - scipy.stats.norm.logpdf(scores).sum(axis=1)).sum(), rel=1e-9)
    fit = copulas.fit_book(observations, "student_t")
    scores = scipy.stats.t(fit.degrees).ppf(observations)
    joint = scipy.stats.multivariate_t(np.zeros(3), fit.correlation, df=fit.degrees).logpdf(scores)
    alone = scipy.stats.t(fit.degrees).logpdf(scores).sum(axis=1)
    assert fit.log_likelihood == pytest.approx((joint - alone).sum(), rel=1e-9)


def test_book_and_pair_agree_on_two_symbols(snapshot):
    observations = copulas.pseudo_observations(snapshot.returns[-1000:, :2])
    pair = copulas.fit_pair(observations[:, 0].copy(), observations[:, 1].copy(), "student_t")
    book = copulas.fit_book(observations, "student_t")
    assert pair.log_likelihood >= book.log_likelihood - 1e-6  # the book's correlation is re-weighted, not searched
    assert pair.log_likelihood == pytest.approx(book.log_likelihood, rel=0.02)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_observations_are_ranks_whatever_the_law(seed):
    sample = np.random.default_rng(seed).standard_cauchy((150, 2))
    observations = copulas.pseudo_observations(sample)
    np.testing.assert_allclose(np.sort(observations[:, 0]), np.arange(1, 151) / 151)
    np.testing.assert_array_equal(observations, copulas.pseudo_observations(np.arctan(sample)))


@pytest.mark.parametrize(
    "returns",
    [np.zeros((300, 2)), np.full((300, 2), np.nan), np.random.default_rng(0).normal(size=(99, 2))],
    ids=["still", "nan", "short"],
)
def test_what_has_no_copula_is_refused(returns):
    with pytest.raises(InvalidMarketData):
        copulas.pseudo_observations(returns)


@pytest.mark.parametrize("family", ["gaussian", "student_t"])
def test_book_that_repeats_a_symbol_or_outnumbers_the_days_is_refused(family):
    rng = np.random.default_rng(0)
    copies = copulas.pseudo_observations(np.repeat(rng.normal(size=(300, 1)), 2, axis=1))
    many = copulas.pseudo_observations(rng.normal(size=(100, 120)))
    for observations in (copies, many):
        with pytest.raises(InvalidMarketData):
            copulas.fit_book(observations, family)
