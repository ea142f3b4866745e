"""Alert records in words, and a subscription to them."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

from cluster.errors import DeadlineExceeded, LaneLost
from hive import alerts
from hive.alerts import ALERT_WORDS, KINDS, LIMITS, MOST_KEYS, NOWHERE, Repeats, Subscription, board, raised
from hive.messages.alert import AlertKind, Priority
from hive.messages.codec import decode, encode

SYMBOLS = ("AAPL", "MSFT")
EVERY = [(kind, limit) for kind in range(len(KINDS)) for limit in range(len(LIMITS[kind]))]


def record(kind=0, limit=0, place=1, value=0.03, bound=0.02, tick_ns=5, raised_ns=6, flags=0):
    words = np.array([kind, limit, place, 0, 0, tick_ns, raised_ns, flags])
    words[[alerts.VALUE, alerts.BOUND]] = np.array([value, bound]).view(np.int64)
    return words


def subscribed(broadcast, **rest):
    return Subscription(broadcast.address, subject="desk", symbols=SYMBOLS, **rest)


@pytest.mark.parametrize(("kind", "limit"), EVERY)
def test_every_record_becomes_a_message(kind, limit):
    found = raised(record(kind, limit), subject="desk", symbols=SYMBOLS)
    alert, name = found.alert, LIMITS[kind][limit]
    assert alert.kind == KINDS[kind][0]
    assert alert.dedup_key == f"{alert.kind.value}:desk:{name}"
    assert (alert.value, alert.limit, alert.ts_ns, alert.subject) == (0.03, 0.02, 5, "desk")
    assert "desk" in alert.message
    assert (found.symbol, found.raised_ns, found.incomplete) == ("MSFT", 6, False)
    assert decode(encode(alert)) == alert


def test_keys_tell_alerts_apart_and_priorities_are_as_required():
    found = [raised(record(*codes), subject="desk", symbols=SYMBOLS).alert for codes in EVERY]
    assert len({alert.dedup_key for alert in found}) == len(EVERY)
    assert {alert.kind: alert.priority for alert in found} == {
        AlertKind.LIMIT_BREACH: Priority.CRITICAL,
        AlertKind.LIQUIDITY_STRESS: Priority.CRITICAL,
        AlertKind.CORRELATION_REGIME_CHANGE: Priority.MEDIUM,
        AlertKind.STALE_DATA: Priority.CRITICAL,
    }
    assert found[0].message == "VaR of desk is 3.00% of its value, beyond its limit of 2.00%"


def test_an_alert_of_nobody_and_one_on_an_incomplete_state_say_so():
    found = raised(record(place=NOWHERE, flags=1), subject="desk", symbols=SYMBOLS)
    assert (found.symbol, found.incomplete) == (None, True)


@pytest.mark.parametrize("wrong", [{"kind": 4}, {"kind": -1}, {"limit": 4}, {"limit": -1}, {"place": 2}, {"place": -2}])
def test_codes_of_another_layout_are_refused(wrong):
    with pytest.raises(LaneLost):
        raised(record(**wrong), subject="desk", symbols=SYMBOLS)


@pytest.mark.parametrize("wait", ["spin", "yield", "park"])
def test_a_subscription_gives_alerts_as_they_come_until_its_time_is_up(wait):
    with board() as broadcast, subscribed(broadcast, wait=wait) as subscription:
        broadcast.publish(np.array([record(raised_ns=1), record(raised_ns=2)]))
        later = threading.Timer(0.05, lambda: broadcast.publish(record(raised_ns=3)))
        later.start()
        begun = time.monotonic()
        assert [found.raised_ns for found in subscription.within(0.3)] == [1, 2, 3]
        assert 0.3 <= time.monotonic() - begun < 5.0
        assert subscription.missed == 0
        later.join()
        with pytest.raises(DeadlineExceeded):
            subscription.next(0.01)
        assert list(subscription.within(0.0)) == []


def test_a_subscription_says_what_it_missed():
    with board(slots=4) as broadcast, subscribed(broadcast) as subscription:
        for number in range(10):
            broadcast.publish(record(raised_ns=number))
        assert [found.raised_ns for found in subscription.within(0.05)] == [6, 7, 8, 9]
        assert subscription.missed == 6


def test_who_comes_late_may_begin_with_what_is_kept():
    with board() as broadcast:
        broadcast.publish(record(raised_ns=1))
        with subscribed(broadcast, oldest=True) as all_of_it, subscribed(broadcast) as new:
            assert all_of_it.next(1.0).raised_ns == 1
            with pytest.raises(DeadlineExceeded):
                new.next(0.01)


def test_a_stream_without_end_does_not_outlast_the_deadline():
    with board(slots=64) as broadcast, subscribed(broadcast) as subscription:
        stop = threading.Event()

        def pour():
            while not stop.is_set():
                broadcast.publish(record())

        thread = threading.Thread(target=pour)
        thread.start()
        begun, count = time.monotonic(), sum(1 for _ in subscription.within(0.2))
        stop.set()
        thread.join()
        assert count > 0
        assert time.monotonic() - begun < 5.0


def test_a_closed_board_is_lost_after_its_last_alert():
    broadcast = board()
    with subscribed(broadcast) as subscription:
        broadcast.publish(record(raised_ns=1))
        broadcast.close()
        heard = []
        with pytest.raises(LaneLost):
            for found in subscription.within(5.0):
                heard.append(found.raised_ns)
        assert heard == [1]
    assert record().size == ALERT_WORDS


def test_the_same_alert_is_let_through_once_a_minute_of_its_own_time():
    repeats = Repeats()

    def told(seconds, limit=0):
        words = record(limit=limit, tick_ns=int(seconds * 1e9))
        return repeats.new(raised(words, subject="desk", symbols=SYMBOLS).alert)

    assert [told(0), told(59.9), told(60), told(60, limit=1), told(61), told(120)] == [
        *(True, False, True, True),
        *(False, True),
    ]
    assert repeats.withheld == 2
    assert told(-1e6)  # time ran backwards: another replay


def test_what_is_remembered_of_alerts_is_bounded():
    repeats = Repeats()
    alert = raised(record(), subject="desk", symbols=SYMBOLS).alert
    keys = [dataclasses.replace(alert, dedup_key=f"k{number}") for number in range(MOST_KEYS + 1)]
    assert all(repeats.new(one) for one in keys)
    assert not repeats.new(keys[-1])
    assert repeats.new(keys[0])  # forgotten: the oldest of too many
    assert len(repeats._last_ns) == MOST_KEYS
