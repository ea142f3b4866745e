"""The gate for a reader at a terminal: a verdict and its checks, status, limits, journal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hive.messages.gate import GateStatus
from hive.messages.orders import Decision, Order, Reason, Verdict

DECISION_STYLE = {Decision.ALLOW: "bold green", Decision.REJECT: "bold red", Decision.REDUCE: "bold yellow"}
PASSED, FAILED, REDUCED, OPEN = "passed", "failed", "reduced", "not reached"
RESULT_STYLE = {PASSED: "green", FAILED: "red", REDUCED: "yellow", OPEN: "dim"}
CHECKS = tuple(reason for reason in Reason if Reason.PASSED < reason < Reason.CAPACITY)
NEEDING_PRICES = tuple(reason for reason in CHECKS if Reason.PRICE_COLLAR <= reason < Reason.STALE_DATA)
SHORT_ID = 12
VERDICT_COLUMNS = ("sequence", "time", "what", "order", "account", "symbol", "side", "quantity", "price", "decision")


def checks(verdict: Verdict) -> list[tuple[str, str]]:
    """Every check in order with its result; those behind the one that failed were not reached.

    A price that is missing stops an order before the checks that need one, a price that is old after them; the verdict
    does not say which, so they are then given as not reached.
    """
    failed = verdict.reason
    listed = []
    for reason in CHECKS:
        unsaid = failed is Reason.STALE_DATA and reason in NEEDING_PRICES
        if reason is failed:
            result = REDUCED if verdict.decision is Decision.REDUCE else FAILED
        elif failed is Reason.PASSED or (reason < failed < Reason.JOURNAL_FULL and not unsaid):
            result = PASSED
        else:
            result = OPEN
        listed.append((reason.name, result))
    return listed


def verdict(order: Order, found: Verdict) -> RenderableType:
    """The verdict in a line, then the checks."""
    price = "at the market" if order.limit_price is None else f"at {order.limit_price:g}"
    line = Text.assemble(
        (found.decision.name, DECISION_STYLE[found.decision]),
        f" {found.quantity:g} of {order.side.name.lower()} {order.quantity:g} {order.symbol} {price}: {found.text}",
        (f" ({found.reason.name}), sequence {found.sequence}", "dim"),
    )
    table = _table("check", "result")
    for name, result in checks(found):
        table.add_row(name, Text(result, style=RESULT_STYLE[result]))
    return Group(line, table)


def status(found: GateStatus) -> RenderableType:
    """What keeps orders from passing first, then mode, accounts and journal."""
    parts: list[RenderableType] = [Text(remark, style="yellow") for remark in found.remarks]
    counters = found.counters
    parts.append(
        Text(
            f"mode {found.mode}; killed {'yes' if found.killed else 'no'} ({found.kills} kills); "
            f"snapshot {found.snapshot_id[:12]}\n"
            f"orders allowed {counters['allowed']}, reduced {counters['reduced']}, rejected {counters['rejected']}, "
            f"refused without a record {counters['unrecorded']}; open {counters['open_orders']}; "
            f"ticks {counters['ticks']}\n"
            f"journal: sequence {counters['sequence']}, on disk to {found.durable}; a crash loses at most "
            f"{found.most_lost} records, and the oldest one was {found.longest_ns / 1e6:.1f} ms old on disk"
        )
    )
    if found.committee:
        known = f"known to this gate up to its epoch {found.epoch}"
        parts.append(Text(f"what permits more is decided by the committee {found.committee[:SHORT_ID]}, {known}"))
    for name, marks in (("halted", found.halted), ("restricted", found.restricted), ("disabled", found.disabled)):
        if marks:
            parts.append(Text(f"{name}: {', '.join(marks)}"))
    table = _table("account", "cash", "loan", "positions", "open orders")
    for name, account in found.accounts.items():
        held = ", ".join(f"{symbol} {units:g}" for symbol, units in account["positions"].items())
        table.add_row(name, f"{account['cash']:,.2f}", f"{account['loan']:,.2f}", held, str(len(account["open"])))
    return Group(*parts, table)


def limits(found: GateStatus) -> RenderableType:
    """One line a limit, those changed while the gate ran in bold."""
    table = _table("limit", "value", "")
    for name, value in found.limits.items():
        changed = name in found.changed_limits
        table.add_row(name, Text(f"{value:g}", style="bold" if changed else ""), "by instruction" if changed else "")
    return table


def journal(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> RenderableType:
    """Verdicts, fills and releases, then instructions, newest first."""
    table = _table(*VERDICT_COLUMNS, "allowed", "reason")
    for row in rows["journal"]:
        price = "" if row["limit_price"] is None else f"{row['limit_price']:g}"
        side = {1: "buy", -1: "sell"}.get(row["side"], "")
        quantity = "" if row["quantity"] is None else f"{row['quantity']:g}"
        table.add_row(
            *(str(row["sequence"]), _time(row["wall_ns"]), row["operation"], str(row["order_sequence"])),
            *(row["account"] or "", row["symbol"] or "", side, quantity, price),
            *(row["decision"], f"{row['allowed']:g}", row["reason"]),
        )
    told = _table("id", "time", "instruction", "what", "by", "reason", "decision")
    for row in rows["control"]:
        who = row["operator"], row["reason"], (row.get("decision") or "")[:SHORT_ID]
        told.add_row(str(row["id"]), _time(row["wall_ns"]), row["action"], row["body"], *who)
    return Group(table, Text(""), told)


def _time(wall_ns: int) -> str:
    return datetime.datetime.fromtimestamp(wall_ns / 1e9, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
