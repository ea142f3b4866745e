"""The hash tree against the roots that Certificate Transparency publishes, and against whoever claims to be in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.hashtree import HASH_BYTES, root, tree

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [  # of the first 1, 2, ... 8 of these: github.com/google/certificate-transparency, merkle_tree_test
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

leaves = st.lists(st.binary(max_size=40), min_size=1, max_size=40)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert tree(LEAVES[:size])[0].hex() == ROOTS[size - 1]


@given(leaves)
def test_every_leaf_is_proved_at_its_place(data: list[bytes]) -> None:
    top, paths = tree(data)
    assert [root(leaf, index, len(data), path) for index, (leaf, path) in enumerate(zip(data, paths, strict=True))] == [
        top
    ] * len(data)


@given(leaves, st.data())
def test_nothing_else_is_proved(data: list[bytes], draw: st.DataObject) -> None:
    top, paths = tree(data)
    index = draw.draw(st.integers(0, len(data) - 1))
    leaf, path = data[index], paths[index]
    other = draw.draw(st.binary(max_size=80).filter(lambda other: other != leaf))
    assert root(other, index, len(data), path) != top
    assert root(leaf, index, len(data), path + bytes(HASH_BYTES)) is None
    assert root(leaf, index, len(data), path[:-1]) != top or not path
    for place in range(len(data) + 1):
        if place != index and (place >= len(data) or data[place] != leaf):
            assert root(leaf, place, len(data), path) != top
    flipped = draw.draw(st.integers(0, max(0, len(path) - 1)))
    if path:
        assert root(leaf, index, len(data), path[:flipped] + bytes([path[flipped] ^ 1]) + path[flipped + 1 :]) != top


def test_two_hashes_are_no_leaf() -> None:
    """Who shows an inner node as a leaf, with the path from there, proves nothing."""
    top, paths = tree(LEAVES[:4])
    _, (beside, _) = tree(LEAVES[:2])
    assert len(beside) == HASH_BYTES
    inner = paths[1][:HASH_BYTES] + paths[0][:HASH_BYTES]  # the hashes of the first and the second leaf
    assert root(inner, 0, 2, paths[0][HASH_BYTES:]) != top
