"""One signature over many things, each of which proves by itself that it is among them.

The hash tree of RFC 9162, section 2.1: a leaf is hashed behind a zero byte and two hashes behind a one, so that neither
passes for the other; a hash without a neighbour goes up as it is. What proves a leaf are the hashes beside its way up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

HASH_BYTES: Final = 32


def tree(leaves: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The root over one or more leaves, and for each leaf the hashes beside its way up, lowest first, in one piece."""
    level = [_leaf(leaf) for leaf in leaves]
    paths = [b""] * len(leaves)
    places = list(range(len(leaves)))
    while len(level) > 1:
        for number, place in enumerate(places):
            paths[number] += b"".join(level[place ^ 1 : (place ^ 1) + 1])
            places[number] = place >> 1
        level = [_parent(*level[left : left + 2]) for left in range(0, len(level), 2)]
    return level[0], paths


def root(leaf: bytes, index: int, size: int, path: bytes) -> bytes | None:
    """The root of a tree of ``size`` leaves that holds this one at ``index``; None where the path is not of that place.

    Whoever verifies compares it with a root that he trusts, such as a signed one.
    """
    if not 0 <= index < size:
        return None
    found, at = _leaf(leaf), 0
    while size > 1:
        if index ^ 1 < size:
            beside = path[at : at + HASH_BYTES]
            at += HASH_BYTES
            found = _parent(beside, found) if index & 1 else _parent(found, beside)
        index, size = index >> 1, (size + 1) >> 1
    return found if at == len(path) else None


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _parent(left: bytes, right: bytes = b"") -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest() if right else left
