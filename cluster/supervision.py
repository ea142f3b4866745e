"""OTP's restart intensity above Ray's own restarts: an agent that dies too often is parked, not revived for ever.

Ray restarts an actor as often as ``max_restarts`` says and forgets when. The rule here is Erlang's supervisor
rule: more than ``max_restarts`` restarts within ``within_s`` seconds means that restarting does not help.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class RestartIntensity:
    """Counts restarts of one agent in a sliding window.

    Parameters
    ----------
    max_restarts : int
        Restarts tolerated inside the window.
    within_s : float
        Length of the window in seconds.
    """

    max_restarts: int
    within_s: float
    _restarts_ns: deque[int] = field(default_factory=deque)

    def record(self, now_ns: int) -> bool:
        """Note one restart at monotonic time ``now_ns``; True when the agent must be parked."""
        self._restarts_ns.append(now_ns)
        horizon = now_ns - int(self.within_s * 1e9)
        while self._restarts_ns[0] < horizon:
            self._restarts_ns.popleft()
        return len(self._restarts_ns) > self.max_restarts
