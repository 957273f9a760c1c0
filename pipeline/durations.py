"""Lengths of time as people write and say them."""

from __future__ import annotations

import re

from pipeline.errors import UsageError

_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS_S))


def parse_duration(text: str, option: str) -> float:
    """Seconds of `6h`, `90m`, `1d12h`, `45s`: numbers with their units, the largest unit first.

    Raises UsageError naming `option` for anything else, a bare number among it, and for 0.
    """
    match = _FORM.fullmatch(text.strip().lower())
    parts = match.groups() if match else ()
    seconds = sum(float(n) * unit for n, unit in zip(parts, _UNITS_S.values(), strict=False) if n)
    if not seconds:
        raise UsageError(f"{option} {text}: not a length of time such as 6h, 90m, 1d12h or 45s")
    return seconds


def said(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 20 min, 4 days 2 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{hours // 24} days" + (f" {hours % 24} h" if hours % 24 else "")


def clock(seconds: float) -> str:
    """A place in a video: 7.25 s, 1:05.20, 1:02:03.50."""
    hundredths = round(seconds * 100)
    if abs(hundredths) < 6000:
        return f"{hundredths / 100:.2f} s"
    sign, hundredths = "-" * (hundredths < 0), abs(hundredths)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{sign}{hours}:{minutes:02d}:{tail}" if hours else f"{sign}{minutes}:{tail}"
