"""What the runtime must not do of itself: join a Ray that nobody named."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
