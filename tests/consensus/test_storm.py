"""Agreement under everything at once, by seed: weather, liars, crashes, lost disks, partitions, new committees."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import fields
from typing import Any, get_args

import pytest

from consensus.simplex.types import Message, decode, encode
from consensus.simulator.liars import LIARS
from consensus.simulator.mutations import Mutations
from consensus.simulator.scenario import storm
from consensus.simulator.world import Node

SEEDS = int(os.environ.get("RISKSWARM_STORM_SEEDS", "120"))
FIRST = int(os.environ.get("RISKSWARM_STORM_FIRST", "0"))
BATCHES = 12


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_everything_asked_is_decided_alike_by_all(batch: int) -> None:
    for seed in range(FIRST + batch, FIRST + SEEDS, BATCHES):
        storm(seed)  # raises what is foul, and names its seed


@pytest.mark.parametrize("name", sorted(LIARS))
@pytest.mark.parametrize("size", [4, 7, 10])
def test_f_liars_of_a_kind_deny_nothing(name: str, size: int) -> None:
    for seed in range(1 if size == 10 else 2):
        outcome = storm(9000 + seed, liars=[name] * ((size - 1) // 3), size=size)
        assert outcome.decided


@pytest.mark.parametrize("name", ["two_faced_leader", "double_voter", "waverer", "false_witness"])
def test_who_signs_what_no_honest_voter_signs_is_proved_guilty(name: str) -> None:
    accused = [storm(9100 + seed, liars=[name], size=4) for seed in range(4)]
    assert all(outcome.accused in {(), tuple(outcome.liars)} for outcome in accused)
    assert any(outcome.accused for outcome in accused)


def test_a_mutator_changes_every_field_of_every_type_of_message_to_what_the_wire_lets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed: Counter[tuple[type, str]] = Counter()
    mutated = Mutations.of

    def counted(mutations: Mutations, node: Node, message: Message) -> Message:
        mutant = mutated(mutations, node, message)
        assert decode(encode(mutant)) == mutant
        names = [one.name for one in fields(mutant) if getattr(mutant, one.name) != getattr(message, one.name)]
        assert names
        changed.update((type(message), name) for name in names)
        return mutant

    monkeypatch.setattr(Mutations, "of", counted)
    for seed in range(9150, 9156):
        storm(seed, liars=["mutator"] * 2, size=7)
    assert changed.keys() == {(kind, one.name) for kind in get_args(Message) for one in fields(kind)}


def test_messages_survive_the_wire() -> None:
    for seed in range(9200, 9204):
        assert storm(seed, wire=True) == storm(seed)


def test_a_seed_is_a_run() -> None:
    first: list[tuple[Any, ...]] = []
    second: list[tuple[Any, ...]] = []
    assert storm(9300, trace=first) == storm(9300, trace=second)
    assert first and first == second
    assert storm(9301).handled != storm(9300).handled


def test_storms_do_reach_what_they_are_for() -> None:
    outcomes = [storm(seed) for seed in range(9400, 9440)]
    assert any(outcome.nullified for outcome in outcomes)
    assert any(outcome.failed for outcome in outcomes)
    assert any(outcome.epochs for outcome in outcomes)
    assert any(outcome.accused for outcome in outcomes)
    assert {len(outcome.liars) for outcome in outcomes} >= {0, 1, 2}
