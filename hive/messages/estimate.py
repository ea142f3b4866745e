"""A number with everything needed to trust it: interval, method, convention and sample count."""

from __future__ import annotations

from hive.messages.codec import message

INTERVAL_LEVEL = 0.95


@message
class Estimate:
    """One estimated or computed figure.

    A loss is a positive number. ``lower`` and ``upper`` bound the 95 % interval; both are None when the figure is not
    an estimate (a realised loss, a stated shock) or when its uncertainty is not known, and ``interval_method`` says
    which of the two it is.
    """

    measure: str
    """What is measured: ``var``, ``cvar``, ``loss``, ``mean_correlation``..."""
    value: float
    unit: str
    """``fraction`` of value, ``money`` in the portfolio's currency, ``days``, ``correlation`` or ``ratio``."""
    method_label: str
    """How the number was made: ``historical``, ``gaussian``, ``ledoit_wolf``..."""
    convention: str
    """Which definition of the measure, where the field knows several."""
    samples: int
    """Observations the number rests on; 0 where it rests on none."""
    lower: float | None = None
    upper: float | None = None
    interval_method: str = "none"
    confidence: float | None = None
    """Confidence level of a tail measure, 0.95 and the like, never a tail probability."""
    horizon_days: int | None = None
