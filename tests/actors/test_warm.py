"""Kernels are compiled ahead: every module of them has a ``warm``, and no answer of an agent compiles anything more."""

from __future__ import annotations

import subprocess
import sys

import pytest
from numba.core.dispatcher import Dispatcher

from actors.warm import kernel_modules

MODULES = list(kernel_modules())

ANSWERS = """
from importlib.resources import files
from numba.core.dispatcher import Dispatcher
from actors.warm import kernel_modules
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.calculation import METHODS, Parameters, Shock
from hive.messages.portfolio import Portfolio, resolve
from swarm.settings import Settings
from actors.risk.correlation.agent import CorrelationAgent
from actors.risk.liquidity.agent import LiquidityAgent
from actors.risk.portfolio.agent import PortfolioAgent
from actors.risk.stress.agent import StressAgent
from actors.risk.value_at_risk.agent import ValueAtRiskAgent

modules = list(kernel_modules())
for module in modules:
    module.warm()

def missed():
    found = {f"{m.__name__}.{n}": k for m in modules for n, k in vars(m).items() if isinstance(k, Dispatcher)}
    return {name: sum(kernel.stats.cache_misses.values()) for name, kernel in found.items()}

before = missed()
market = bundled(MarketSettings())
held = Portfolio.from_file(files("swarm") / "examples" / "mandated.toml")
book = resolve(held, symbols=market.symbols, currency=market.currency, last_prices=market.last_prices)
for kind in (ValueAtRiskAgent, StressAgent, CorrelationAgent, LiquidityAgent, PortfolioAgent):
    agent = type("Brain", (), {"settings": getattr(Settings(), kind.role.value)})()
    state = kind.rebuild(agent, market)
    asked = Parameters(methods=METHODS[kind.role], given=(Shock("fall", {"AAPL": -0.1}),), target_loss=0.1)
    kind.answer(agent, state, book, asked)
    kind.answer(agent, state, book, Parameters())
print({name: misses - before.get(name, 0) for name, misses in missed().items() if misses > before.get(name, 0)})
"""


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_kernels_are_kept_on_disk_and_release_the_interpreter(module):
    module.warm()
    kernels = {name: found for name, found in vars(module).items() if isinstance(found, Dispatcher)}
    own = {name: kernel for name, kernel in kernels.items() if kernel.py_func.__module__ == module.__name__}
    assert own
    for name, kernel in own.items():
        assert kernel.targetoptions.get("nogil"), name
        assert kernel._cache.__class__.__name__ == "FunctionCache", name
        assert "fast" not in str(kernel.targetoptions.get("fastmath", "")), name


def test_no_answer_of_an_agent_compiles_what_warming_left_out():
    """In a process of its own: here, other tests have called kernels with whatever they liked."""
    done = subprocess.run([sys.executable, "-c", ANSWERS], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{}"
