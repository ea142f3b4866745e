"""``swarm bench discrete``: annealing, its quantum simulation and a simulated circuit beside exact and plain methods.

Three problems on the bundled prices: hold k of n positions in equal parts, hold whole lots, and a finely cut convex
problem whose answer a quadratic program has anyway. Everybody gets the same energies. Each method is given a row of
run times, one of optimality gaps over its runs, and one of the time to solution, TTS99 = t ln 0.01 / ln(1 - p) for a
run of median time t that finds the optimum with chance p; its 95 % interval is that of p (Wilson), and stands with the
row's parameters. A method without a success has no time to solution, and its row says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import annealing, annealing_kernels, kernels, vqe
from actors.risk.portfolio.annealing import Qubo, Search
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from swarm.bench import record

DAYS, TRADING_DAYS = 1260, 252
AVERSION = 5.0
CARDINALITY = ((8, 3), (12, 4), (16, 5), (20, 7))  # (positions, of which held)
LOTS = ((4, 4), (5, 4))  # (positions, bits of each)
FINE_BITS = 6  # of the convex problem: steps of 1/63
RUNS, REPEATS = 200, 9
SWEEPS, SLICES, TABU_STEPS, LAYERS = 100, 8, 50, 2
CIRCUIT_LIMIT = 12  # positions up to which the circuit is simulated here; a larger one takes minutes
SEED = 20


@dataclass(frozen=True)
class Contest:
    """One problem, its optimum, and what going through all choices took."""

    name: str
    params: dict[str, Any]
    problem: Qubo
    optimum: float
    spread: float
    exact: record.Row


def run(progress: Callable[[str], None]) -> list[record.Row]:
    """Rows of every method on every problem."""
    annealing_kernels.warm()
    kernels.warm()
    returns = bundled(MarketSettings()).returns[-DAYS:]
    covariance, means = ledoit_wolf(returns)[0] * TRADING_DAYS, returns.mean(axis=0) * TRADING_DAYS
    rows: list[record.Row] = []
    for n, count in CARDINALITY:
        problem = annealing.cardinality_qubo(covariance[:n, :n], means[:n], count, AVERSION)
        rows += _contested("cardinality", {"assets": n, "held": count}, problem, progress)
    for n, bits in LOTS:
        problem, _ = annealing.lots_qubo(covariance[:n, :n], means[:n], bits, AVERSION)
        rows += _contested("lots", {"assets": n, "bits": n * bits}, problem, progress)
    return rows + _convex(covariance[:3, :3], progress)


def _contested(name: str, params: dict[str, Any], problem: Qubo, progress: Callable[[str], None]) -> list[record.Row]:
    progress(f"{name} {params}: every choice")
    taken, (_, optimum, spread) = _timed(lambda: annealing.exact(problem))
    exact = record.row(f"{name}: enumeration, time", taken, unit="ms", params=params)
    contest = Contest(name, params, problem, optimum, spread, exact)
    rows = [exact]
    searches: dict[str, Callable[[], Search]] = {
        "tabu": lambda: annealing.tabu_search(problem, runs=RUNS, steps=TABU_STEPS, seed=SEED),
        "annealing": lambda: annealing.simulated_annealing(problem, runs=RUNS, sweeps=SWEEPS, seed=SEED),
        "sqa_sim": lambda: annealing.simulated_quantum_annealing(
            problem, runs=RUNS, sweeps=SWEEPS, slices=SLICES, seed=SEED
        ),
    }
    for method, search in searches.items():
        progress(f"{name} {params}: {method}")
        rows += _searched(contest, method, search)
    if len(problem.matrix) <= CIRCUIT_LIMIT:
        progress(f"{name} {params}: vqe_sim")
        rows += _circuit(contest)
    return rows


def _searched(contest: Contest, method: str, search: Callable[[], Search]) -> list[record.Row]:
    taken, found = _timed(search)
    each = [whole / RUNS for whole in taken]
    gaps = _gaps(contest, found.energies)
    won = found.energies <= contest.optimum + annealing.SUCCESS * contest.spread
    params: dict[str, Any] = {**contest.params, "success": round(float(won.mean()), 4)}
    name = f"{contest.name}: {method}"
    rows = [
        record.row(f"{name}, time a run", each, unit="ms", params=contest.params, peer=contest.exact),
        record.row(f"{name}, gap to the optimum", gaps, unit="ratio", params=params),
    ]
    value, lower, upper = annealing.time_to_solution(float(np.median(each)), float(won.mean()), RUNS)
    if won.any():
        params["interval"] = f"{lower:.3g} to {upper:.3g}"
        rows.append(record.row(f"{name}, TTS99", [value], unit="ms", params=params, peer=contest.exact))
    else:
        params["TTS99 over"] = f"{lower:.3g}"
        rows.append(record.row(f"{name}, no run found the optimum, time of all", taken, unit="ms", params=params))
    return rows


def _circuit(contest: Contest) -> list[record.Row]:
    started = time.perf_counter()
    found = [vqe.solve(contest.problem, layers=LAYERS, seed=seed) for seed in range(3)]
    each = (time.perf_counter() - started) * 1e3 / len(found)
    gaps = _gaps(contest, np.array([one.energy for one in found]))
    circuits = [float(one.circuits) for one in found]
    name, params = f"{contest.name}: vqe_sim", {**contest.params, "layers": LAYERS}
    return [
        record.row(f"{name}, time", [each], unit="ms", params=params, peer=contest.exact),
        record.row(f"{name}, circuit executions", circuits, unit="circuits", params=params),
        record.row(f"{name}, gap to the optimum", gaps, unit="ratio", params=params),
    ]


def _convex(covariance: np.ndarray, progress: Callable[[str], None]) -> list[record.Row]:
    """Least variance over three positions in steps of 1/63: annealing must tie the quadratic program, not beat it."""
    progress("convex, finely cut")
    n = len(covariance)
    params = {"assets": n, "bits": n * FINE_BITS}
    problem, spread = annealing.lots_qubo(covariance, np.zeros(n), FINE_BITS, 2.0)
    matrix = np.ascontiguousarray(covariance)
    taken, weights = _timed(lambda: kernels.BoxMinimumVariance(np.zeros(n), np.ones(n)).solve(matrix).copy())
    least = float(weights @ covariance @ weights)
    program = record.row("convex: quadratic program, time", taken, unit="ms", params=params)
    rows = [program]
    for method, search in (
        ("annealing", lambda: annealing.simulated_annealing(problem, runs=RUNS, sweeps=4 * SWEEPS, seed=SEED)),
        (
            "sqa_sim",
            lambda: annealing.simulated_quantum_annealing(problem, runs=RUNS, sweeps=SWEEPS, slices=SLICES, seed=SEED),
        ),
    ):
        spans, found = _timed(search)
        held = spread @ found.choice
        over = [float(held @ covariance @ held) / least - 1]
        rows += [
            record.row(f"convex: {method}, time of {RUNS} runs", spans, unit="ms", params=params, peer=program),
            record.row(f"convex: {method}, variance over the program's", over, unit="ratio", params=params),
        ]
    return rows


def _gaps(contest: Contest, energies: np.ndarray) -> Sequence[float]:
    """Energies above the optimum over the size of the optimum, rounding taken off."""
    return [max(0.0, float(gap)) for gap in (energies - contest.optimum) / max(abs(contest.optimum), 1e-12)]


def _timed(call: Callable[[], Any]) -> tuple[list[float], Any]:
    """(milliseconds of each of some calls, what the last one returned), the first call left out."""
    answer = call()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        answer = call()
        taken.append((time.perf_counter() - started) * 1e3)
    return taken, answer
