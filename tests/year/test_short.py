"""Twelve days of a schedule; `make year` plays 365 days."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.year.calendar import year

ROOT = Path(__file__).parents[2]
DAYS, SEED = 12, 240


def test_every_version_is_worked_once_for_each_analysis(tmp_path):
    command = [sys.executable, "-m", "tests.year", "--days", str(DAYS), "--seed", str(SEED)]
    command += ["--keep", "4", "--without-ray", "--folder", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("ok      day") == DAYS
    assert f"| {DAYS} | " in done.stdout


def test_a_year_has_enough_of_everything():
    days = year(1, 365, with_ray=True)
    assert days == year(1, 365, with_ray=True)
    hows = Counter(day.how for day in days)
    assert hows["plain"] < 320
    assert min(hows[how] for how in ("killed", "share", "leave", "takeover", "budget")) >= 3
    assert 2 <= hows["ray"] <= 12
    assert len({day.detector for day in days}) > 5
    assert len({day.embedder for day in days}) > 5
    assert {day.stride for day in days} == {1, 2}
    changes = Counter(change for day in days for change in day.changes)
    assert min(changes.values()) > 5
    assert (days[-1].how, days[-1].gc, days[-1].verify) == ("plain", True, True)
    short = Counter(day.how for day in year(SEED, DAYS, with_ray=False))
    assert short["killed"]
    assert short["share"]
