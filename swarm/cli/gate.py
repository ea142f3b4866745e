"""``swarm gate``: ask the pre-trade gate, look at it, close it, and tell it what to permit.

What permits less than before takes effect at once. What permits more asks for ``--reason``, and is journalled with the
operator before it takes effect; where the swarm has a committee, its decision is asked for and journalled too. No
operator proves here who they are, and nothing here claims compliance with any rule.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from actors.trading.gate import switch
from cluster.errors import InvalidRequest
from hive.messages.gate import Action, Warrant
from hive.messages.orders import LARGEST_ID, Decision, Order, Outcome, Side
from swarm.cli.context import Address, Context, Json, emit
from swarm.settings import GATE_DIRECTORY

if TYPE_CHECKING:
    from consensus.decisions import Decision as Decided

app = typer.Typer(
    no_args_is_help=True,
    help="The pre-trade gate: every order is held against its limits before it may be sent. "
    "Controls modelled on SEC rule 15c3-5; no claim of compliance.",
)

CHECK_EXIT = {Decision.ALLOW: 0, Decision.REJECT: 10, Decision.REDUCE: 11}
OUTCOME_EXIT = 10
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
MODES = {"full": "FULL_PERFORMANCE", "safe": "SAFE_MODE", "shutdown": "EMERGENCY_SHUTDOWN"}
MICROSECOND_NS = 1000
LISTS = (
    (Action.HALT, "symbol", "is halted", "The market in a symbol is halted: no order in it passes.", False),
    (Action.RESUME, "symbol", "trades again", "The market in a symbol is open again.", True),
    (Action.RESTRICT, "symbol", "is restricted", "Nobody may trade a symbol, not even to reduce.", False),
    (Action.PERMIT, "symbol", "may be traded", "A restricted symbol may be traded again.", True),
    (Action.DISABLE, "account", "is disabled", "An account may not trade.", False),
    (Action.ENABLE, "account", "may trade", "An account may trade again.", True),
)
"""Commands that put a name on one of the gate's lists or take it off: action, what is named, what is said when it is
done, what the command is for, and whether it permits more and so cannot do without a reason."""

By = Annotated[str | None, typer.Option("--by", help="Who says so. Default: the user of this process.")]
WHY = "Why. Journalled; what permits more than before needs it."
Why = Annotated[str, typer.Option("--reason", help=WHY)]


@app.command()
def check(
    context: typer.Context,
    symbol: Annotated[str, typer.Option(help="Symbol.")],
    side: Annotated[str, typer.Option(help="buy or sell.")],
    quantity: Annotated[float, typer.Option(help="Units, positive.")],
    limit_price: Annotated[float | None, typer.Option(help="Money a unit. Without it a market order.")] = None,
    account: Annotated[str, typer.Option(help="Account.")] = "main",
    number: Annotated[int | None, typer.Option("--id", help="Client order id. Default: from the clock.")] = None,
    durable: Annotated[bool, typer.Option("--durable", help="Answer when the verdict is on disk.")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Hold an order against every limit, in order. What is allowed stays reserved until `fill` or `cancel`.

    Exit code 0: allowed; 10: rejected; 11: a smaller quantity is allowed.

    Example: swarm gate check --symbol AAPL --side buy --quantity 100 --limit-price 129.5
    """
    from swarm.report.gate import checks
    from swarm.report.gate import verdict as shown

    if side.lower() not in SIDES:
        raise InvalidRequest(f"--side {side} is unknown", "Give buy or sell")
    identity = number if number is not None else time.time_ns() // MICROSECOND_NS % LARGEST_ID
    order = Order(identity, account, symbol, SIDES[side.lower()], quantity, limit_price)
    with context.obj.client(address) as client, client.gate() as gate:
        found = gate.check(order, durable=durable)
    listed = checks(found)
    value = {
        "decision": found.decision.name,
        "quantity": found.quantity,
        "reason": found.reason.name,
        "text": found.text,
        "sequence": found.sequence,
        "ns": found.ns,
        "order": order,
        "checks": [{"check": name, "result": result} for name, result in listed],
    }
    emit(value, shown(order, found), as_json=as_json)
    raise typer.Exit(CHECK_EXIT[found.decision])


@app.command()
def fill(
    context: typer.Context,
    sequence: Annotated[int, typer.Argument(help="Sequence number of the verdict.")],
    filled: Annotated[float, typer.Option(help="Units filled in all until now.")],
    price: Annotated[float, typer.Option(help="Price of the new ones.")],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """A fill of an order: position and cash take it, and as much of the reservation goes. Exit code 10: refused."""
    with context.obj.client(address) as client, client.gate() as gate:
        outcome = gate.commit(sequence, filled, price)
    _outcome(outcome, f"fill of order {sequence}", as_json=as_json)


@app.command()
def cancel(
    context: typer.Context,
    sequence: Annotated[int, typer.Argument(help="Sequence number of the verdict.")],
    address: Address = None,
    as_json: Json = False,
) -> None:
    """An order that the market no longer has: what of it is not filled is free again. Exit code 10: refused."""
    with context.obj.client(address) as client, client.gate() as gate:
        outcome = gate.release(sequence)
    _outcome(outcome, f"order {sequence} given up", as_json=as_json)


@app.command()
def tick(
    context: typer.Context,
    prices: Annotated[list[str] | None, typer.Argument(help="SYMBOL=PRICE, several if you like.")] = None,
    last: Annotated[
        bool, typer.Option("--last", help="The last prices of the current snapshot, taken as new.")
    ] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Tell the gate prices that are true now, by hand. They are stale again after `gate.stale_after_s`.

    Example: swarm gate tick AAPL=129.5 JPM=133
    """
    given = dict(_pair(text, "AAPL=129.5") for text in prices or ())
    with context.obj.client(address) as client, client.gate() as gate:
        if last:
            header = client.snapshot()
            if header.last_prices is None:
                raise InvalidRequest("the current snapshot has no prices", "Give them as SYMBOL=PRICE")
            given = dict(zip(header.symbols, header.last_prices.tolist(), strict=True)) | given
        if not given:
            raise InvalidRequest("no price is given", "Give SYMBOL=PRICE, or --last")
        outcomes = {symbol: gate.tick(symbol, price) for symbol, price in given.items()}
    refused = [symbol for symbol, outcome in outcomes.items() if outcome is not Outcome.DONE]
    words = f"{len(outcomes) - len(refused)} prices taken" + (f"; refused: {', '.join(refused)}" if refused else "")
    emit({symbol: outcome.name for symbol, outcome in outcomes.items()}, Text(words), as_json=as_json)
    if refused:
        raise typer.Exit(OUTCOME_EXIT)


@app.command()
def status(context: typer.Context, address: Address = None, as_json: Json = False) -> None:
    """Mode, kills, limits, positions, reservations, prices that are stale, and how far the journal is on disk."""
    from hive.messages.codec import plain
    from swarm.report.gate import status as shown

    with context.obj.client(address) as client, client.gate() as gate:
        found = gate.describe()
    emit({**plain(found), "remarks": found.remarks}, shown(found), as_json=as_json)


@app.command()
def kill(context: typer.Context, by: By = None, reason: Why = "", as_json: Json = False) -> None:
    """Close the gate on this machine at once, until `release`. Needs no hub, no Ray and no answer of the gate.

    A gate that is dead starts closed.
    """
    here: Context = context.obj
    done = switch.kill(here.home / GATE_DIRECTORY, Warrant(by or switch.user(), reason))
    words = "The gate is closed." if done.closed else "No gate runs here; the next one starts closed."
    emit(done, Text(f"{words} `swarm gate release` opens it."), as_json=as_json)


@app.command()
def release(
    context: typer.Context,
    reason: Why,
    kills: Annotated[int | None, typer.Option(help="Kills that you have seen, of `status`; a later one stays.")] = None,
    by: By = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Open a gate that was killed. A kill that came after those you have seen keeps it closed: exit code 10."""
    with context.obj.client(address) as client, client.gate() as gate:
        seen = kills if kills is not None else gate.describe().kills
        done = gate.propose(Action.RELEASE_KILL, {"kills": seen}, _warrant(by, reason))
    words = "The gate is open." if done.answer else "The gate stays closed: it was killed again."
    value = {"open": done.answer, "kills": seen, **_facts(done.decision)}
    emit(value, Text(words + _said(done.decision)), as_json=as_json)
    if not done.answer:
        raise typer.Exit(OUTCOME_EXIT)


def _register(action: Action, what: str, done: str, purpose: str, loosens: bool) -> None:
    """A command of :data:`LISTS`."""
    named = typer.Argument(metavar=what, help=f"{what.capitalize()}.")
    why = typer.Option(... if loosens else "", "--reason", help=WHY)

    @app.command(action.value, help=purpose)
    def command(
        context: typer.Context,
        name: str = named,
        by: By = None,
        reason: str = why,
        address: Address = None,
        as_json: Json = False,
    ) -> None:
        _instruct(context, action, {"name": name}, f"{name} {done}", by, reason, address, as_json)


for _row in LISTS:
    _register(*_row)


@app.command()
def mode(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="full, safe (reductions only) or shutdown (nothing).")],
    by: By = None,
    reason: Why = "",
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Permit everything, reductions only, or nothing. Up again needs --reason."""
    if to.lower() not in MODES:
        raise InvalidRequest(f"the mode {to} is unknown", f"Give {', '.join(MODES)}")
    wanted = MODES[to.lower()]
    _instruct(context, Action.MODE, {"mode": wanted}, f"the mode is {wanted}", by, reason, address, as_json)


@app.command()
def limits(
    context: typer.Context,
    changes: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE, several if you like.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the settings.")] = False,
    by: By = None,
    reason: Why = "",
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show the limits, or change some while the gate runs; what permits more needs --reason.

    Example: swarm gate limits max_gross=5e6 price_collar=0.02
    """
    from swarm.report.gate import limits as shown

    decision = None
    if changes and reset:
        raise InvalidRequest("changes and --reset are given", "Give one of the two")
    with context.obj.client(address) as client, client.gate() as gate:
        if changes or reset:
            body = dict(_pair(text, "max_gross=5e6") for text in changes or ())
            decision = gate.propose(Action.LIMITS, body, _warrant(by, reason)).decision
        found = gate.describe()
    value = {"limits": found.limits, "changed": found.changed_limits, **_facts(decision)}
    emit(value, Group(shown(found), Text(_said(decision).strip())) if decision else shown(found), as_json=as_json)


@app.command()
def reconcile(
    context: typer.Context,
    reason: Why,
    position: Annotated[
        list[str] | None, typer.Option(help="ACCOUNT:SYMBOL=UNITS as it truly is; may be repeated.")
    ] = None,
    cash: Annotated[list[str] | None, typer.Option(help="ACCOUNT=MONEY as it truly is; may be repeated.")] = None,
    by: By = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Confirm the gate's positions and cash, corrected where given, so that it permits more than reductions again.

    Look at `status` first. Reservations stay: `cancel` those that the market does not have.
    """
    positions: dict[str, dict[str, float]] = {}
    for text in position or ():
        name, units = _pair(text, "main:AAPL=100")
        account, colon, symbol = name.partition(":")
        if not colon:
            raise InvalidRequest(f"{text!r} does not parse", "Write it as main:AAPL=100")
        positions.setdefault(account, {})[symbol] = units
    money = dict(_pair(text, "main=1e6") for text in cash or ())
    with context.obj.client(address) as client, client.gate() as gate:
        body = {"positions": positions, "cash": money}
        done = gate.propose(Action.RECONCILE, body, _warrant(by, reason))
    words = f"Reconciled. Added: {done.answer}." + _said(done.decision)
    emit({"added": done.answer, **_facts(done.decision)}, Text(words), as_json=as_json)


@app.command()
def journal(
    context: typer.Context,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Rows of each kind.")] = 20,
    as_json: Json = False,
) -> None:
    """The newest verdicts, fills and instructions on this machine's disk. Needs no gate."""
    from swarm.report.gate import journal as shown

    here: Context = context.obj
    rows = _newest(here.home / GATE_DIRECTORY, count)
    emit(rows, shown(rows), as_json=as_json)


def _newest(directory: Path, count: int) -> dict[str, list[dict[str, Any]]]:
    from actors.trading.gate.history import JOURNAL, newest

    return newest(directory / JOURNAL, count)


def _instruct(
    context: typer.Context,
    action: Action,
    body: dict[str, Any],
    words: str,
    by: str | None,
    reason: str,
    address: str | None,
    as_json: bool,
) -> None:
    with context.obj.client(address) as client, client.gate() as gate:
        decision = gate.propose(action, body, _warrant(by, reason)).decision
    emit({"done": words, **_facts(decision)}, Text(f"{words}." + _said(decision)), as_json=as_json)


def _facts(decision: Decided | None) -> dict[str, Any]:
    """The committee's decision for a program; nothing where none was needed."""
    if decision is None:
        return {"decision": None, "certified_by": []}
    return {"decision": decision.id.hex(), "certified_by": list(decision.signers)}


def _said(decision: Decided | None) -> str:
    """The same for a person."""
    if decision is None:
        return ""
    voters = ", ".join(map(str, decision.signers))
    return f" Decided by the committee: {decision.id.hex()} at height {decision.height}, certified by voters {voters}."


def _warrant(by: str | None, reason: str) -> Warrant:
    return Warrant(by if by is not None else switch.user(), reason)


def _outcome(outcome: Outcome, what: str, *, as_json: bool) -> None:
    emit({"outcome": outcome.name}, Text(f"{what}: {outcome.name}"), as_json=as_json)
    if outcome is not Outcome.DONE:
        raise typer.Exit(OUTCOME_EXIT)


def _pair(text: str, example: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError(text)
        return name.strip(), float(value)
    except ValueError as error:
        raise InvalidRequest(f"{text!r} does not parse", f"Write it as {example}") from error
