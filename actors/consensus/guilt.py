"""Misconduct in the committee as alerts: who was proved faulty, and who was taken out of office (requirements D4)."""

from __future__ import annotations

import hashlib

from consensus.replica import Replica
from consensus.seats import replica_name
from consensus.simplex import proofs
from hive.messages.alert import Alert, AlertKind, Priority


def guilt(replica: Replica, source: str, now_utc_ns: int) -> tuple[Alert, ...]:
    """What a replica knows of misconduct of voters of the present epoch. Time is UTC, nanoseconds.

    All voters that know of one say the same of it, so that it is one alert.
    """

    def alert(kind: AlertKind, key: bytes, words: str, proof: str = "") -> Alert:
        name = _name(replica, key)
        dedup_key = f"{kind}:{key.hex()}"
        return Alert(kind, Priority.HIGH, source, name, words.format(name), dedup_key, now_utc_ns, proof=proof)

    faults = []
    for key, proof in replica.guilty:
        digest = hashlib.sha256(proofs.encode(proof)).hexdigest()
        words = f"voter {proof.culprit} of epoch {proof.epoch}, {{}}, is proved faulty: {type(proof).__name__}"
        faults.append(alert(AlertKind.BYZANTINE_FAULT, key, words, digest))
    silenced = [
        alert(AlertKind.VOTER_QUARANTINED, key, "{} is quarantined by agreement: its votes count no more")
        for key in replica.quarantined
    ]
    return (*faults, *silenced)


def _name(replica: Replica, key: bytes) -> str:
    """Of the voter's agent, or the beginning of its key where its seat is not known."""
    seats = [seat for seat, public in replica.peers.directory.items() if public == key]
    return replica_name(seats[0]) if seats else f"voter {key.hex()[:16]}"
