"""Lengths of time, read and said."""

from __future__ import annotations

import pytest

from pipeline.durations import parse_duration, said
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("90m", 5400),
        ("6h", 21600),
        ("1d12h", 129600),
        ("1d2h3m4s", 93784),
        ("0.5h", 1800),
        (" 6H ", 21600),
        ("0d1s", 1),
    ],
)
def test_what_is_read(text, seconds):
    assert parse_duration(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "0s", "-1h", "6 h", "12h1d", "1w", "1e3s", "6h!"])
def test_what_is_refused_in_one_line_that_names_the_option(text):
    with pytest.raises(UsageError, match=r"^--budget .*not a length of time such as 6h"):
        parse_duration(text, "--budget")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "1 h"),
        (12000, "3 h 20 min"),
        (6 * 86400, "6 days"),
        (180000, "2 days 2 h"),
    ],
)
def test_what_is_said(seconds, words):
    assert said(seconds) == words
