"""Entry point of the ``swarm`` command: bring a swarm up and down, look at it, and hand on to the other rooms.

Exit codes: 0 done; 2 bad input or usage; 3 no swarm answers; 4 a session, port or record is in the way; 5 overloaded;
6 deadline passed; 7 boot failed; 8 no answer for want of its indispensable part; 1 an answer with a part missing, or
anything else. ``swarm health`` has its own: 0 healthy, 1 degraded, 2 down or unreachable; and ``swarm gate``: 10 the
gate rejected or refused, 11 it allowed less.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cluster import session
from cluster.errors import CalculationIncomplete, SwarmError, SwarmUnavailable
from hive.messages.calculation import METHODS
from hive.messages.health import AgentState, SwarmState
from swarm.cli import alerts, backtest, bench, consensus, data, gate, report, risk, ticks
from swarm.cli.context import Address, Context, Json, boot_progress, emit, err
from swarm.settings import describe, swarm_home

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Riskswarm: a swarm of agents that answers coordinated risk questions about a portfolio.",
)
config = typer.Typer(no_args_is_help=True, help="Look at the settings.")
app.add_typer(config, name="config")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(backtest.app, name="backtest")
app.add_typer(gate.app, name="gate")
app.add_typer(ticks.app, name="ticks")
app.command("watch")(ticks.watch)
app.add_typer(consensus.app, name="consensus")
app.command("risk")(risk.risk)
app.command("report")(report.report)
app.command("alerts")(alerts.alerts)
app.command("demo")(risk.demo)

HEALTH_EXIT = {SwarmState.HEALTHY: 0, SwarmState.DEGRADED: 1, SwarmState.DOWN: 2}


@app.callback()
def options(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(envvar="SWARM_HOME", help="Directory of session, snapshots and artefacts.")
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", help="Settings file instead of HOME's.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as key=value; may be repeated.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Options that stand before the command."""
    if version:
        from swarm.boot import version as installed

        typer.echo(installed())
        raise typer.Exit
    place = home.expanduser().absolute() if home is not None else swarm_home()
    context.obj = Context(home=place, file=config_file, overrides=tuple(overrides or ()))


@app.command()
def up(
    context: typer.Context,
    address: Annotated[str | None, typer.Option(help="Join the Ray at this address instead of starting one.")] = None,
    as_json: Json = False,
) -> None:
    """Start a swarm and return when every agent is HEALTHY. It outlives the terminal; `swarm down` ends it.

    Example: swarm up && swarm risk --portfolio book.csv
    """
    from dataclasses import replace

    from swarm import boot

    here: Context = context.obj
    settings = here.settings
    if address is not None:
        settings = replace(settings, ray=replace(settings.ray, address=address))
    with boot_progress() as progress:
        record = boot.up(settings, here.home, progress)
    dashboard = f"Dashboard {record.dashboard_url}. " if record.dashboard_url else ""
    shown = Text(f"The swarm is up at {record.address}, namespace {record.namespace}. {dashboard}`swarm down` ends it.")
    emit(record, shown, as_json=as_json)


@app.command()
def down(context: typer.Context, as_json: Json = False) -> None:
    """Take the swarm down: its agents, the Ray it started, and every file and process of that Ray."""
    from swarm import boot

    words = boot.down(context.obj.home)
    emit({"done": words}, Text(words), as_json=as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """The methods each agent can be asked for by name: `swarm risk --method NAME`, or `--method all`."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("agent")
    table.add_column("methods")
    for role, names in METHODS.items():
        table.add_row(role, ", ".join(names))
    emit({role.value: names for role, names in METHODS.items()}, table, as_json=as_json)


@app.command()
def status(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """Where the swarm runs, since when, and how it has served."""
    here: Context = context.obj
    record = session.read(here.home)
    with here.client(address) as client:
        health, late = client.health(), client.late_answers()
    lines = []
    if record is not None and address is None:
        owner = "its own Ray" if record.owns_ray else "a Ray that it joined"
        lines.append(f"up since {record.started_utc} on {owner} at {record.address}")
        lines.append(f"dashboard {record.dashboard_url or 'none'}, namespace {record.namespace}, home {here.home}")
        if record.owns_ray:
            lines.append(f"Ray's own tools: RAY_AUTH_MODE=token RAY_ADDRESS={record.address} ray status")
    fine = sum(agent.state is AgentState.HEALTHY for agent in health.agents)
    lines += [
        f"swarm {health.state}: {fine} of {len(health.agents)} agents HEALTHY",
        f"market to {health.as_of or 'unknown'}, snapshot {health.snapshot_id[:12] or 'none asked for yet'}",
        f"{health.calculations} calculations gathered, {health.in_flight} in flight, "
        f"{health.late_answers} late answers",
        *health.problems,
    ]
    lines += [f"late: {a.agent_id} on {a.request_id}, {a.late_ms:.0f} ms after its deadline" for a in late[-5:]]
    value = {"session": record, "health": health, "late_answers": late}
    emit(value, Text("\n".join(lines)), as_json=as_json)


@app.command()
def health(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """Ping every agent. Exit code 0: healthy; 1: degraded; 2: down or unreachable."""
    from swarm.report.swarm import health as shown

    try:
        with context.obj.client(address) as client:
            found = client.health()
    except Exception as error:  # whatever keeps a swarm from being asked, for its user it is down
        state = SwarmState.DOWN
        emit({"state": state, "agents": [], "problems": [str(error)]}, Text(f"swarm down: {error}"), as_json=as_json)
        raise typer.Exit(HEALTH_EXIT[state]) from None
    from hive.messages.codec import plain

    emit({**plain(found), "problems": found.problems}, shown(found), as_json=as_json)
    raise typer.Exit(HEALTH_EXIT[found.state])


@app.command()
def agents(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """Every agent: its process, memory, calls and times."""
    from swarm.report.swarm import agents as shown

    with context.obj.client(address) as client:
        found, served = client.health(), client.performance()
    emit({"agents": found.agents, "performance": served}, shown(found, served), as_json=as_json)


@app.command()
def routes(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """The routing page: which instances may be asked, where they are, and how many questions wait at each. No hub."""
    from swarm.report.swarm import routes as shown

    with context.obj.client(address) as client:
        found = client.routes()
    plain = [{"agent_id": route.agent_id, **asdict(route), "waiting": waiting} for route, waiting in found]
    emit({"routes": plain}, shown(found), as_json=as_json)


@app.command()
def top(
    context: typer.Context,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Watch the lanes: who asks whom, how often, how quickly, and where each agent waits and how. Ctrl-C ends it."""
    from rich.live import Live

    from swarm.report.swarm import lanes as shown

    with context.obj.client(address) as client:
        health, ports = client.health(), client.lanes()
        if once or as_json:
            emit({"lanes": ports}, shown(health, ports, {}, 0.0), as_json=as_json)
            return
        with Live(shown(health, ports, {}, 0.0), auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
            while True:
                before = {name: port.counters["served"] for name, port in ports.items() if port is not None}
                looked = time.monotonic()
                time.sleep(interval)
                health, ports = client.health(), client.lanes()
                live.update(shown(health, ports, before, time.monotonic() - looked), refresh=True)


@config.command("show")
def config_show(context: typer.Context, as_json: Json = False) -> None:
    """Every setting: its value, where that comes from, and what it means."""
    from swarm.report.swarm import settings as shown

    here: Context = context.obj
    rows = describe(*here.loaded)
    emit({"settings": rows}, shown(rows), as_json=as_json)


def main() -> None:
    """Run the command; every error of ours is one clear message and an exit code."""
    try:
        app()
    except SwarmError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        place = error.filename or "the system"
        _fail(SwarmError(f"{place} refuses ({error.strerror or error})", "Check the path and its permissions"))


def _fail(error: SwarmError) -> None:
    """One clear message, for a program too where it asked for JSON, and the error's exit code."""
    text = Text.assemble((f"{_kind(error)}: ", "bold red"), f"{error.problem}.")
    if error.remedy:
        text.append(f"\n{error.remedy}.")
    err().print(text)
    if "--json" in sys.argv and not isinstance(error, CalculationIncomplete):  # which has printed what did arrive
        fields = {"kind": type(error).__name__, "problem": error.problem, "remedy": error.remedy}
        emit({"error": fields}, text, as_json=True)
    sys.exit(error.exit_code)


def _kind(error: SwarmError) -> str:
    return "unavailable" if isinstance(error, SwarmUnavailable) else "error"


if __name__ == "__main__":
    main()
