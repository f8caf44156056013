"""Measured shares in words."""

from __future__ import annotations


def share_words(median: float, low: float, high: float) -> str:
    """A share with the range that holds the true one in 95 % of cases: "45.1 % (44.0 to 46.2)"."""
    return f"{100 * median:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
