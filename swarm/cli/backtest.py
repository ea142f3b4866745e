"""``swarm backtest``: were the forecasts right? Runs in this process; needs no swarm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cluster.errors import InvalidRequest
from hive.messages.portfolio import Portfolio, resolve
from swarm.cli.context import Context, Json, emit, err, parse_kind

if TYPE_CHECKING:
    from hive.market.snapshot import MarketSnapshot
    from swarm.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Test forecasts on the days they were for.")


@app.callback()
def _group() -> None:
    """Test forecasts on the days they were for."""


@app.command()
def var(
    context: typer.Context,
    portfolio: Annotated[
        Path | None, typer.Option(help="Portfolio file (.csv, .json, .toml). Default: equal weights of all symbols.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="CSV or Parquet file, instead of the bundled prices.")] = None,
    kind: Annotated[str, typer.Option(help="What --prices holds: prices or returns.")] = "prices",
    accept_quarantine: Annotated[
        bool, typer.Option(help="Test without the observations of --prices that validation quarantined.")
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method to test, or `all`; may be repeated. Default: historical, gaussian."),
    ] = None,
    window: Annotated[int, typer.Option(help="Days that each forecast is made from.")] = 500,
    refit: Annotated[int, typer.Option(help="Days between fits of the methods that are fitted.")] = 20,
    confidence: Annotated[float, typer.Option(help="Confidence level.")] = 0.99,
    seed: Annotated[int, typer.Option(help="Seed of the simulated p-values.")] = 0,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the result with its figures to this HTML file too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Backtest value-at-risk methods day by day on real history, and compare them.

    Example: swarm backtest var --method historical --method filtered_historical --window 500 --confidence 0.99
    """
    from actors.risk.value_at_risk.backtest import METHODS, backtest
    from swarm.report.terminal.backtest import render

    here: Context = context.obj
    snapshot = _snapshot(here.settings, prices, kind, accept_quarantine=accept_quarantine)
    equal = Portfolio.equal_weights(snapshot.symbols, name="equal weights")
    book = resolve(
        Portfolio.from_file(portfolio) if portfolio is not None else equal,
        symbols=snapshot.symbols,
        currency=snapshot.currency,
        last_prices=snapshot.last_prices,
    )
    chosen = tuple(method or ("historical", "gaussian"))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as shown:
        task = shown.add_task("forecasting", total=None)
        result = backtest(
            snapshot,
            book,
            methods=METHODS if "all" in chosen else chosen,
            confidence=confidence,
            window_days=window,
            refit_days=refit,
            seed=seed,
            settings=here.settings.value_at_risk,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )
    emit(result, render(result), as_json=as_json)
    if page is not None:
        from swarm.report.page.backtest import backtest_page

        try:
            page.write_text(backtest_page(result), encoding="utf-8")
        except OSError as error:
            raise InvalidRequest(
                f"{page} cannot be written ({error.strerror})", "Name a file in a folder of yours"
            ) from error
        err().print(Text(f"figures in {page}", style="dim"))


def _snapshot(settings: Settings, prices: Path | None, kind: str, *, accept_quarantine: bool) -> MarketSnapshot:
    """The bundled snapshot, or that of a file."""
    from hive.market.sources import bundled, from_file

    if prices is None:
        return bundled(settings.market)
    return from_file(prices, kind=parse_kind(kind), accept_quarantine=accept_quarantine, settings=settings.market)
