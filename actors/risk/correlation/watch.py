"""What the change detectors made of a book's history, for its report."""

from __future__ import annotations

import numpy as np

from actors.risk.correlation import changes
from actors.risk.correlation.settings import CorrelationSettings
from hive.messages.reports import ChangeCall, ChangeWatch


def watch(
    methods: tuple[str, ...], returns: np.ndarray, dates: np.ndarray, settings: CorrelationSettings
) -> list[ChangeWatch]:
    """Both statistics by every detector asked for.

    Raises
    ------
    InvalidMarketData
        Fewer than two symbols, or too few days to watch.
    """
    found = []
    for method in changes.METHODS:
        if method not in methods:
            continue
        threshold = changes.threshold_for(method, settings.false_alarm_days)
        for statistic in changes.STATISTICS:
            alarms = changes.detect(returns, method, statistic, threshold)
            found.append(
                ChangeWatch(
                    method=method,
                    statistic=statistic,
                    calls=tuple(_call(alarm, dates) for alarm in alarms),
                    days=len(returns),
                    false_alarm_days=settings.false_alarm_days,
                    usual_delay_days=changes.delay_for(method, settings.false_alarm_days),
                    recent=bool(alarms) and len(returns) - alarms[-1].alarm <= settings.recent_days,
                )
            )
    return found


def _call(alarm: changes.Alarm, dates: np.ndarray) -> ChangeCall:
    return ChangeCall(
        change_date=str(dates[alarm.change]),
        alarm_date=str(dates[alarm.alarm]),
        delay_days=alarm.alarm - alarm.change,
        direction="rise" if alarm.direction > 0 else "fall",
    )
