"""`python -m tests.year`: a schedule of so many days on a corpus that grows and changes, checked
after every run.

Exit code: 0 all of it held, 1 with the day on which it did not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.year.calendar import year
from tests.year.report import line_of, table
from tests.year.runs import Wrong
from tests.year.simulation import Simulation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.year", description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=int, default=60, help="days, as of gc --keep")
    parser.add_argument("--without-ray", action="store_true", help="on the local engine alone")
    parser.add_argument("--folder", type=Path, help="to work in; kept")
    given = parser.parse_args()
    # Short: Ray's sockets lie in it, and their paths have a length limit.
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fl-year-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("RAY_TMPDIR", str(folder / "ray"))
    (folder / "ray").mkdir(exist_ok=True)
    simulation = Simulation(folder, given.seed, given.keep)
    started = time.monotonic()
    for day in year(given.seed, given.days, not given.without_ray):
        began = time.monotonic()
        try:
            simulation.play(day)
        except Wrong as wrong:
            print(f"FAILED  {line_of(day, simulation, time.monotonic() - began)}\n  {wrong}")
            print(f"  what is there: {folder}")
            return 1
        print(f"ok      {line_of(day, simulation, time.monotonic() - began)}", flush=True)
    print(table(simulation.counts, given.days, given.seed, time.monotonic() - started))
    if given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
