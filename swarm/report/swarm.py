"""The swarm itself for a reader at a terminal: health, agents, snapshots, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cluster.lanes.port import PortStatus
from cluster.topology import format_cpulist
from hive.market.snapshot import SHORT_ID, QualityReport, SnapshotHeader
from hive.messages.health import AgentHealth, AgentReport, AgentState, RolePerformance, SwarmHealth, SwarmState
from hive.routing.kernels import ELSEWHERE, SOMEWHERE
from hive.routing.page import Route
from swarm.report.alerts import line
from swarm.settings import Setting

STATE_STYLE = {
    AgentState.HEALTHY: "green",
    AgentState.STARTING: "cyan",
    AgentState.DEGRADED: "yellow",
    AgentState.SUSPECT: "yellow",
    AgentState.DEAD: "red",
}
SWARM_STYLE = {SwarmState.HEALTHY: "green", SwarmState.DEGRADED: "yellow", SwarmState.DOWN: "red"}


def health(swarm: SwarmHealth) -> RenderableType:
    """The verdict, then one line an agent with the reason where it is not HEALTHY, then one an open alert."""
    verdict = Text.assemble(
        "swarm ",
        (swarm.state, f"bold {SWARM_STYLE[swarm.state]}"),
        f", swept in {swarm.sweep_ms:.1f} ms",
        (f", market to {swarm.as_of}, snapshot {swarm.snapshot_id[:SHORT_ID]}" if swarm.snapshot_id else "", "dim"),
    )
    parts: list[RenderableType] = [verdict, agent_states(swarm.agents), *_notes(swarm.agents), *map(line, swarm.alerts)]
    if swarm.hub_restarted:
        parts.append(Text(f"the hub was restarted at {swarm.hub_since}; counts begin there", style="yellow"))
    return Group(*parts)


def agent_states(agents: Iterable[AgentHealth]) -> Table:
    """One line an agent: state, ping, restarts, cores, counts and reason."""
    table = _table("agent", "state", "ping ms", "restarts", "pid", "cores", "answered", "failed", "")
    for agent in agents:
        report = agent.report
        table.add_row(
            agent.agent_id,
            Text(agent.state, style=STATE_STYLE[agent.state]),
            "" if agent.ping_ms is None else f"{agent.ping_ms:.1f}",
            str(agent.restarts),
            str(agent.pid or ""),
            _seat(report),
            "" if report is None else str(report.answered),
            "" if report is None else str(report.failed),
            agent.reason or (f"last error: {report.last_error}" if report and report.last_error else ""),
        )
    return table


def agents(swarm: SwarmHealth, performance: Sequence[RolePerformance]) -> Table:
    """What each agent is, where it lives and how it has served."""
    served = {line.agent_id: line for line in performance}
    table = _table(
        "agent",
        "state",
        "pid",
        "node",
        "critical",
        "cores",
        "MiB",
        "calls",
        "ok",
        "late",
        "failed",
        "ticks",
        "p50 ms",
        "p99 ms",
        "hub ms",
    )
    for agent in swarm.agents:
        report, line = agent.report, served.get(agent.agent_id)
        table.add_row(
            agent.agent_id,
            Text(agent.state, style=STATE_STYLE[agent.state]),
            str(agent.pid or ""),
            agent.node_id[:8],
            "yes" if agent.critical else "",
            _seat(report),
            f"{report.resident_mib:.0f}" if report else "",
            *((str(line.calls), str(line.ok), str(line.late), str(line.failed)) if line else ("", "", "", "")),
            "" if report is None or report.ticks is None else f"{report.ticks}",
            _milliseconds(report.compute_p50_ms if report else None),
            _milliseconds(report.compute_p99_ms if report else None),
            _milliseconds(line.latency_ms if line and line.ok else None),
        )
    return table


def lanes(
    swarm: SwarmHealth, ports: Mapping[str, PortStatus | None], before: Mapping[str, int], span_s: float
) -> RenderableType:
    """One line an agent that serves lanes, and one below it for every caller.

    ``before`` holds what each agent had served ``span_s`` ago, for the rates.
    """
    table = _table(
        "agent",
        "wait",
        "cores",
        "served",
        "a second",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "queue",
        "late",
        "refused",
        "ticks",
        "missed",
        "alerts",
    )
    for agent in swarm.agents:
        port = ports.get(agent.agent_id)
        if agent.agent_id not in ports:
            continue
        if port is None:
            table.add_row(agent.agent_id, Text("nobody has asked for a lane yet", style="dim"), _seat(agent.report))
            continue
        served = port.counters["served"]
        rate = (served - before[agent.agent_id]) / span_s if agent.agent_id in before and span_s > 0 else None
        table.add_row(
            agent.agent_id,
            port.strategy,
            _seat(agent.report),
            str(served),
            "" if rate is None else f"{rate:,.0f}",
            *(_microseconds(value) for value in port.service_ns),
            str(sum(max(0, lane.waiting) for lane in port.lanes)),
            str(port.counters["late"]),
            str(port.counters["refused"] + port.counters["failed"]),
            *(
                ("", "", "")
                if port.ticks is None
                else (str(port.ticks[name]) for name in ("ticks", "missed", "alerts"))
            ),
        )
        for lane in port.lanes:
            table.add_row(
                Text(f"  lane {lane.lane}, process {lane.pid}", style="dim"),
                "",
                "",
                str(lane.counters["answered"]),
                "",
                *(_microseconds(value) for value in lane.round_trip_ns),
                str(max(0, lane.waiting)),
                str(lane.counters["timed_out"]),
                str(lane.counters["full"]),
            )
    return table


def routes(found: Sequence[tuple[Route, int]]) -> Table:
    """One line an instance, as whoever asks in numbers sees it."""
    table = _table("instance", "serves", "where", "pid", "waiting")
    for route, waiting in sorted(found, key=lambda entry: entry[0].agent_id):
        serves = "keeps failing, asked last" if route.passed_over else "yes"
        where = {ELSEWHERE: "another machine", SOMEWHERE: "here"}.get(route.place, f"numa{route.place}")
        table.add_row(
            route.agent_id,
            Text(serves, style="yellow" if route.passed_over else "") if route.serving else Text("no", style="red"),
            where,
            str(route.pid),
            str(waiting),
        )
    return table


def _microseconds(nanoseconds: float | None) -> str:
    return "" if nanoseconds is None else f"{nanoseconds / 1e3:.2f}"


def _seat(report: AgentReport | None) -> str:
    """Cores an agent may run on, ``own`` where they are its alone, and its NUMA node."""
    if report is None or not report.cores:
        return ""
    own = " own" if report.own_core else ""
    memory = f", memory of numa{report.memory_node}" if report.memory_node is not None else ""
    node = f" numa{report.numa_node}" if report.numa_node is not None else ""
    return f"{format_cpulist(report.cores)}{own}{node}{memory}"


def _notes(agents: Iterable[AgentHealth]) -> list[RenderableType]:
    """What must be known of where agents run, each word once and whom it concerns."""
    concerned: dict[str, list[str]] = {}
    for agent in agents:
        for note in agent.report.seat_notes if agent.report is not None else ():
            concerned.setdefault(note, []).append(agent.agent_id)
    return [Text(f"{note} ({', '.join(names)})", style="dim") for note, names in concerned.items()]


def snapshots(current: str, headers: Sequence[SnapshotHeader]) -> Table:
    """One line a snapshot, the current one starred."""
    table = _table("", "snapshot", "source", "from", "to", "days", "symbols", "index", "factors", "volumes")
    for header in headers:
        table.add_row(
            "*" if header.snapshot_id == current else "",
            header.snapshot_id[:SHORT_ID],
            header.source,
            header.first_date,
            header.as_of,
            str(header.observations),
            str(len(header.symbols)),
            header.index_name,
            str(len(header.factors) or ""),
            "yes" if header.average_volumes is not None else "",
        )
    return table


def snapshot(header: SnapshotHeader) -> RenderableType:
    """One snapshot in words."""
    lines = [
        f"snapshot {header.snapshot_id}",
        f"{header.source}, {header.currency}",
        f"{header.observations} days, {header.first_date} to {header.as_of}",
        f"{len(header.symbols)} symbols: {', '.join(header.symbols)}",
        f"index: {header.index_name or 'none'}; factors: {', '.join(header.factors) or 'none'}; "
        f"volumes: {'yes' if header.average_volumes is not None else 'none'}",
        f"left out by validation: {header.rows_left_out} rows, {header.quarantined_symbols} symbols; "
        f"{header.flags} flags",
    ]
    return Text("\n".join(lines))


def quality(report: QualityReport, source: str) -> RenderableType:
    """What validation found, defect by defect."""
    parts: list[RenderableType] = []
    if report.clean:
        parts.append(Text(f"{source}: {report.rows_read} rows, {report.symbols_read} symbols, clean", style="green"))
    else:
        counts = ", ".join(f"{count} {kind}" for kind, count in (report.counts or {}).items())
        parts.append(Text(f"{source}: {counts}", style="red"))
        table = _table("defect", "date", "symbol", "found")
        for defect in report.defects:
            table.add_row(defect.kind, defect.date, defect.symbol, defect.found)
        parts.append(table)
        parts.append(
            Text(f"quarantined: {report.rows_left_out} rows, symbols {', '.join(report.quarantined_symbols) or 'none'}")
        )
    if report.flags:
        parts.append(Text("flagged, kept: " + "; ".join(report.flags), style="yellow"))
    return Group(*parts)


def settings(rows: Sequence[Setting]) -> Table:
    """One line a setting, those that are set in bold."""
    table = _table("key", "value", "from", "meaning")
    for row in rows:
        changed = row.value != row.default
        value = Text(str(row.value), style="bold" if changed else "")
        table.add_row(row.key, value, row.origin, row.meaning + (f" (default {row.default})" if changed else ""))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        numeric = column.endswith("ms") or column in (
            "pid",
            "MiB",
            "calls",
            "ok",
            "late",
            "failed",
            "ticks",
            "days",
            "restarts",
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
