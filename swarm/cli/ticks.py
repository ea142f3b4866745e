"""``swarm ticks`` and ``swarm watch``: prices that move, and a book that is watched while they do."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from cluster.errors import DeadlineExceeded, InvalidRequest
from hive.messages.alert import Alert
from hive.messages.mandate import Limits
from hive.messages.portfolio import Portfolio
from hive.messages.ticks import SourceKind, TickStatus
from swarm.cli.context import Address, Context, Json, emit, out

if TYPE_CHECKING:
    from hive.watch import Watch

app = typer.Typer(no_args_is_help=True, help="Start and stop the market's ticks.")

DAY_S = 86_400.0
SHOWN_ALERTS = 12
MISSING_EXIT = 1  # an agent cannot be heard
LIMITS = tuple(field.name for field in dataclasses.fields(Limits))


@app.command()
def replay(
    context: typer.Context,
    first: Annotated[str | None, typer.Option("--from", help="First day. Default: that of the snapshot.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day. Default: that of the snapshot.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Calendar days a second; 0 waits for nothing.")] = 10.0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Replay the closes of the current snapshot, and return at once.

    Example: swarm watch --portfolio book.csv --as-of 2008-08-29 & swarm ticks replay --from 2008-09-01 --to 2009-03-31
    """
    with context.obj.client(address) as client:
        found = client.start_ticks(
            SourceKind.REPLAY, speed=speed * DAY_S if speed else math.inf, first=first, last=last
        )
    emit(found, Text(_words(found)), as_json=as_json)


@app.command()
def burst(
    context: typer.Context,
    rate: Annotated[float, typer.Option(help="Ticks a second.")] = 10_000.0,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the moves.")] = 0,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make up moves from the last prices, and return at once."""
    with context.obj.client(address) as client:
        found = client.start_ticks(SourceKind.BURST, speed=1.0, rate=rate, count=count, seed=seed)
    emit(found, Text(_words(found)), as_json=as_json)


@app.command()
def stop(
    context: typer.Context,
    forget: Annotated[
        bool, typer.Option("--forget", help="Let the market stand at its snapshot's prices again.")
    ] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """End the source that is running."""
    with context.obj.client(address) as client:
        found = client.stop_ticks(forget=forget)
    emit(found, Text(_words(found)), as_json=as_json)


@app.command()
def status(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """What the ticks are doing."""
    with context.obj.client(address) as client:
        found = client.ticks()
    emit(found, Text(_words(found)), as_json=as_json)


def watch(
    context: typer.Context,
    portfolio: Annotated[
        Path | None,
        typer.Option(help="Portfolio file (.csv, .json, .toml). Default: the book that is watched already."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help=f"Limit, as NAME=NUMBER; may be repeated. Names: {', '.join(LIMITS)}.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Price the book as of this day and stay with that, to replay what came after.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="End after so long. Default: at Ctrl-C.")] = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between looks at the figures.")] = 1.0,
    end: Annotated[bool, typer.Option("--end", help="Have no book watched any more, and return.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Watch a book at every tick: its figures live, and its alerts. The agents go on watching when this ends.

    With --json, one object a line: an alert as it comes, the figures at every interval. Exit code 0, or 1 where an
    agent cannot be heard at the end.
    """
    here: Context = context.obj
    if end:
        with here.client(address) as client:
            client.unwatch()
        emit({"watched": None}, Text("No book is watched any more."), as_json=as_json)
        return
    book = None if portfolio is None else Portfolio.from_file(portfolio)
    if book is None and (limit or as_of):
        raise InvalidRequest("limits and --as-of are of a portfolio, and none is given", "Give --portfolio")
    limits = _limits(limit or [], book.limits if book is not None else None)
    with here.client(address) as client, client.watch(book, limits=limits, as_of=as_of) as ear:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(ear, math.inf if seconds is None else seconds, interval, as_json=as_json)
        missing = ear.missing
    if missing:
        raise typer.Exit(MISSING_EXIT)


def _follow(ear: Watch, seconds: float, interval: float, *, as_json: bool) -> None:
    """Show, or print, what comes until the time is up."""
    from swarm.report.watch import live

    give_up, due, missed = time.monotonic() + seconds, 0.0, 0
    kept: deque[Alert] = deque(maxlen=SHOWN_ALERTS)
    with contextlib.nullcontext() if as_json else Live(console=out(), auto_refresh=False) as view:
        while True:
            if time.monotonic() >= min(due, give_up):
                figures, due = ear.figures(), time.monotonic() + interval
                if as_json:
                    _line({"figures": figures})
                else:
                    assert view is not None
                    view.update(live(figures, kept, missed=ear.missed, withheld=ear.withheld), refresh=True)
            if time.monotonic() >= give_up:
                return
            with contextlib.suppress(DeadlineExceeded):
                found = ear.next(max(0.0, min(due, give_up) - time.monotonic()))
                kept.append(found.alert)
                if as_json:
                    _line({"alert": found.alert, "symbol": found.symbol, "incomplete": found.incomplete})
            if as_json and ear.missed > missed:
                _line({"missed_alerts": ear.missed})
            missed = ear.missed


def _line(value: Any) -> None:
    """One JSON object, out at once: whoever reads a pipe is to have it while it is new."""
    emit(value, "", as_json=True)
    sys.stdout.flush()


def _limits(given: list[str], own: Limits | None) -> Limits | None:
    """The portfolio's limits with those of the command line in their place."""
    found = {}
    for text in given:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or name not in LIMITS:
            raise InvalidRequest(f"--limit {text} is none", f"Write NAME=NUMBER; names are {', '.join(LIMITS)}")
    return dataclasses.replace(own or Limits(), **found) if found else own


def _words(found: TickStatus) -> str:
    if found.source is None:
        return "No ticks have been written."
    state = f"A {found.source} is running" if found.running else f"The last source, a {found.source}, has ended"
    why = f" ({found.ended})" if found.ended else ""
    return f"{state}{why}; {found.written} ticks on the ring."
