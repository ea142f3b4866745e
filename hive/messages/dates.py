"""Calendar dates as this house reads them: YYYY-MM-DD and nothing else."""

from __future__ import annotations

import datetime
import re

import numpy as np

ISO = re.compile(r"\d{4}-\d{2}-\d{2}")


def iso_date(text: str) -> np.datetime64:
    """The day that ``text`` names.

    Raises
    ------
    ValueError
        It is not of the form YYYY-MM-DD, or there is no such day. NumPy alone would take ``2020`` for a day, and
        ``20200102`` for one far in the future.
    """
    if not isinstance(text, str) or not ISO.fullmatch(text):
        raise ValueError(f"{text!r} is not of the form YYYY-MM-DD")
    return np.datetime64(datetime.date.fromisoformat(text), "D")
