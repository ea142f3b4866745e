"""The accuracy panel: truths that other ways confirm, outcomes that are kept, gains and losses that are told apart."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from cluster.errors import InvalidRequest
from swarm.bench import plots, record
from swarm.bench.accuracy import gains, page, panel, run, truth
from swarm.cli.main import app


def test_options_read_from_a_table_are_those_of_black_and_scholes():
    moves = np.random.default_rng(0).normal(0, 0.03, (200, 8))
    assert panel.loss_of("options", 8)(moves) == pytest.approx(panel.exact_option_losses(moves), abs=1e-9)


@pytest.mark.parametrize("confidence", panel.CONFIDENCES)
@pytest.mark.parametrize(("m", "shift"), [(5, 2.0), (20, 0.5)])
def test_fourier_inversion_gives_the_tail_of_noncentral_chi_squared(confidence, m, shift):
    """z'z + 2 a'z + a'a; CVaR by E X 1(X > q) = m P(X of m + 2 degrees > q) + a'a P(X of m + 4 degrees > q)."""
    var, cvar = truth._inverted(np.full(m, 2 * shift), np.ones(m), confidence)
    off = m * shift**2
    quantile = stats.ncx2.ppf(confidence, m, off)
    beyond = m * stats.ncx2.sf(quantile, m + 2, off) + off * stats.ncx2.sf(quantile, m + 4, off)
    assert var + off == pytest.approx(quantile, rel=1e-7)
    assert cvar + off == pytest.approx(beyond / (1 - confidence), rel=1e-6)


@pytest.mark.parametrize("confidence", panel.CONFIDENCES)
def test_a_parabola_of_one_normal_gives_the_tail_of_chi_squared(confidence):
    quantile = stats.chi2.ppf(confidence, 1)
    expected = (quantile, stats.chi2.sf(quantile, 3) / (1 - confidence))
    assert truth._parabola(0.0, 1.0, confidence) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("law", "dimension"), [("gaussian", 1), ("gaussian", 5), ("student_t", 5)])
def test_closed_forms_and_both_references_agree(law, dimension):
    by_nets, net_errors = truth.reference(law, dimension, 8, 2**14)
    by_rarity, rare_errors = truth.rare_reference(law, dimension, 8, 2**13)
    for place, book in enumerate(panel.BOOKS):
        exact = truth.closed_form(law, book, dimension)
        if exact is None:
            assert book != "linear"
            continue
        assert (np.abs(by_nets[place] - exact) < 6 * net_errors[place] + 1e-3 * exact).all()
        assert (np.abs(by_rarity[place] - exact) < 6 * rare_errors[place] + 1e-3 * exact).all()


@pytest.mark.parametrize("method", panel.METHODS)
@pytest.mark.parametrize("law", panel.LAWS)
def test_every_method_estimates_the_same_tail(law, method):
    """Each against the law's truth, within the error that its replications show and the bias of a quantile.

    Not at 99.9 %, where four losses make a tail and CVaR of gamma under four degrees of freedom has no variance.
    """
    known = truth.truth(law, 5, nets=4, points=2**14)
    outcome = run.measure(run.Task(law, 5, 2**12, method), 30)
    mean, error = outcome.estimates.mean(axis=0), outcome.estimates.std(axis=0, ddof=1) / np.sqrt(30)
    apart = np.abs(mean - known.values) - 5 * np.hypot(error, known.errors) - 0.02 * known.values
    assert (apart[:, :2] < 0).all()
    assert (outcome.seconds > 0).all()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(panel, "DIMENSIONS", (1,))
    monkeypatch.setattr(panel, "SIZES", (256,))
    monkeypatch.setattr(panel, "LAWS", ("gaussian",))
    monkeypatch.setattr(panel, "METHODS", ("plain", "sobol_pca", "importance"))
    monkeypatch.setattr(run, "truth", lambda law, dimension: truth.truth(law, dimension, nets=2, points=2**12))


def test_a_panel_that_was_stopped_goes_on_and_gives_the_same_bits(tiny, tmp_path):
    done = []
    assert not run.run(tmp_path, share=0.05, minutes=0, progress=lambda *at: done.append(at[2]))
    assert done == ["gaussian-1-256-plain"]
    assert gains.missing(tmp_path) == 2
    assert run.run(tmp_path, share=0.05, progress=lambda *at: done.append(at[2]))
    assert len(done) == len(set(done)) == 4
    kept = tmp_path / "gaussian-1-256-sobol_pca.npz"
    before = np.load(kept)["estimates"]
    kept.unlink()
    assert run.run(tmp_path, share=0.05)
    assert np.array_equal(np.load(kept)["estimates"], before)
    cells = list(gains.cells(tmp_path))
    assert len(cells) == 2 * len(panel.BOOKS) * len(panel.CONFIDENCES) * len(panel.MEASURES)
    assert {cell.truth_exact for cell in cells if cell.book == "linear"} == {True}


def test_gains_and_losses_are_told_apart_and_all_of_them_published(tiny, tmp_path):
    """Outcomes made up: errors of half and of twice the plain ones, in four times and in a quarter of the time."""
    rng = np.random.default_rng(3)
    shape = (len(panel.BOOKS), len(panel.CONFIDENCES), len(panel.MEASURES))
    values = np.full(shape, 0.05)
    np.savez(
        tmp_path / "truth-gaussian-1.npz", values=values, errors=np.zeros(shape), sources=np.array(["closed form"] * 3)
    )
    for method, spread, seconds in (("plain", 1.0, 1.0), ("sobol_pca", 0.5, 4.0), ("importance", 2.0, 0.25)):
        np.savez(
            tmp_path / f"gaussian-1-256-{method}.npz",
            estimates=values + 1e-3 * spread * rng.normal(size=(2000, *shape)),
            seconds=np.full(shape[:2], seconds),
        )
    cells = list(gains.cells(tmp_path))
    good = [cell for cell in cells if cell.method == "sobol_pca"]
    bad = [cell for cell in cells if cell.method == "importance"]
    assert np.mean([cell.lower <= 0.5 <= cell.upper for cell in good]) > 0.7
    assert all(abs(cell.gain - 0.5) < 0.05 and abs(cell.gain_at_equal_time) < 0.1 for cell in good)
    assert all(cell.upper < 0 and abs(cell.gain + 1) < 0.2 and abs(cell.gain_at_equal_time) < 0.1 for cell in bad)
    assert gains.holm(np.array([cell.p_value for cell in cells])).tolist() == [c.method == "sobol_pca" for c in cells]

    written = page.write(cells, gains.missing(tmp_path), "a machine", tmp_path / "docs")
    text = written[0].read_text()
    row = next(line for line in text.splitlines() if line.startswith("| importance | <= 20 | 18 | "))
    assert row.split(" | ")[4:9] == ["0%", "0%", "0%", "0%", "100%"]
    assert "a machine" in text
    with gzip.open(written[1], "rt") as lines:
        assert len(list(csv.DictReader(lines))) == len(cells)
    again = page.write(cells, gains.missing(tmp_path), "a machine", tmp_path / "again")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]


def test_holm_rejects_in_order_and_stops_at_the_first_miss():
    assert gains.holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == [True, False, False, True]


def test_nothing_measured_gives_no_page(tmp_path):
    with pytest.raises(InvalidRequest, match="no cell"):
        page.write([], 480, "", tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_the_command_keeps_a_trial_apart_and_says_what_is_missing(tmp_path):
    asked = ["--home", str(tmp_path), "bench", "accuracy", "--share", "0.002", "--minutes", "0", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["missing_runs"] == 479
    assert [path.name for path in (tmp_path / "bench" / "accuracy-0.002").iterdir()] == ["gaussian-1-256-plain.npz"]


def test_growth_is_drawn_of_what_was_timed_at_three_sizes(tmp_path):
    def timed(name, unit, **params):
        return record.row(name, [float(params["n"])], unit=unit, params=params)

    rows = [timed("sum", "ms", n=n, days=250) for n in (10, 20, 30)]
    rows += [timed("sum by NumPy", "us", n=n, days=250) for n in (10, 20, 30)]
    rows += [timed("product", "us", n=n) for n in (10, 20)]
    taken = record.record("kernels", rows)
    lines = [(10.0, 10.0), (20.0, 20.0), (30.0, 30.0)]
    assert plots.curves(taken) == {
        ("sum", "n", "days 250"): {"": [(x, 1e3 * y) for x, y in lines], "NumPy": lines},
    }
    plots.growth(taken, tmp_path / "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()
    with pytest.raises(InvalidRequest, match="three sizes"):
        plots.growth(record.record("kernels", rows[-1:]), tmp_path / "none.svg")
