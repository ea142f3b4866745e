"""``swarm consensus``: the committee's state, its log, proposals, and certificates that are verified off-line."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cluster.errors import InvalidInput
from consensus import epochs
from consensus.decisions import Decision, decision_text, read_committee, read_decision
from consensus.errors import UnknownKind
from consensus.motions import KINDS, MEMBERSHIP, NUMBER
from consensus.seats import Seats
from swarm.cli.context import Address, Context, Json, emit

app = typer.Typer(no_args_is_help=True, help="The committee that decides what increases risk.")

INSTEAD = {
    NUMBER: "Use `swarm consensus estimate`",
    MEMBERSHIP: "Use `swarm consensus replace` or `swarm consensus resize`",
}
"""Kinds whose payload is no text that people write."""
MOVED = tuple(kind for kind in KINDS if kind not in INSTEAD)

Keys = Annotated[Path | None, typer.Option("--keys", help="File of the committee's public keys, instead of HOME's.")]


@app.command()
def status(context: typer.Context, address: Address = None, keys: Keys = None, as_json: Json = False) -> None:
    """Every seat: its voter's number, where it stands, what it verified, synced and dropped, and how it fares."""
    from swarm.report.consensus import status as shown

    here: Context = context.obj
    with here.client(address) as client:
        committee = client.committee(keys=keys)
        said = committee.status()
        health = {agent.agent_id: agent.reason for agent in client.health().agents}
    epoch, unkept = committee.present.epoch, committee.unkept
    value = {"replicas": said, "epoch": epoch, "unkept": unkept}
    emit(value, shown(said, health, epoch, unkept), as_json=as_json)


@app.command()
def propose(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(MOVED)}.")],
    payload: Annotated[str, typer.Argument(help="What is moved, as text.")] = "",
    evidence: Annotated[list[str] | None, typer.Option(help="A reference it rests on; may be repeated.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds; else consensus.deadline_s.")] = None,
    export: Annotated[Path | None, typer.Option(help="Keep the decision with its certificate here.")] = None,
    address: Address = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Move something and print what was decided.

    Example: swarm consensus propose raise_limit "var 0.03" --export decision.json
    """
    from swarm.report.consensus import decision as shown

    here: Context = context.obj
    if kind not in MOVED:
        raise UnknownKind(f"the kind {kind!r} is unknown here", INSTEAD.get(kind, f"Known are: {', '.join(MOVED)}"))
    _check_export(export)
    with here.client(address) as client:
        committee = client.committee(proposer="swarm consensus propose", keys=keys)
        found = committee.propose(kind, payload.encode(), evidence=evidence or (), deadline_s=deadline)
    if export is not None:
        export.write_text(decision_text(found))
    emit(found.summary(), shown(found), as_json=as_json)


@app.command()
def estimate(
    context: typer.Context,
    portfolio: Annotated[Path, typer.Argument(help="Portfolio file (.csv, .json, .toml).")],
    tolerance: Annotated[float, typer.Option(min=0.0, help="Distance from the median beyond which one is an outlier.")],
    calc: Annotated[str, typer.Option(help="var, stress, correlation, liquidity or portfolio.")] = "var",
    measure: Annotated[str, typer.Option(help="Figure of the agent's report.")] = "var",
    method: Annotated[str, typer.Option(help="How its method begins; else the first figure of that measure.")] = "",
    confidence: Annotated[float | None, typer.Option(help="Confidence level of a tail measure.")] = None,
    horizon: Annotated[int, typer.Option(help="Horizon in trading days.")] = 1,
    value: Annotated[float | None, typer.Option(help="Value of a portfolio whose file states none.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds; else consensus.deadline_s.")] = None,
    export: Annotated[Path | None, typer.Option(help="Keep the decision with its certificate here.")] = None,
    address: Address = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Have the committee agree on a number: every voter asks an agent for it and signs what it was told.

    The median holds although f voters may say anything; who is beyond the tolerance is named, with its signature. How
    independent the numbers are is how many instances of the agent live. Example: swarm consensus estimate book.toml
    --confidence 0.99 --tolerance 0.001
    """
    from hive.messages.portfolio import Portfolio
    from swarm.report.consensus import decision as shown

    here: Context = context.obj
    book = Portfolio.from_file(portfolio)
    book = replace_fields(book, value=value) if value is not None and book.value is None else book
    _check_export(export)
    with here.client(address) as client:
        found = client.agree(
            book,
            measure,
            tolerance=tolerance,
            confidence=confidence,
            method=method,
            horizon_days=horizon,
            calculation=calc,
            deadline_s=deadline,
            committee=client.committee(proposer="swarm consensus estimate", keys=keys),
        )
    if export is not None:
        export.write_text(decision_text(found))
    emit(found.summary(), shown(found), as_json=as_json)


@app.command()
def log(
    context: typer.Context,
    above: Annotated[int, typer.Option(min=0, help="Only decisions above this height.")] = 0,
    most: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    evidence: Annotated[bool, typer.Option("--evidence", help="Proofs of misconduct instead.")] = False,
    export: Annotated[
        str | None, typer.Option(help="Write this decision, by the beginning of its id, to ID.json.")
    ] = None,
    address: Address = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """What was decided, each verified against the public keys before it is printed."""
    from consensus.simplex import proofs
    from swarm.report import consensus as report

    here: Context = context.obj
    with here.client(address) as client:
        committee = client.committee(keys=keys)
        if evidence:
            held = committee.evidence()
            facts = [
                {
                    "culprit": one.culprit,
                    "epoch": one.epoch,
                    "what": type(one).__name__,
                    "proof": proofs.encode(one).hex(),
                    "sha256": hashlib.sha256(proofs.encode(one)).hexdigest(),
                }
                for one in held
            ]
            emit({"evidence": facts}, report.evidence(facts), as_json=as_json)
            return
        decided = committee.log(above, most)
    if export is not None:
        chosen = [one for one in decided if one.id.hex().startswith(export.lower())]
        if len(chosen) != 1:
            raise InvalidInput(f"{len(chosen)} decisions of those read begin with {export}", "Give more of its id")
        path = Path(f"{chosen[0].id.hex()}.json")
        path.write_text(decision_text(chosen[0]))
        emit({"path": str(path)}, Text(f"{path}: check it with `swarm consensus verify {path}`"), as_json=as_json)
        return
    emit({"decisions": [one.summary() for one in decided]}, report.decisions(decided), as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What --export wrote.")],
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Check a decision off-line, with the public keys and what is known beside them. Exit code 2: it does not hold."""
    from swarm.boot import committee_path  # brings Ray and every agent along
    from swarm.report.consensus import decision as shown

    here: Context = context.obj
    trusted = keys if keys is not None else committee_path(here.home)
    if not trusted.exists():
        raise InvalidInput(f"the committee's public keys are not in {trusted}", "Say with --keys where they are")
    first = read_committee(trusted)
    found = read_decision(file, first, epochs.read(trusted.absolute().parent, first).committees)
    emit({"holds": True, "keys": str(trusted), **found.summary()}, shown(found), as_json=as_json)


@app.command()
def replace(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the voter that shall leave, such as consensus-2; alive or not.")],
    deadline: Annotated[float | None, typer.Option(help="Seconds for the decision; else consensus.deadline_s.")] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Have the committee put a fresh seat, with a key of its own, in a voter's place. It decides on while that lasts.

    Example: swarm consensus replace consensus-2
    """
    from swarm import members

    here: Context = context.obj
    with here.client(address) as client:
        committee = client.committee(proposer="swarm consensus replace")
        found, now = members.replace(committee, here.home, name, deadline_s=deadline)
    _changed(found, now, as_json=as_json)


@app.command()
def resize(
    context: typer.Context,
    voters: Annotated[int, typer.Argument(help="4, 7 or 10.")],
    deadline: Annotated[float | None, typer.Option(help="Seconds for the decision; else consensus.deadline_s.")] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Have the committee take in fresh seats, or let its newest go. It decides on while that lasts.

    Of those who leave, the quarantined go first, then who does not answer. Example: swarm consensus resize 7
    """
    from swarm import members

    here: Context = context.obj
    with here.client(address) as client:
        committee = client.committee(proposer="swarm consensus resize")
        found, now = members.resize(committee, here.home, voters, deadline_s=deadline)
    _changed(found, now, as_json=as_json)


def _check_export(export: Path | None) -> None:
    if export is not None and (export.is_dir() or not os.access(export.absolute().parent, os.W_OK)):
        raise InvalidInput(f"{export} cannot be written", "Give another path; nothing was proposed")


def _changed(found: Decision, now: Seats, *, as_json: bool) -> None:
    from rich.console import Group

    from swarm.report.consensus import decision as shown

    line = Text(f"voters from epoch {found.epoch + 1} on: {', '.join(now.names)}")
    emit({**found.summary(), "voters": list(now.names)}, Group(shown(found), line), as_json=as_json)


@app.command()
def bench(
    context: typer.Context,
    voters: Annotated[list[int] | None, typer.Option(help="Committee sizes.")] = None,
    decisions: Annotated[int, typer.Option(min=10, help="Decisions timed for each size.")] = 200,
    as_json: Json = False,
) -> None:
    """The same as `swarm bench consensus`."""
    from swarm.cli.bench import consensus

    consensus(context, voters=voters, decisions=decisions, as_json=as_json)
