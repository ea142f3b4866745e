"""The resident state of the stress agent's fast answers."""

from __future__ import annotations

import numpy as np

from actors.fast import FastService
from actors.risk.stress import fast_kernels
from actors.risk.stress.scenarios import HISTORICAL_WINDOWS, Library
from actors.risk.stress.settings import StressSettings
from hive.messages.dates import iso_date

LAW, SEED = "mc_student_t", 0


def service(state: Library, settings: StressSettings) -> FastService:
    """The named windows that the snapshot covers, the market moves of the settings, and resident Student-t draws."""
    names, parts, starts = [], [], [0]
    for name, start, end in HISTORICAL_WINDOWS:
        first, last = iso_date(start), iso_date(end)
        inside = slice(*np.searchsorted(state.dates, [first, last], side="right").tolist())
        if first < state.base_date or last > state.dates[-1] or inside.start == inside.stop:
            continue
        names.append(name)
        parts.append(state.returns[inside])
        starts.append(starts[-1] + len(parts[-1]))
    n = state.returns.shape[1]
    days = np.vstack(parts) if parts else np.empty((0, n))
    draws = state.simulations.moves(LAW, SEED, np.arange(n))
    names += [f"all positions {move:+.0%}" for move in settings.market_moves]
    arrays = (
        np.array(days.T, order="C"),
        np.array(starts, np.int64),
        np.array(settings.market_moves, float),
        np.empty(len(days)),
        np.array(draws.T, order="C"),
        np.empty((2, len(draws))),
        np.empty(len(draws), np.int64),
    )
    facts = {"scenarios": tuple(names), "law": LAW, "seed": SEED, "draws": len(draws)}
    return FastService(fast_kernels.answer, fast_kernels.serve, arrays, facts, largest=max(2 + n, 1 + len(names)))
