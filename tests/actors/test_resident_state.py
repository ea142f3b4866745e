"""Resident state looks into the snapshot's arrays: an agent must not copy what the object store shares."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.correlation import estimators as correlation
from actors.risk.correlation.settings import CorrelationSettings
from actors.risk.portfolio import allocation
from actors.risk.portfolio.settings import PortfolioSettings
from actors.risk.stress import scenarios
from actors.risk.stress.settings import StressSettings
from actors.risk.value_at_risk import estimators as value_at_risk
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.market.settings import MarketSettings
from hive.market.sources import bundled

VIEWS = {
    "value_at_risk": lambda s: [value_at_risk.rebuild(s, ValueAtRiskSettings()).returns],
    "stress": lambda s: [scenarios.rebuild(s, StressSettings()).returns],
    "correlation": lambda s: [(state := correlation.rebuild(s, CorrelationSettings())).window, state.compared],
    "portfolio": lambda s: [(state := allocation.rebuild(s, PortfolioSettings())).returns, state.recent],
}


@pytest.mark.parametrize("room", VIEWS)
def test_resident_returns_are_views_of_the_snapshot(room):
    snapshot = bundled(MarketSettings())
    for array in VIEWS[room](snapshot):
        assert np.shares_memory(array, snapshot.returns)
        assert not array.flags.writeable
