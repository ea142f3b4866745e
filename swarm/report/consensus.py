"""The committee for a reader at a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from consensus.decisions import Decision
from consensus.rules import Outcome

OUTCOME_STYLE = {Outcome.APPROVED: "green", Outcome.REJECTED: "red", Outcome.QUARANTINED: "yellow"}
SHORT_ID = 12


def status(
    said: Sequence[Mapping[str, Any]], reasons: Mapping[str, str], epoch: int = 0, unkept: str = ""
) -> RenderableType:
    """One line a seat, the epoch that is proved, and what must be known of where the voters live."""
    columns = ("epoch", "view", "height", "decisions", "nullified_views", "signatures_verified", "syncs", "dropped")
    table = _table("replica", "voter", "state", *(name.replace("_", " ") for name in columns), "decided in", "")
    for one in said:
        name, reason = one["name"], reasons.get(one["name"])
        voter = str(one["voter"]) if one["voter"] is not None else "observer" if "height" in one else ""
        if "height" not in one:
            table.add_row(name, voter, one.get("state", "no answer"), *("" for _ in columns), "", reason)
            continue
        figures = (str(one[column]) for column in columns)
        table.add_row(name, voter, one["state"], *figures, _median(one["latency_histogram_us"]), reason)
    lines: list[RenderableType] = [table, Text(f"proved up to epoch {epoch}")]
    if unkept:
        lines.append(Text(f"a later client of this home may believe voters who have left: {unkept}", style="yellow"))
    nodes = [one["node"] for one in said if one["voter"] is not None and "node" in one]
    if len(nodes) > len(set(nodes)):
        several = f"{len(set(nodes))} nodes: the loss of one takes several"
        where = "one node: its loss takes them all" if len(set(nodes)) == 1 else several
        lines.append(Text(f"{len(nodes)} voters share {where}", style="yellow"))
    latest = max((one["epoch"] for one in said if "epoch" in one), default=0)
    quarantined = sorted({voter for one in said if one.get("epoch") == latest for voter in one["quarantined"]})
    if quarantined:
        seats = {one["voter"]: one["name"] for one in said}
        names = ", ".join(seats.get(voter, f"voter {voter}") for voter in quarantined)
        lines.append(Text(f"quarantined by agreement: {names}; see `swarm consensus log --evidence`", style="red"))
    return Group(*lines)


def decision(found: Decision) -> RenderableType:
    """One decision, its ballots and what certifies it."""
    facts = found.summary()
    given = facts.pop("ballots", ())
    outcome = Text(found.outcome.value, style=f"bold {OUTCOME_STYLE.get(found.outcome, 'green')}")
    rows = _table("", "")
    for name, value in facts.items():
        rows.add_row(name, outcome if name == "outcome" else str(value))
    for one in given:
        rows.add_row(f"ballot of {one['voter']}", f"{one['choice']}: {one['reason']}")
    quorum = f"{len(found.signers)} of {len(found.committee.keys)} voters have signed that this is final"
    lines: list[RenderableType] = [rows, Text(f"{quorum}; verified", style="green")]
    if not found.holds_at(time.time_ns()):
        lines.append(Text("its deadline has passed: it loosens nothing any more", style="yellow"))
    return Group(*lines)


def decisions(found: Sequence[Decision]) -> RenderableType:
    """One line a decision."""
    table = _table("height", "epoch", "id", "kind", "outcome", "by", "certified by")
    for one in found:
        facts = one.summary()
        table.add_row(
            str(one.height),
            str(one.epoch),
            one.id.hex()[:SHORT_ID],
            facts["kind"],
            Text(one.outcome.value, style=OUTCOME_STYLE.get(one.outcome, "green")),
            facts.get("proposer", ""),
            ", ".join(map(str, one.signers)),
        )
    return table


def evidence(facts: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line a proof; its SHA-256 is what alerts name it by."""
    table = _table("culprit", "epoch", "what", "sha256", "proof")
    for one in facts:
        table.add_row(str(one["culprit"]), str(one["epoch"]), one["what"], one["sha256"][:SHORT_ID], one["proof"])
    return table


def _median(histogram: Sequence[int]) -> str:
    """Upper end of the bucket that holds the median; bucket k counts below 2^k microseconds."""
    total, seen = sum(histogram), 0
    for bucket, count in enumerate(histogram):
        seen += count
        if 2 * seen >= total > 0:
            return f"< {2**bucket / 1000:.3g} ms"
    return ""


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table
