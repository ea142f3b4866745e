"""What the runtime must not do of itself: join a Ray that nobody named."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ray._private import worker

from cluster import runtime


@pytest.mark.parametrize("asked", ["find_actor('hub', 'riskswarm')", "named_actors('riskswarm')"])
def test_who_has_joined_no_ray_finds_nobody_and_joins_none(asked):
    script = f"""
from cluster import runtime
from cluster.errors import SwarmUnavailable
try:
    runtime.{asked}
except SwarmUnavailable as error:
    print(error, runtime.joined())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "has left the swarm" in done.stdout and done.stdout.endswith("False\n")


DEATH = """
import os, signal
import ray
from cluster import runtime
from ray._raylet import GcsErrorSubscriber

runtime.embed(cpus=1, namespace="quiet")
published = GcsErrorSubscriber(worker_id=b"another" * 4, address=ray._private.worker.global_worker.gcs_client.address)
published.subscribe()

@ray.remote(num_cpus=0)
class Mortal:
    def pid(self):
        return os.getpid()
    def last(self):
        os.kill(os.getpid(), signal.SIGKILL)

for _ in range(2):
    actor = Mortal.remote()
    runtime.wait_for(actor.pid.remote(), 60.0)
    actor.last.remote()
    told = None
    while told is None:
        _, told = published.poll(timeout=60)
    assert "died" in told["error_message"]
runtime.disconnect()
print("all is said")
"""


def test_ray_prints_nothing_of_the_dead_where_commands_print_their_answers():
    done = subprocess.run([sys.executable, "-c", DEATH], capture_output=True, text=True, timeout=170, check=True)
    assert done.stdout == "all is said\n"


def test_a_ray_without_the_printer_that_is_kept_silent_is_joined_all_the_same(monkeypatch):
    monkeypatch.delattr(worker, "listen_error_messages")
    with runtime._unprinted():
        pass
    assert not hasattr(worker, "listen_error_messages")
