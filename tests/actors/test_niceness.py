"""Agents are as nice as any other process: whoever computes beside them does not hold up their answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

NOBODY = 65534
SCRIPT = f"""
import json, os
from actors.agent import CONCURRENCY_GROUPS, Agent, Identity
from actors.settings import ShellSettings
from cluster import runtime
from hive.messages.calculation import Role

class Bystander(Agent):
    role = Role.STRESS

    def niceness(self):
        return sorted({{os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")}})

class Unprivileged(Bystander):
    def __init__(self, *arguments):
        os.setuid({NOBODY})
        super().__init__(*arguments)

def told(kind, name):
    identity = Identity(name, Role.STRESS, True, "nice", "0", 60.0)
    agent = runtime.spawn(
        kind, identity, ShellSettings(), name=name, namespace="nice", concurrency_groups=CONCURRENCY_GROUPS
    )
    while (report := runtime.wait_for(agent.ping.remote(), 60.0)).state != "HEALTHY":
        pass
    return runtime.wait_for(agent.niceness.remote(), 60.0), report.seat_notes

runtime.embed(cpus=1, namespace="nice")
print(json.dumps([told(Bystander, "stress"), told(Unprivileged, "stress-2")]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a process less nice")
def test_an_agent_takes_its_rank_back_or_says_what_would_help_and_a_wish_of_the_user_for_his_ray_is_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "RAY_worker_niceness": "7"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (raised, silent), (low, notes) = json.loads(done.stdout.splitlines()[-1])
    assert (raised, silent) == ([0], [])
    assert 7 in low
    (note,) = notes
    assert note.startswith("niceness 0 refused for ") and note.endswith("or a Ray started with RAY_worker_niceness=0")
