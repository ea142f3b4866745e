"""The store names snapshots by content, verifies them whenever they are read, and makes its cuts again."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidMarketData, UnknownSnapshot
from hive.market.settings import MarketSettings
from hive.market.snapshot import MarketSnapshot, QualityReport, mean_volumes, returns_of
from hive.market.store import SnapshotStore

MARKET = MarketSettings(min_observations=5, volume_days=3)
DAYS = np.busday_offset(np.datetime64("2021-01-04"), np.arange(41), roll="forward")


def snapshot(seed: int = 0) -> MarketSnapshot:
    generator = np.random.default_rng(seed)
    prices = 100 * np.exp(generator.normal(0, 0.01, (len(DAYS), 2)).cumsum(axis=0))
    volumes = generator.lognormal(10, 1, (len(DAYS) - 1, 2))
    return MarketSnapshot(
        source=f"seed {seed}",
        currency="USD",
        symbols=("AAA", "BBB"),
        base_date=str(DAYS[0]),
        dates=DAYS[1:],
        returns=returns_of(prices),
        prices=prices,
        last_prices=prices[-1].copy(),
        volumes=volumes,
        average_volumes=mean_volumes(volumes, MARKET.volume_days),
        quality=QualityReport(rows_read=41, symbols_read=2, flags=("AAA moved",)),
    )


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(tmp_path / "snapshots", MARKET)


def test_a_saved_snapshot_comes_back_whole_from_a_reopened_store(store, tmp_path):
    identity = store.save(snapshot())
    read = SnapshotStore(tmp_path / "snapshots", MARKET).load(identity)
    assert identity == snapshot().content_id
    assert read == snapshot()
    assert read.dates.tolist() == DAYS[1:].tolist()


def test_saving_twice_writes_once(store, tmp_path):
    identity = store.save(snapshot())
    path = tmp_path / "snapshots" / f"{identity}.snapshot"
    os.utime(path, ns=(1, 1))
    assert store.save(dataclasses.replace(snapshot(), source="again")) == identity
    assert path.stat().st_mtime_ns == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_ids_are_listed_newest_first(store, tmp_path):
    ids = [store.save(snapshot(seed)) for seed in range(3)]
    for age, identity in enumerate(ids):
        os.utime(tmp_path / "snapshots" / f"{identity}.snapshot", ns=(age, age))
    assert store.ids() == tuple(reversed(ids))


def test_a_snapshot_is_found_by_a_beginning_that_means_one(store, tmp_path):
    identity = store.save(snapshot())
    assert store.find(identity[:6]) == store.find(identity) == identity
    for beginning in (identity[:5], "", "f" * 64 + "0", "zzzzzz", "current"):
        with pytest.raises(UnknownSnapshot, match="no snapshot"):
            store.find(beginning)
    twin = identity[:10] + ("0" if identity[10] != "0" else "1") * 54
    (tmp_path / "snapshots" / f"{twin}.snapshot").write_bytes(b"")
    with pytest.raises(UnknownSnapshot, match="2 snapshots begin with"):
        store.find(identity[:8])
    assert store.find(identity[:12]) == identity


def test_a_snapshot_never_saved_is_unknown(store):
    with pytest.raises(UnknownSnapshot, match="no snapshot 'aaaaaaaaaaaa' is known"):
        store.load("a" * 64)


def test_a_file_cut_short_anywhere_is_refused(store, tmp_path):
    identity = store.save(snapshot())
    path = tmp_path / "snapshots" / f"{identity}.snapshot"
    data = path.read_bytes()
    for length in range(0, len(data), 61):
        path.write_bytes(data[:length])
        with pytest.raises(InvalidMarketData, match="does not hold the snapshot its name says"):
            store.load(identity)


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_passes_for_other_data(tmp_path_factory, place, bit):
    directory = tmp_path_factory.getbasetemp() / "flipped"
    store = SnapshotStore(directory, MARKET)
    original = snapshot()
    identity = store.save(original)
    path = directory / f"{identity}.snapshot"
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[int(place * len(data))] ^= 1 << bit
    try:
        path.write_bytes(damaged)
        read = store.load(identity)
    except InvalidMarketData:
        return
    finally:
        path.write_bytes(data)
    assert dataclasses.replace(read, source=original.source, quality=original.quality) == original


def test_another_snapshot_under_the_name_is_refused(store, tmp_path):
    first, second = store.save(snapshot(1)), store.save(snapshot(2))
    directory = tmp_path / "snapshots"
    (directory / f"{first}.snapshot").write_bytes((directory / f"{second}.snapshot").read_bytes())
    with pytest.raises(InvalidMarketData):
        store.load(first)


def test_the_current_snapshot_is_remembered_and_an_unknown_one_changes_nothing(store, tmp_path):
    assert store.current() is None
    identity = store.save(snapshot())
    store.use(identity)
    with pytest.raises(UnknownSnapshot):
        store.use("b" * 64)
    assert SnapshotStore(tmp_path / "snapshots", MARKET).current() == identity


def saved_cut(store, date=str(DAYS[20])):
    parent = store.save(snapshot())
    cut = store.load(parent).until(date, min_observations=5, volume_days=3)
    store.save_cut(parent, date, cut.content_id)
    return cut


def test_a_cut_is_made_again_after_the_store_is_reopened(store, tmp_path):
    cut = saved_cut(store)
    reopened = SnapshotStore(tmp_path / "snapshots", MARKET)
    assert reopened.load(reopened.find(cut.content_id[:8])) == cut
    assert cut.content_id not in reopened.ids()


def test_a_cut_under_other_settings_is_the_same_cut_or_refused(store, tmp_path):
    cut = saved_cut(store)
    reopened = SnapshotStore(tmp_path / "snapshots", dataclasses.replace(MARKET, volume_days=10))
    try:
        read = reopened.load(cut.content_id)
    except InvalidMarketData:
        return
    assert read.content_id == cut.content_id


@pytest.mark.parametrize("note", [b"", b"{", b"{}", b"[]"])
def test_a_damaged_note_of_a_cut_is_refused(store, tmp_path, note):
    cut = saved_cut(store)
    (tmp_path / "snapshots" / f"{cut.content_id}.cut").write_bytes(note)
    with pytest.raises(InvalidMarketData):
        store.load(cut.content_id)


def test_a_note_that_names_another_date_is_refused(store, tmp_path):
    cut = saved_cut(store)
    path = tmp_path / "snapshots" / f"{cut.content_id}.cut"
    path.write_text(path.read_text().replace(cut.as_of, str(DAYS[19])))
    with pytest.raises(InvalidMarketData):
        store.load(cut.content_id)
