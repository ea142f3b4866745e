"""``swarm data``: the market snapshots that calculations stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarm.cli.context import Address, Context, Json, emit, parse_kind

app = typer.Typer(no_args_is_help=True, help="Check, load and choose market data.")

Source = Annotated[
    Path, typer.Argument(help="CSV or Parquet file, wide (date, A, B...) or long (date, symbol, price).")
]
Kind = Annotated[str, typer.Option(help="What the file holds: prices or returns.")]


@app.command()
def check(context: typer.Context, file: Source, kind: Kind = "prices", as_json: Json = False) -> None:
    """Validate a file and list everything that would be quarantined. Needs no swarm; changes nothing.

    Exit code 0: clean; 2: not.
    """
    from hive.market.sources import read_table
    from hive.market.validation import validate
    from swarm.report.swarm import quality

    here: Context = context.obj
    report = validate(read_table(file), kind=parse_kind(kind), settings=here.settings.market).report
    emit(report, quality(report, str(file)), as_json=as_json)
    if not report.clean:
        raise typer.Exit(2)


@app.command()
def load(
    context: typer.Context,
    file: Source,
    kind: Kind = "prices",
    currency: Annotated[str, typer.Option(help="Currency of the prices.")] = "USD",
    index: Annotated[str | None, typer.Option(help="Symbol in the file that is the market index.")] = None,
    accept_quarantine: Annotated[
        bool, typer.Option(help="Load without the observations that validation quarantined.")
    ] = False,
    current: Annotated[bool, typer.Option(help="Make it the snapshot that calculations use.")] = True,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Validate a file and make it a snapshot; by default it becomes the current one."""
    from swarm.report.swarm import snapshot as shown

    with context.obj.client(address) as client:
        header = client.load_prices(
            file,
            kind=parse_kind(kind),
            currency=currency,
            index=index,
            accept_quarantine=accept_quarantine,
            make_current=current,
        )
    emit(header, shown(header), as_json=as_json)


@app.command("list")
def list_snapshots(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """Every snapshot kept, newest first; the current one is starred."""
    from swarm.report.swarm import snapshots as shown

    with context.obj.client(address) as client:
        current, headers = client.snapshots()
    emit({"current": current, "snapshots": headers}, shown(current, headers), as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    snapshot: Annotated[str | None, typer.Argument(help="Id or its beginning; the current one by default.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Cut after this date.")] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """One snapshot: source, dates, symbols, quality."""
    from swarm.report.swarm import snapshot as shown

    with context.obj.client(address) as client:
        header = client.snapshot(snapshot, as_of=as_of)
    emit(header, shown(header), as_json=as_json)


@app.command()
def use(
    context: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Id of a kept snapshot, or its beginning.")],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make a kept snapshot the one that calculations use."""
    from swarm.report.swarm import snapshot as shown

    with context.obj.client(address) as client:
        header = client.use_snapshot(snapshot)
    emit(header, shown(header), as_json=as_json)
