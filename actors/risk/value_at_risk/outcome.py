"""What every method of this room gives back, and how it writes a figure."""

from __future__ import annotations

from dataclasses import dataclass

from hive.messages.estimate import Estimate

Interval = tuple[float | None, float | None]
UNKNOWN: Interval = (None, None)


@dataclass(frozen=True)
class Outcome:
    """Figures of one method, and what the reader must be told beside them."""

    estimates: tuple[Estimate, ...]
    warnings: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


def figure(
    measure: str,
    value: float,
    *,
    label: str,
    convention: str,
    samples: int,
    confidence: float,
    horizon_days: int,
    bounds: Interval,
    how: str,
) -> Estimate:
    """A loss as a fraction of value, with its interval."""
    return Estimate(
        measure=measure,
        value=value,
        unit="fraction",
        method_label=label,
        convention=convention,
        samples=samples,
        lower=bounds[0],
        upper=bounds[1],
        interval_method=how,
        confidence=confidence,
        horizon_days=horizon_days,
    )


def over(label: str, horizon_days: int, how: str) -> str:
    """The label of a method over a horizon: its own for one day, else with how the days were put together."""
    return label if horizon_days == 1 else f"{label}_{how}"
