"""A writer in a process of its own, for tests of crashes and races. Run with `python -m`.

race_writer OUTPUT RUN_ID VIDEOS...                 write the videos, shard by shard
race_writer OUTPUT RUN_ID --die-before TABLE ...    kill itself within a flush
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from pipeline.ledger.books import Books
from pipeline.records import VideoOutcome
from tests.ledger.corpus import feed, make_index, make_tasks, open_writer, source_of, write_video


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("run_id")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--die-before")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    if args.resume:
        resume(args.output, args.run_id, args.videos)
    elif args.die_before:
        writer = open_writer(args.output, args.run_id)
        for name in args.videos:
            write_video(writer, name)
        die_before(writer, args.die_before)
    else:
        print("ready", flush=True)
        sys.stdin.readline()
        with open_writer(args.output, args.run_id) as writer:
            for name in args.videos:
                index = make_index(name)
                writer.add_index(index)
                for task in make_tasks(name):
                    feed(writer, task)
                    writer.flush()
                writer.add_video(VideoOutcome(source_of(name), index, "ok"))


def die_before(writer, table: str) -> None:  # type: ignore[no-untyped-def]
    for name, step in writer.steps():
        if name == table:
            os.kill(os.getpid(), signal.SIGKILL)
        step()


def resume(output: str, run_id: str, videos: list[str]) -> None:
    """What a run does: only shards and analyses that the books lack, committed as it goes."""
    from dataclasses import replace

    books = Books(output)
    with open_writer(output, run_id) as writer:
        for name in videos:
            index = make_index(name)
            writer.add_index(index)
            for task in make_tasks(name):
                number = task.shard.shard_index
                due = tuple(
                    f for f in task.analyses if number not in books.landed(index.video_id, f)
                )
                if due:
                    feed(writer, replace(task, analyses=due))
                    writer.flush()
            writer.add_video(VideoOutcome(source_of(name), index, "ok"))


if __name__ == "__main__":
    main()
