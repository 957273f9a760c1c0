"""A collector dies with a call in hand, and its successor is done before that has failed.

unheard FOLDER      one video's index to a collector that is killed; closes it as a run does

A process of its own: Ray waits for a word of the dead before it fails their calls, usually 1 s.
Here that is longer than a process takes to start, which on a busy machine happens by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import ray

from pipeline.engine.actors import CollectorActor
from pipeline.engine.collector_link import CollectorLink
from pipeline.engine.fleet import FOREVER
from pipeline.runner import make_job
from pipeline.sources.index import index_video
from tests.engine.test_engines import probe
from tests.sources.decoding import LIMITS, source_of
from tests.videos import make

FAILS_AFTER_S = 15.0


def main(folder: Path) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _system_config={"timeout_ms_task_wait_for_death_info": round(1000 * FAILS_AFTER_S)},
    )
    job = make_job(probe(), str(folder / "out"))
    index = index_video(source_of(make(folder / "a.mp4", 20)), LIMITS)
    actor = CollectorActor.options(num_cpus=0, **FOREVER).remote(job, 0)
    link = CollectorLink(actor)
    link.await_ready()
    first = collector()
    # It has the call, and does nothing about it.
    os.kill(first, signal.SIGSTOP)
    link.index(index)
    time.sleep(0.5)
    began = time.monotonic()
    os.kill(first, signal.SIGKILL)
    while (second := collector()) in (None, first):
        time.sleep(0.05)
    link.await_ready()
    print("back", time.monotonic() - began < FAILS_AFTER_S, "heard", not link.settle())
    link.close()
    assert collector() == second
    ray.shutdown()


def collector() -> int | None:
    """Its process."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "CollectorActor" in process.cmdline()[0]:
                return process.pid
        except (psutil.Error, IndexError):
            continue
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
