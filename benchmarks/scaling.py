"""How throughput grows with analyzers, and what the driver takes of a core.

`python -m benchmarks.scaling ADDRESS ANALYZERS FOLDER OUTPUT` is one run on a cluster: it prints
what it came to as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import json_line, table

CLIP_S = 0.04
"""Of a GPU for each clip: what Mask R-CNN takes for a few frames."""
COUNTS = (1, 2, 4, 8, 16)
PER_NODE = 4
"""Analyzers on a node, beside one decoder."""
SECONDS = 12.0
"""For which each run has work, at 25 clips a second for each analyzer."""
LENGTH, CLIPS = 4, 100
"""Frames of a clip and clips of a video: 64 x 48 pixels, so that decoding takes next to nothing."""
STORE_BYTES = 150 * 2**20
HOOK = Path(__file__).parent / "hook"


def scaling(work: Path, _videos: Path | None) -> None:
    """Print the table."""
    folder = work / "scaling-videos"
    _write_videos(folder, round(SECONDS / CLIP_S / CLIPS * max(COUNTS)))
    rows, one = [], 0.0
    for count in COUNTS:
        output = work / "out-scaling"
        shutil.rmtree(output, ignore_errors=True)
        with _cluster(-(-count // PER_NODE)) as address:
            command = [sys.executable, "-m", "benchmarks.scaling", address, str(count)]
            found = json_line([*command, str(folder), str(output)])
        one = one or found["clips_per_s"]
        linear = found["clips_per_s"] / (one * count)
        cells = (count, f"{found['clips_per_s']:.0f}", f"{linear:.2f}")
        rows.append((*map(str, cells), f"{found['driver_cores']:.2f}", f"{found['load']:.2f}"))
    title = f"Scaling: analyzers that sleep {CLIP_S * 1000:.0f} ms a clip, {os.cpu_count()} cores"
    table(
        title,
        ("analyzers", "clips/s", "of linear", "cores of the driver", "of all cores busy"),
        rows,
    )


def one_run(address: str, count: int, folder: Path, output: Path) -> dict[str, Any]:
    """A run over as many videos as so many analyzers have work with for `SECONDS`."""
    from pipeline.config_file import parse_config
    from pipeline.runner import run

    settings = {
        "clip": {"length": LENGTH},
        "engine": {
            "placement": "split",
            "device": "cuda",
            "analyzers": count,
            "workers": -(-count // PER_NODE),
        },
    }
    videos = sorted(str(path) for path in folder.iterdir())
    watch = _Watch()
    config = parse_config(settings, where="scaling")
    some = videos[: round(SECONDS / CLIP_S / CLIPS * count)]
    summary = run(config, some, output, engine="ray", address=address, progress=watch)
    cpu_s, wall_s, busy_s = watch.spent
    return {
        "clips_per_s": summary.clips / summary.steady_s,
        "driver_cores": cpu_s / wall_s,
        "load": busy_s / wall_s / (os.cpu_count() or 1),
        "steady_s": summary.steady_s,
    }


class _Watch:
    """What the process spends between its first and its last result."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float, float]] = []

    @property
    def spent(self) -> tuple[float, float, float]:
        """(CPU seconds of the driver, seconds, CPU seconds of the whole machine)."""
        (cpu, wall, busy), (cpu_end, wall_end, busy_end) = self._marks[0], self._marks[-1]
        return cpu_end - cpu, wall_end - wall, busy_end - busy

    @contextmanager
    def watching(self, stats: Any) -> Iterator[None]:
        import psutil

        stop = threading.Event()

        def sample() -> None:
            seen = 0
            while not stop.wait(0.1):
                if stats.clips > seen:
                    seen = stats.clips
                    times = psutil.cpu_times()
                    busy = sum(times[:3]) + sum(times[5:8])
                    self._marks.append((time.process_time(), time.perf_counter(), busy))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def _cluster(nodes: int) -> Iterator[str]:
    """The address of a cluster of fake GPUs, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as short:
        path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
        env = os.environ | {
            "RAY_TMPDIR": short,
            "PYTHONPATH": os.pathsep.join([path, os.getcwd()]),
            "FRAMELEDGER_CLIP_S": str(CLIP_S),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", "cluster", str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


def _serve_cluster(nodes: int) -> None:
    """Start it, print its address, and end it at the end of the input."""
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **own})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, num_gpus=PER_NODE, object_store_memory=STORE_BYTES)
    print(cluster.address, file=answers, flush=True)
    sys.stdin.read()
    cluster.shutdown()


def _write_videos(folder: Path, count: int) -> None:
    import numpy as np

    from benchmarks.videos import remuxed_copies
    from pipeline.demo.video import write_video

    frames = (np.full((48, 64, 3), 60 + i % 100, np.uint8) for i in range(LENGTH * CLIPS))
    source = folder.with_name("scaling.mp4")
    if not source.exists():
        write_video(source, frames, gop=50)
    remuxed_copies([source], folder, count)


if __name__ == "__main__":
    if sys.argv[1] == "cluster":
        _serve_cluster(int(sys.argv[2]))
    else:
        address, count, folder, output = sys.argv[1:]
        print(json.dumps(one_run(address, int(count), Path(folder), Path(output))))
