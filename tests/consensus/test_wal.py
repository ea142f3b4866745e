"""The log: what was synced is there again, a torn end is cut off, and damage before the end is refused."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from consensus.simplex import wal
from consensus.simplex.core import Record
from consensus.simplex.types import NOTHING, Kind, Vote
from consensus.simplex.wal import Log, LogUnusable
from consensus.simulator.world import World

CHAIN, PUBLIC = bytes(range(32)), bytes(32)


def records() -> list[Record]:
    """What a real replica wrote."""
    world = World(7)
    for i in range(6):
        world.submit(i % 4, b"request %d" % i)
        world.run(world.now / 1e6 + 20)
    assert len({type(record) for record in world.nodes[0].disk}) == 4
    return world.nodes[0].disk


WRITTEN = records()


def test_records_come_back_in_order(tmp_path: Path) -> None:
    log = Log.create(tmp_path / "log", CHAIN, PUBLIC)
    for begin in range(0, len(WRITTEN), 5):
        log.append(WRITTEN[begin : begin + 5])
    assert log.syncs == -(-len(WRITTEN) // 5)
    log.append([])
    log.close()
    again = Log(tmp_path / "log", CHAIN, PUBLIC)
    assert again.records == WRITTEN and again.cut == 0
    again.append(WRITTEN[:3])
    again.close()
    last = Log(tmp_path / "log", CHAIN, PUBLIC)
    assert last.records == [*WRITTEN, *WRITTEN[:3]]
    last.close()


def test_a_log_of_which_one_read_brings_only_a_part_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log.create(tmp_path / "log", CHAIN, PUBLIC)
    log.append(WRITTEN[:5])
    log.append(WRITTEN[5:])
    log.close()
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, most, at: read(descriptor, min(most, 700), at))
    again = Log(tmp_path / "log", CHAIN, PUBLIC)
    assert again.records == WRITTEN and again.cut == 0
    again.close()


def test_what_was_appended_has_been_written_to_the_end_and_synced_when_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through one descriptor whose writes wait for the disk, also where the system takes a part of each only."""
    monkeypatch.setattr(wal, "ROOM", 1000)
    path, image = tmp_path / "log", tmp_path / "image"
    log = Log.create(path, CHAIN, PUBLIC)
    (descriptor,) = (int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.resolve() == path.resolve())
    assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DSYNC
    write, written_to = os.pwrite, set()

    def write_a_part(to: int, data: bytes, at: int) -> int:
        written_to.add(to)
        return write(to, data[:100], at)

    monkeypatch.setattr(os, "pwrite", write_a_part)
    for end in range(1, len(WRITTEN) + 1):
        log.append(WRITTEN[end - 1 : end])
        image.write_bytes(path.read_bytes())
        found = Log(image, CHAIN, PUBLIC)
        found.close()
        assert (found.records, found.cut) == (WRITTEN[:end], 0)
    log.close()
    assert written_to == {descriptor}


def test_any_torn_end_is_cut_off_and_the_rest_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "ROOM", 1000)
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    ends = [log.end]
    for record in WRITTEN[:12]:
        log.append([record])
        ends.append(log.end)
    log.close()
    whole = path.read_bytes()
    assert len(whole) > ends[-1] and not any(whole[ends[-1] :])  # made ready
    for length, room in itertools.product(range(ends[8], ends[-1]), (0, 100)):
        path.write_bytes(whole[:length] + bytes(room))
        again = Log(path, CHAIN, PUBLIC)
        expected = max(n for n, end in enumerate(ends) if end <= length)
        assert again.records == WRITTEN[:expected]
        assert again.cut == len(whole[ends[expected] : length].rstrip(b"\x00"))
        again.append([WRITTEN[20]])
        again.close()
        more = Log(path, CHAIN, PUBLIC)
        assert more.records == [*WRITTEN[:expected], WRITTEN[20]] and more.cut == 0
        more.close()


def test_a_log_grows_by_what_is_made_ready_and_every_record_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "ROOM", 1000)
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    sizes = set()
    for record in WRITTEN:
        log.append([record])
        assert log.end <= path.stat().st_size <= log.end + 1000
        sizes.add(path.stat().st_size)
    log.close()
    assert 2 < len(sizes) < len(WRITTEN)
    again = Log(path, CHAIN, PUBLIC)
    assert again.records == WRITTEN and again.cut == 0
    again.close()


def test_a_torn_end_of_garbage_is_cut_off(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    log.append(WRITTEN)
    log.close()
    whole = path.read_bytes()
    for _ in range(40):
        path.write_bytes(whole + chance.randbytes(chance.randint(1, 400)))
        again = Log(path, CHAIN, PUBLIC)
        assert again.records == WRITTEN and again.cut > 0
        again.close()


def test_of_the_last_write_any_pages_may_be_missing_and_all_before_it_is_there(tmp_path: Path) -> None:
    chance = random.Random(3)
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    log.append(WRITTEN[:4])
    begin = log.end
    log.append(WRITTEN * 10)
    end = log.end
    log.close()
    whole = path.read_bytes()
    pages = range(begin, end, 512)
    assert len(pages) > 10
    for _ in range(100):
        torn = bytearray(whole)
        for page in chance.sample(pages, chance.randint(1, len(pages))):
            torn[page : page + 512] = bytes(512)
        path.write_bytes(torn)
        again = Log(path, CHAIN, PUBLIC)
        assert (again.records, again.end) == (WRITTEN[:4], begin)
        again.close()
        assert not any(path.read_bytes()[begin:])


def test_damage_before_the_end_is_refused(tmp_path: Path) -> None:
    chance = random.Random(2)
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    for record in WRITTEN[:-1]:
        log.append([record])
    before_last = log.end
    log.append(WRITTEN[-1:])
    log.close()
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(before_last)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(LogUnusable):
            Log(path, CHAIN, PUBLIC)
        assert path.read_bytes() == damaged  # and nothing was cut off


def test_a_hole_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log.create(path, CHAIN, PUBLIC)
    log.append(WRITTEN[:4])
    begin = log.end
    log.append(WRITTEN[4:5])
    end = log.end
    log.append(WRITTEN[5:])
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:begin] + whole[end:])
    with pytest.raises(LogUnusable, match="damaged"):
        Log(path, CHAIN, PUBLIC)


def test_the_log_of_another_voter_or_chain_is_refused(tmp_path: Path) -> None:
    Log.create(tmp_path / "log", CHAIN, PUBLIC).close()
    for chain, public in ((CHAIN, bytes([1]) * 32), (bytes(32), PUBLIC)):
        with pytest.raises(LogUnusable, match="no log of this voter and version"):
            Log(tmp_path / "log", chain, public)


def test_a_missing_log_and_one_that_is_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(LogUnusable, match="cannot be opened"):
        Log(tmp_path / "log", CHAIN, PUBLIC)
    Log.create(tmp_path / "log", CHAIN, PUBLIC).close()
    with pytest.raises(LogUnusable, match="no log can be made"):
        Log.create(tmp_path / "log", CHAIN, PUBLIC)
    with pytest.raises(LogUnusable, match="no log can be made"):
        Log.create(tmp_path / "no folder" / "log", CHAIN, PUBLIC)


def test_two_processes_cannot_have_it_open(tmp_path: Path) -> None:
    log = Log.create(tmp_path / "log", CHAIN, PUBLIC)
    with pytest.raises(LogUnusable, match="another process"):
        Log(tmp_path / "log", CHAIN, PUBLIC)
    log.close()
    Log(tmp_path / "log", CHAIN, PUBLIC).close()


def test_a_log_whose_making_was_interrupted_is_not_there_and_can_be_made(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "log"
    for failing in ("fsync", "link", "pwrite"):
        with monkeypatch.context() as patch, pytest.raises(LogUnusable):
            patch.setattr(os, failing, interrupted)
            Log.create(path, CHAIN, PUBLIC)
        assert not path.exists()
    Log.create(path, CHAIN, PUBLIC).close()
    assert [each.name for each in tmp_path.iterdir()] == ["log"]
    with pytest.raises(LogUnusable, match="no log can be made"):
        Log.create(path, CHAIN, PUBLIC)


def interrupted(*_: object) -> None:
    raise OSError(5, "interrupted")


def _write_for_ever(path: Path, pipe: Connection) -> None:
    log = Log.create(path, CHAIN, PUBLIC)
    for number in range(1, 10**9):
        log.append([Vote(Kind.NULLIFY, 0, number, NOTHING, 0, bytes(64))])
        pipe.send(number)


def test_what_append_confirmed_survives_a_kill(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_write_for_ever, args=(tmp_path / "log", theirs))
    process.start()
    confirmed = 0
    while confirmed < 50:
        assert ours.poll(60)
        confirmed = ours.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    theirs.close()
    while ours.poll(0):
        try:
            confirmed = ours.recv()
        except EOFError:
            break
    log = Log(tmp_path / "log", CHAIN, PUBLIC)
    assert [record.view for record in log.records if isinstance(record, Vote)][:confirmed] == [*range(1, confirmed + 1)]
    log.close()
