"""Two instances of every risk agent: both are asked, and one may die without anybody waiting for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, os, signal
from dataclasses import replace
from swarm import Portfolio, SwarmClient
from swarm.settings import Settings

settings = Settings()
settings = replace(settings, agents=replace(settings.agents, instances=2))
rounds = []
for _ in range(2):
    with SwarmClient.embedded(settings=settings) as swarm:
        book = Portfolio.equal_weights(swarm.snapshot().symbols)
        before = [swarm.calculate(book, "var") for _ in range(40)]
        agents = {agent.agent_id: agent for agent in swarm.health().agents}
        os.kill(agents["value_at_risk"].pid, signal.SIGSTOP)
        after = [swarm.calculate(book, "var", deadline=20.0) for _ in range(3)]
        os.kill(agents["value_at_risk"].pid, signal.SIGCONT)
        rounds.append({
            "agents": sorted(agents),
            "asked": sorted({result.answers["value_at_risk"].agent_id for result in before}),
            "equal": len({str(result.report("value_at_risk")) for result in before + after}),
            "after": after[-1].answers["value_at_risk"].agent_id,
        })
print(json.dumps(rounds))
"""


def test_load_is_spread_answers_agree_and_a_swarm_can_follow_a_swarm_in_one_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert {"stress", "stress-2", "value_at_risk", "value_at_risk-2", "market_data"} <= set(found["agents"])
        assert "market_data-2" not in found["agents"]
        assert found["asked"] == ["value_at_risk", "value_at_risk-2"]
        assert found["equal"] == 1
        assert found["after"] == "value_at_risk-2"
