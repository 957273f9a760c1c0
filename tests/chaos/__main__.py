"""`python -m tests.chaos`: so many rounds of faults on one corpus, each followed by a checker.

Exit code: 0 all rounds held, 1 with the seeds of those that did not.
"""

from __future__ import annotations

import argparse
import sys

from tests.chaos.campaign import campaign
from tests.chaos.schedule import WHEEL, seeds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the campaign")
    parser.add_argument("--only", choices=sorted(set(WHEEL)), help="rounds of one kind")
    parser.add_argument(
        "--replay", type=int, nargs="+", metavar="SEED", help="these rounds; their folders are kept"
    )
    parser.add_argument("--lanes", type=int, default=2, help="rounds side by side")
    given = parser.parse_args()
    if given.replay is not None:
        return campaign(given.replay, lanes=1, keep=True)
    return campaign(list(seeds(given.seed, given.rounds, given.only)), lanes=given.lanes)


if __name__ == "__main__":
    sys.exit(main())
