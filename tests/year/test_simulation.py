"""Days by hand, for what a year seldom comes to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_DAYS = """
import sys
from pathlib import Path
from tests.year.calendar import Day
from tests.year.simulation import Simulation

def day(number, how="plain", detector=2, changes=(), gc=False):
    return Day(number, changes, detector, 1, 1, how, "discovery", 0.05, gc, False)

year = Simulation(Path(sys.argv[1]), seed=1, keep_days=1)
year.play(day(0, detector=1, changes=("add",) * 3))
year.play(day(1))
year.play(day(2))
year.play(day(3, "killed", gc=True))
assert dict(year.counts.runs) == {"plain": 3, "killed": 1}
assert year.counts.removed == 3
year.play(day(4))
"""


def test_what_gc_removes_on_the_day_of_a_kill_is_known_the_day_after(tmp_path):
    """A run that had nothing to do leaves nothing for which rows would stay."""
    command = [sys.executable, "-c", _DAYS, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
