"""``swarm report``: everything the five agents know of one portfolio, on one self-contained page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from cluster import session
from cluster.errors import CalculationIncomplete, InvalidRequest, SwarmError
from hive.messages.calculation import ALL_METHODS, CalculationResult, CalculationType
from hive.messages.portfolio import Portfolio, resolve
from swarm.cli.context import Address, Context, Json, boot_progress, emit, err

if TYPE_CHECKING:
    from swarm.client import SwarmClient
    from swarm.report.page.form import Part

BACKTESTED = ("historical", "filtered_historical", "gaussian")
BACKTEST_WINDOW, BACKTEST_REFIT, BACKTEST_CONFIDENCE = 500, 20, 0.99
INCOMPLETE_EXIT = 1


def report(
    context: typer.Context,
    portfolio: Annotated[Path, typer.Option(help="Portfolio file (.csv, .json, .toml).")],
    html: Annotated[Path, typer.Option(help="Page to write.")],
    confidence: Annotated[
        list[float] | None, typer.Option(help="Confidence level; may be repeated. Default: 0.95 and 0.99.")
    ] = None,
    horizon: Annotated[int, typer.Option(help="Horizon in trading days.")] = 1,
    as_of: Annotated[str | None, typer.Option(help="Use the market as known at the close of this date.")] = None,
    target_loss: Annotated[float | None, typer.Option(help="Loss that the reverse stress test looks for.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which no answer is wanted.")] = None,
    backtest: Annotated[bool, typer.Option(help="Backtest value at risk on the bundled history too.")] = True,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Write one page with every method, figure and interval of all five agents.

    Asks the swarm that runs here, or starts one for this page. The page needs nothing beside it: send it, print it.

    Example: swarm report --portfolio book.toml --html risk.html
    """
    from swarm.report.page import page

    here: Context = context.obj
    if not html.parent.is_dir():
        raise InvalidRequest(f"{html} lies in no folder that exists", "Name a file in a folder of yours")
    book = Portfolio.from_file(portfolio)
    with _swarm(here, address) as client, _telling("calculating by every method"):
        try:
            result = client.calculate(
                book,
                CalculationType.COMPREHENSIVE,
                confidences=tuple(confidence) if confidence else (0.95, 0.99),
                horizon_days=horizon,
                as_of=as_of,
                target_loss=target_loss,
                seed=seed,
                methods=(ALL_METHODS,),
                deadline=deadline,
            )
        except CalculationIncomplete as error:
            result = error.results[0]
    parts: list[Part] = []
    if backtest:
        with _telling("backtesting value at risk"):
            parts = _backtest(here, book, result, seed)
    html.write_text(page(result, parts), encoding="utf-8")
    shown = Text(f"{html}: {html.stat().st_size / 1e6:.1f} MB, {result.completeness:.0%} complete")
    emit(result.to_dict(), shown, as_json=as_json)
    if not result.complete:
        raise typer.Exit(INCOMPLETE_EXIT)


@contextlib.contextmanager
def _swarm(here: Context, address: str | None) -> Iterator[SwarmClient]:
    """The swarm that is recorded or named, else one that lives for this command."""
    if address is not None or here.settings.ray.address or session.read(here.home) is not None:
        with here.client(address) as client:
            yield client
        return
    from swarm.client import SwarmClient

    with boot_progress() as progress, SwarmClient.embedded(settings=here.settings, progress=progress) as client:
        yield client


@contextlib.contextmanager
def _telling(text: str) -> Iterator[None]:
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


def _backtest(here: Context, book: Portfolio, result: CalculationResult, seed: int) -> list[Part]:
    """A rolling backtest on the snapshot of the result, as a part of the page; a line where it cannot be had."""
    from actors.risk.value_at_risk.backtest import backtest
    from hive.market.sources import bundled
    from hive.market.store import SnapshotStore
    from swarm.report.page.backtest import backtest_parts
    from swarm.report.page.form import text

    market = here.settings.market
    try:
        snapshot = bundled(market)
        if snapshot.content_id != result.snapshot_id:
            snapshot = SnapshotStore(here.home / "snapshots", market).load(result.snapshot_id)
        found = backtest(
            snapshot,
            resolve(book, symbols=snapshot.symbols, currency=snapshot.currency, last_prices=snapshot.last_prices),
            methods=BACKTESTED,
            confidence=BACKTEST_CONFIDENCE,
            window_days=BACKTEST_WINDOW,
            refit_days=BACKTEST_REFIT,
            seed=seed,
            settings=here.settings.value_at_risk,
            progress=lambda _done, _total: None,
        )
    except SwarmError as error:
        return [f"<p class=warn>No backtest: {text(str(error))}</p>"]
    return backtest_parts(found)
