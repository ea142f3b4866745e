"""``swarm risk`` and ``swarm demo``: coordinated calculations from the command line."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from cluster.errors import CalculationIncomplete, InvalidRequest
from hive.messages.calculation import CalculationResult, CalculationType
from hive.messages.portfolio import Portfolio
from swarm.cli.context import Address, Context, Json, boot_progress, emit, err, parse_kind

if TYPE_CHECKING:
    pass

EXAMPLE = "long_only.toml"
INCOMPLETE_EXIT = 1  # there is an answer, and part of it is missing


def risk(
    context: typer.Context,
    portfolio: Annotated[
        list[Path] | None,
        typer.Option(
            help="Portfolio file (.csv, .json, .toml); may be repeated. Default: equal weights of all symbols."
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file to calculate on, instead of the current snapshot.")
    ] = None,
    kind: Annotated[str, typer.Option(help="What --prices holds: prices or returns.")] = "prices",
    accept_quarantine: Annotated[
        bool, typer.Option(help="Calculate without the observations of --prices that validation quarantined.")
    ] = False,
    calc: Annotated[
        str, typer.Option(help="comprehensive, var, stress, correlation, liquidity or portfolio.")
    ] = CalculationType.COMPREHENSIVE.value,
    confidence: Annotated[
        list[float] | None, typer.Option(help="Confidence level; may be repeated. Default: 0.95 and 0.99.")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Horizon in trading days.")] = 1,
    as_of: Annotated[str | None, typer.Option(help="Use the market as known at the close of this date.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="Use the snapshot with this id.")] = None,
    value: Annotated[float | None, typer.Option(help="Value of a portfolio whose file states none.")] = None,
    shock: Annotated[
        list[str] | None, typer.Option(help="Move to add, as NAME:SYMBOL=RETURN,... with * for all others.")
    ] = None,
    window: Annotated[list[str] | None, typer.Option(help="Historical window to add, as START:END.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(help="Conditional stress, as NAME:SYMBOL=RETURN,...; the other symbols follow by dependence."),
    ] = None,
    target_loss: Annotated[
        float | None, typer.Option(help="Loss that the reverse stress test looks for, a fraction of value.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method to apply, or `all`; may be repeated. `swarm methods` lists them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which no answer is wanted.")] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the result with its figures to this HTML file too.")
    ] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Calculate the risk of portfolios on a running swarm.

    Example: swarm risk --portfolio book.csv --calc var --confidence 0.99 --horizon 10 --as-of 2020-03-23
    """
    here: Context = context.obj
    calculation = CalculationType.parse(calc)
    books = [_read(path, value) for path in portfolio or ()]
    if page is not None and len(books) > 1:
        raise InvalidRequest("--html holds one result, and several portfolios are given", "Give one portfolio")
    options: dict[str, Any] = {
        "horizon_days": horizon,
        "seed": seed,
        "as_of": as_of,
        "snapshot": snapshot,
        "shocks": dict(_shock(text) for text in shock or ()),
        "windows": tuple(_window(text) for text in window or ()),
        "given": dict(_shock(text) for text in given or ()),
        "target_loss": target_loss,
        "methods": tuple(method or ()),
        "deadline": deadline,
    }
    if confidence:
        options["confidences"] = tuple(confidence)
    if prices is not None and snapshot is not None:
        raise InvalidRequest("both --prices and --snapshot are given", "Give one of the two")
    with here.client(address) as client:
        if prices is not None:
            header = client.load_prices(
                prices,
                kind=parse_kind(kind),
                accept_quarantine=accept_quarantine,
                make_current=False,
            )
            options["snapshot"] = header.snapshot_id
        if options["snapshot"] is not None and as_of is not None:
            header = client.snapshot(options["snapshot"], as_of=as_of)
            options |= {"snapshot": header.snapshot_id, "as_of": None}
        if not books:
            symbols = client.snapshot(options["snapshot"], as_of=options["as_of"]).symbols
            books = [Portfolio.equal_weights(symbols, value=value, name="equal weights")]
        try:
            results = client.calculate_many(books, calculation, **options)
        except CalculationIncomplete as error:
            _emit_results(error.results, as_json=as_json)
            raise
    _emit_results(results, as_json=as_json)
    if page is not None:
        _write_page(results[0], page)
    if not all(result.complete for result in results):
        raise typer.Exit(INCOMPLETE_EXIT)


def demo(
    context: typer.Context,
    portfolio: Annotated[Path | None, typer.Option(help="Your own portfolio on the bundled prices.")] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Write the report to this HTML file too.")] = None,
    as_json: Json = False,
) -> None:
    """Start a swarm for one calculation: real prices, an example portfolio, one report; nothing is left behind."""
    from swarm.client import SwarmClient

    here: Context = context.obj
    if portfolio is not None:
        book = Portfolio.from_file(portfolio)
    else:
        with resources.as_file(resources.files("swarm") / "examples" / EXAMPLE) as path:
            book = Portfolio.from_file(path)
    with boot_progress() as progress, SwarmClient.embedded(settings=here.settings, progress=progress) as client:
        progress("calculating", None)
        result = client.calculate(book, CalculationType.COMPREHENSIVE)
        header = client.snapshot()
        progress("taking the swarm down", None)
    if not as_json:
        err().print(
            Text(f"Prices: {header.source}. Volumes and spreads: as the example portfolio states them.", style="dim")
        )
    _emit_results((result,), as_json=as_json)
    if page is not None:
        _write_page(result, page)
    if not result.complete:
        raise typer.Exit(INCOMPLETE_EXIT)


def _emit_results(results: tuple[CalculationResult, ...], *, as_json: bool) -> None:
    """One JSON object: the result, or several under ``results``. For people, one report after the other."""
    from swarm.report.terminal import render

    found = [result.to_dict() for result in results]
    emit(found[0] if len(found) == 1 else {"results": found}, Group(*map(render, results)), as_json=as_json)


def _write_page(result: CalculationResult, path: Path) -> None:
    from swarm.report.page import page

    try:
        path.write_text(page(result), encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written ({error.strerror})", "Name a file in a folder of yours"
        ) from error
    err().print(Text(f"figures in {path}", style="dim"))


def _read(path: Path, value: float | None) -> Portfolio:
    book = Portfolio.from_file(path)
    return replace(book, value=value) if value is not None and book.value is None else book


def _shock(text: str) -> tuple[str, dict[str, float]]:
    name, colon, moves = text.partition(":")
    try:
        if not colon:
            raise ValueError(text)
        pairs = (pair.split("=") for pair in moves.split(","))
        return name, {symbol.strip(): float(move) for symbol, move in pairs}
    except ValueError as error:
        raise InvalidRequest(f"the shock {text!r} does not parse", "Write it as crash:*=-0.2,XOM=0.05") from error


def _window(text: str) -> tuple[str, str]:
    start, colon, end = text.partition(":")
    if not colon:
        raise InvalidRequest(f"the window {text!r} does not parse", "Write it as 2020-02-19:2020-03-23")
    return start, end
