"""The compiled tail selection against its plain twin: random, tied, constant, tiny, and with a bad guess."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.risk import kernels
from actors.risk.measures import tail, tail_size
from cluster.errors import InvalidMarketData

CONFIDENCES = st.one_of(st.sampled_from([0.6, 0.75, 0.8, 0.9, 0.95, 0.975, 0.99, 0.999]), st.floats(0.51, 0.9995))
SHAPES = {
    "normal": lambda rng, n: rng.normal(0, 0.01, n),
    "heavy": lambda rng, n: rng.standard_t(2, n),
    "tied": lambda rng, n: np.round(rng.normal(0, 1, n), 1),
    "binary": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "constant": lambda rng, n: np.full(n, 0.01),
    "rising": lambda rng, n: np.sort(rng.normal(0, 1, n)),
    "falling": lambda rng, n: -np.sort(rng.normal(0, 1, n)),
    "organ pipe": lambda rng, n: np.concatenate([np.arange(n // 2), np.arange(n - n // 2)[::-1]]).astype(float),
}


@st.composite
def samples(draw, max_size=4000):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    losses = SHAPES[draw(st.sampled_from(sorted(SHAPES)))](rng, draw(st.integers(1, max_size)))
    return losses


@settings(max_examples=300)
@given(losses=samples(), confidence=CONFIDENCES)
def test_tail_selected_is_the_tail_of_the_plain_twin(losses, confidence):
    var, cvar = tail(losses, confidence)
    protected = losses.copy()
    protected.setflags(write=False)
    assert kernels.tail(protected, confidence) == (var, pytest.approx(cvar, rel=1e-12, abs=1e-15))
    assert kernels.tail_inside(losses.copy(), confidence) == (var, pytest.approx(cvar, rel=1e-12, abs=1e-15))


@settings(max_examples=200)
@given(losses=samples(max_size=900), confidence=CONFIDENCES, guess=st.floats())
def test_guess_changes_nothing(losses, confidence, guess):
    var, cvar = tail(losses, confidence)
    found = kernels.tail_of(losses, np.empty(len(losses)), confidence, guess)
    assert found == (var, pytest.approx(cvar, rel=1e-12, abs=1e-15))
    assert found == kernels.tail_of(losses, np.empty(len(losses)), confidence, kernels.NO_GUESS)  # to the bit


@settings(max_examples=200)
@given(losses=samples(max_size=900), confidence=CONFIDENCES)
def test_rows_of_the_tail_weigh_one_and_average_to_cvar(losses, confidence):
    n = len(losses)
    var, cvar = tail(losses, confidence)
    rows, shares = np.empty(n, np.int64), np.empty(n)
    found = kernels.tail_rows(losses, var, confidence, rows, shares)
    plain_rows, plain_shares = kernels.tail_rows_plain(losses, var, confidence)
    np.testing.assert_array_equal(rows[:found], plain_rows)
    np.testing.assert_allclose(shares[:found], plain_shares, rtol=1e-12, atol=1e-15)
    assert shares[:found].sum() == pytest.approx(1, rel=1e-12)
    assert shares[:found].min() >= -1e-12
    assert shares[:found] @ losses[rows[:found]] == pytest.approx(cvar, rel=1e-12, abs=1e-15)


@settings(max_examples=200)
@given(n=st.integers(1, 100_000), confidence=CONFIDENCES)
def test_compiled_tail_size_is_the_plain_one(n, confidence):
    assert kernels.counted_tail(n, confidence) == tail_size(n, confidence)


@pytest.mark.parametrize("n", [1, 5, 191, 192, 5000])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_loss_that_is_not_finite_is_refused_wherever_it_stands(n, bad, place):
    losses = np.random.default_rng(n).normal(size=n)
    losses[round(place * (n - 1))] = bad
    assert math.isnan(kernels.tail_of(losses, np.empty(n), 0.95, 0.0)[0])
    assert math.isnan(kernels.tail_inside(losses.copy(), 0.95)[1])
    with pytest.raises(InvalidMarketData):
        kernels.tail(losses, 0.95)


def test_empty_sample_is_refused():
    with pytest.raises(InvalidMarketData):
        kernels.tail(np.empty(0), 0.95)


@settings(max_examples=100)
@given(losses=samples(max_size=300), rank=st.floats(0, 1))
def test_losses_are_kept_in_order_by_registers_as_one_by_one(losses, rank):
    threshold = float(np.quantile(losses, rank))
    by_register, one_by_one = np.empty(len(losses)), np.empty(len(losses))
    found = kernels._keep(losses, by_register, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "WIDE", False)
        assert found == kernels._keep.py_func(losses, one_by_one, threshold)
    np.testing.assert_array_equal(by_register[: found[0]], one_by_one[: found[0]])


@pytest.mark.parametrize("n", [192, 1000, 20_000])
def test_sample_of_nothing_but_nan_is_refused_and_ends(n):
    losses = np.full(n, math.nan)
    assert math.isnan(kernels.tail_of(losses, np.empty(n), 0.95, kernels.NO_GUESS)[0])
    with pytest.raises(InvalidMarketData):
        kernels.tail(losses, 0.99)
