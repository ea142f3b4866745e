"""Compile the lanes' loops once and keep the machine code."""

from __future__ import annotations

import threading

import numpy as np

from cluster.lanes import broadcast_kernels
from cluster.lanes.echo import echo
from cluster.lanes.lane import Lane
from cluster.lanes.port import Port


def warm() -> None:
    """Carry one question through every wait strategy, and one message to a listener."""
    broadcast_kernels.warm()
    for strategy in ("spin", "yield", "park"):
        port = Port(lanes=1, slots=2, slot_words=16, strategy=strategy)
        serving = threading.Thread(target=port.serve, args=(lambda: echo,), daemon=True)
        serving.start()
        try:
            lane = Lane(port.open(port.address.pid, port.address.started, strategy), strategy)
            lane.ask(0, np.zeros(1), patience_s=120.0)
            lane.send(0, np.zeros(1))
            lane.receive()
            lane.close()
        finally:
            port.stop()
            serving.join()
