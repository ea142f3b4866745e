"""Two instances of every risk agent: both are asked, and one may die without a question being lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, os, signal, threading
from dataclasses import replace
import numpy as np
from hive.messages.calculation import Role
from swarm import Portfolio
from swarm.settings import Settings
from tests.conftest import BOOT_S, embedded, eventually

def fired(swarm):
    '''Two threads ask without end; meanwhile an instance is killed, then the hub.'''
    question = np.full(len(swarm.snapshot().symbols), 0.05)
    known = {agent.agent_id: agent.pid for agent in swarm.health().agents}
    with swarm.fast(Portfolio.equal_weights(swarm.snapshot().symbols), patience_s=60.0) as desk:
        desk_complete = [desk.calculate().complete]
    router = swarm.reference(Role.STRESS)
    expected = router.ask(1, question, patience_s=60.0)
    stop, wrong, asked = threading.Event(), [], [0, 0]

    def ask(which):
        reference = swarm.reference(Role.STRESS)
        while not stop.wait(0.001):
            try:
                if not np.array_equal(reference.ask(1, question, patience_s=60.0), expected):
                    wrong.append("another answer")
            except Exception as error:
                wrong.append(repr(error))
            asked[which] += 1
        reference.close()

    def row(agent_id):
        return next(shown for shown, _ in swarm.routes() if shown.agent_id == agent_id)

    def served(agent_id):
        port = swarm.lanes().get(agent_id)
        return 0 if port is None else port.counters["served"]

    threads = [threading.Thread(target=ask, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    both = eventually(lambda: served("stress") > 20 and served("stress-2") > 20)
    life = row("stress-2").life
    os.kill(known["stress-2"], signal.SIGKILL)
    shown_dead = eventually(lambda: not row("stress-2").serving)
    back = eventually(lambda: row("stress-2").serving and row("stress-2").life != life)
    used_again = eventually(lambda: served("stress-2") > 20)
    view, before = swarm._router.view(), sum(asked)
    os.kill(known["hub"], signal.SIGKILL)
    went_on = eventually(lambda: sum(asked) > before + 100)
    attached = eventually(lambda: swarm._router.view() is not view)
    both_shown = eventually(lambda: sum(r.serving for r, _ in swarm.routes() if r.role == "stress") == 2)
    counts = {agent_id: served(agent_id) for agent_id in ("stress", "stress-2")}
    both_used = eventually(lambda: all(served(agent_id) > count for agent_id, count in counts.items()))
    stop.set()
    for thread in threads:
        thread.join()
    router.close()
    return {
        "both": both, "shown_dead": shown_dead, "back": back, "used_again": used_again, "went_on": went_on,
        "attached": attached, "both_shown": both_shown, "both_used": both_used, "desk": all(desk_complete),
        "wrong": wrong[:3], "left": [load for shown, load in swarm.routes() if shown.role == "stress"],
        "asked": sum(asked),
    }

settings = Settings(boot_deadline_s=BOOT_S)
with embedded(settings) as swarm:
    alone = swarm.calculate(Portfolio.equal_weights(swarm.snapshot().symbols), "var")
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
settings = replace(settings, agents=replace(settings.agents, instances=2))
with embedded(settings) as swarm:
    book = Portfolio.equal_weights(swarm.snapshot().symbols)
    before = [swarm.calculate(book, "var") for _ in range(40)]
    agents = {agent.agent_id: agent for agent in swarm.health().agents}
    os.kill(agents["value_at_risk"].pid, signal.SIGSTOP)
    after = [swarm.calculate(book, "var", deadline=60.0) for _ in range(3)]
    os.kill(agents["value_at_risk"].pid, signal.SIGCONT)
    found = {
        "agents": sorted(agents),
        "asked": sorted({result.answers["value_at_risk"].agent_id for result in before}),
        "equal": len({str(result.report("value_at_risk")) for result in [alone, *before, *after]}),
        "after": after[-1].answers["value_at_risk"].agent_id,
    }
    fire = fired(swarm)
threads += [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps([found, fire, threads]))
"""


def test_load_is_spread_answers_agree_and_a_swarm_can_follow_a_swarm_in_one_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=330,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, fire, threads = json.loads(done.stdout.splitlines()[-1])
    assert {"stress", "stress-2", "value_at_risk", "value_at_risk-2", "market_data"} <= set(found["agents"])
    assert "market_data-2" not in found["agents"]
    assert found["asked"] == ["value_at_risk", "value_at_risk-2"]
    assert found["equal"] == 1
    assert found["after"] == "value_at_risk-2"
    assert threads == []
    assert fire.pop("wrong") == [], fire
    assert fire.pop("left") == [0, 0], "nothing that was counted is left behind"
    assert fire.pop("asked") > 300
    assert fire == dict.fromkeys(fire, True)
