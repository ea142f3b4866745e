"""Alerts about the swarm itself: which are open now, and which were raised of late (requirements B11).

Agents say what they know with every report, so a hub that was restarted hears it again. What the hub alone can see, an
agent that has died or a committee without a quorum, it finds in the registry. An alert is open while its cause is
there; it is raised when it opens, unless the same was raised within a minute.

Pure state: instances and times come in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from hive.alerts import Repeats
from hive.hub.registry import Instance
from hive.messages.alert import Alert, AlertKind, Priority, SwarmAlerts
from hive.messages.calculation import Role
from hive.messages.health import SERVING, AgentState

SMALLEST_COMMITTEE = 4
URGENCY = {priority: rank for rank, priority in enumerate(Priority)}
STANDING = (AgentState.HEALTHY, AgentState.SUSPECT)
"""States of voters that count for a quorum. A beat that is late is no vote that is lost; DEAD follows where it is."""


class Alarms:
    """What must be known of the swarm itself.

    Parameters
    ----------
    kept : int
        Alerts remembered after their cause has gone.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._open: dict[str, Alert] = {}
        self._raised: deque[Alert] = deque()
        self._repeats = Repeats()
        self._forgotten = 0
        self._critical_forgotten = 0
        self._had_quorum = False

    def look(self, instances: Sequence[Instance], now_utc_ns: int) -> None:
        """Open and close alerts by how the agents fare and what they say."""
        found: dict[str, Alert] = {}
        for alert in (*self._own(instances, now_utc_ns), *_said(instances)):
            known = self._open.get(alert.dedup_key)
            found.setdefault(alert.dedup_key, alert if known is None else replace(alert, ts_ns=known.ts_ns))
        for key, alert in found.items():
            if key not in self._open and self._repeats.new(alert):
                self._remember(alert)
        self._open = found

    @property
    def open(self) -> tuple[Alert, ...]:
        """Alerts whose cause is there now, the most urgent first."""
        return tuple(sorted(self._open.values(), key=lambda alert: (URGENCY[alert.priority], alert.ts_ns)))

    def told(self) -> SwarmAlerts:
        """Everything that is known."""
        return SwarmAlerts(
            open=self.open,
            raised=tuple(self._raised),
            withheld=self._repeats.withheld,
            forgotten=self._forgotten,
            critical_forgotten=self._critical_forgotten,
        )

    def _remember(self, alert: Alert) -> None:
        self._raised.append(alert)
        if len(self._raised) > self._kept:
            oldest = self._raised.popleft()
            self._forgotten += 1
            self._critical_forgotten += oldest.priority is Priority.CRITICAL

    def _own(self, instances: Sequence[Instance], now_utc_ns: int) -> Iterator[Alert]:
        """What the hub sees: no quorum, and agents that failed and do not serve again."""
        replicas = [instance for instance in instances if instance.entry.role is Role.CONSENSUS]
        voters = [one for one in replicas if one.report is None or not one.report.observes]
        needed = len(voters) - (len(voters) - 1) // 3
        standing = sum(instance.state in STANDING for instance in voters)
        self._had_quorum = len(voters) >= SMALLEST_COMMITTEE and (self._had_quorum or standing >= needed)
        if not self._had_quorum:  # who is still coming up has lost nothing
            standing += sum(instance.state is AgentState.STARTING for instance in voters)
        if len(voters) >= SMALLEST_COMMITTEE and standing < needed:
            yield _alert(
                AlertKind.QUORUM_LOST,
                Priority.CRITICAL,
                Role.CONSENSUS.value,
                f"the committee cannot decide: {standing} of its {len(voters)} voters stand, and it needs {needed}",
                now_utc_ns,
                value=float(standing),
                limit=float(needed),
            )
        for instance in instances:
            agent_id, what = instance.entry.agent_id, "parked" if instance.parked else "dead"
            key = f"{AlertKind.AGENT_FAILURE}:{agent_id}:{what}"
            if instance.state is AgentState.DEAD or (key in self._open and instance.state not in SERVING):
                words = f"{agent_id} is {instance.state}: {instance.reason}"
                yield _alert(AlertKind.AGENT_FAILURE, Priority.HIGH, agent_id, words, now_utc_ns, key=key)


def _said(instances: Iterable[Instance]) -> Iterator[Alert]:
    for instance in instances:
        if instance.report is not None:
            yield from instance.report.alerts


def _alert(
    kind: AlertKind,
    priority: Priority,
    subject: str,
    words: str,
    ts_ns: int,
    *,
    key: str = "",
    value: float | None = None,
    limit: float | None = None,
) -> Alert:
    return Alert(kind, priority, Role.HUB.value, subject, words, key or f"{kind}:{subject}", ts_ns, value, limit)
