"""Seats: their names and numbers, and the file that says whom a swarm starts."""

from __future__ import annotations

import json

import pytest

from cluster.errors import InvalidInput
from consensus import seats
from consensus.seats import Seats, replica_name, seat_of
from consensus.simplex.types import Committee

FIRST = Committee.founded(tuple(bytes([number]) * 32 for number in range(4)), bytes(16))


def test_a_name_is_a_number_and_nothing_else_is():
    assert [seat_of(replica_name(number)) for number in (0, 9, 62)] == [0, 9, 62]
    for name in (
        "consensus",
        "consensus-0",
        "consensus-01",
        "consensus-1x",
        "xconsensus-1",
        "stress-2",
        "consensus--1",
    ):
        assert seat_of(name) is None


def test_a_committee_that_has_not_changed_sits_where_it_was_founded(tmp_path):
    assert seats.read(tmp_path, FIRST) == Seats.founding(FIRST)
    assert Seats.founding(FIRST).names == tuple(f"consensus-{number}" for number in (1, 2, 3, 4))


def test_seats_are_read_as_they_were_written_and_numbers_are_given_once(tmp_path):
    fifth = bytes([9]) * 32
    during = Seats.founding(FIRST, ["10.0.0.1"] * 4).reserved(1).taken({4: fifth}, {4: "10.0.0.5"})
    seats.write(tmp_path, FIRST, during)
    assert seats.read(tmp_path, FIRST) == during
    keys = (FIRST.keys[0], fifth, *FIRST.keys[2:])
    after = during.left(Committee(FIRST.chain, 1, keys))
    assert after.names == ("consensus-1", "consensus-3", "consensus-4", "consensus-5")
    assert (after.fresh, after.addresses[4]) == (5, "10.0.0.5")


@pytest.mark.parametrize("wrong", ["no json", "chain", "format", "a name", "a key", "no seats"])
def test_a_file_that_is_none_of_this_committee_starts_nobody(tmp_path, wrong):
    seats.write(tmp_path, FIRST, Seats.founding(FIRST))
    path = tmp_path / "seats.json"
    fields = json.loads(path.read_text())
    changes = {"chain": {"chain": "00"}, "format": {"format": "2"}, "a name": {"fresh": "consensus-x"}}
    changes |= {"a key": {"seats": {"consensus-1": {"key": "x", "address": ""}}}, "no seats": {"seats": []}}
    path.write_text("{" if wrong == "no json" else json.dumps(fields | changes[wrong]))
    with pytest.raises(InvalidInput, match="does not say which seats"):
        seats.read(tmp_path, FIRST)
