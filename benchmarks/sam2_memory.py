"""SAM 2 tracks: memory after a short and a long video, and time, by the number of objects.

    python -m benchmarks.sam2_memory OBJECTS    one row: a process that prints JSON

The model is tiny and its weights are random: what is kept of an object is the same in kind, and
growth would be seen in the small as well. On a GPU where there is one.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import json_line, table

OBJECTS = (1, 4, 8)
SHORT, LONG = 200, 5000
"""Frames."""
SIDE = 64
WIDTH, HEIGHT = 128, 80
KINDS = ("host", "tensors", "device", "state")
_SCENE = 24
"""Frames of the demo world, over and over."""


def sam2_memory(_work: Path, _videos: Path | None) -> None:
    """Print the table."""
    rows = []
    for objects in OBJECTS:
        found = json_line([sys.executable, "-m", "benchmarks.sam2_memory", str(objects)])
        short, long = found["at"]
        for frames, one in ((SHORT, short), (LONG, long)):
            device = "none" if one["device"] is None else f"{one['device'] / 2**20:.2f} MiB"
            rows.append(
                (
                    str(objects),
                    f"{frames:,}",
                    f"{one['host'] / 2**20:.1f} MiB",
                    f"{one['tensors'] / 2**20:.2f} MiB",
                    device,
                    f"{one['state'] / 2**10:.0f} KiB",
                    f"{one['object_ms']:.1f} ms",
                )
            )
        kinds = [kind for kind in KINDS if short[kind] is not None]
        ratios = {kind: f"{long[kind] / short[kind]:.3f}" for kind in kinds}
        cells = (ratios.get(kind, "") for kind in KINDS)
        rows.append((str(objects), f"{LONG:,} / {SHORT:,}", *cells, ""))
    header = ("objects", "frames", "host", "tensors", "device", "saved state", "object and frame")
    table(f"SAM 2 tracks: memory by length, {SIDE} pixels squared, random weights", header, rows)


def measure(objects: int) -> dict[str, Any]:
    """Track so many objects: `at` SHORT and LONG frames `host` and `device` bytes of the process,
    those of all `tensors` between two frames, wherever they are, those of the `state` that would be
    saved, and ms of an object in a frame since the last."""
    import psutil
    import torch

    from pipeline.config_trackers import Sam2Config
    from pipeline.demo.tiny_sam2 import build_sam2, save_sam2
    from pipeline.demo.world import World
    from pipeline.tracks.light import Boxes
    from pipeline.tracks.sam2 import Sam2Tracker
    from pipeline.tracks.sam2_model import load

    # A second thread costs more than it gives with matrices as small as these.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        save_sam2(build_sam2(SIDE, memory_layers=1, decoder_layers=1), Path(folder))
        loaded = load(Path(folder), device)
    config = Sam2Config(
        backend="sam2",
        model="random",
        new_frames=1,
        match_iou=0.001,
        duplicate_iou=1.0,
        memory_iou=0.0,
        lost_seconds=LONG,
    )
    world = World(0, WIDTH, HEIGHT, _SCENE)
    pictures = [world.render(at) for at in range(_SCENE)]
    corners = np.array([[4.0 + 10 * n, 5.0 + 4 * n] for n in range(objects)])
    first = Boxes(np.hstack([corners, corners + 40]), np.full(objects, 0.9), np.arange(objects))
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    tracker = Sam2Tracker(config, loaded)
    process = psutil.Process()
    found = []
    before, started = 0, time.perf_counter()
    for at in range(LONG):
        rows = tracker.step(at / 30, pictures[at % _SCENE], first if at == 0 else nothing)
        assert [row.mask is not None for row in rows] == [True] * objects
        if at + 1 in (SHORT, LONG):
            spent = time.perf_counter() - started
            state = tracker.save().tensors.values()
            held = sum(one.numel() * one.element_size() for one in state)
            del state
            gc.collect()
            found.append(
                {
                    "host": process.memory_full_info().uss,
                    "tensors": tensor_bytes(),
                    "device": torch.cuda.max_memory_allocated() if device == "cuda" else None,
                    "state": held,
                    "object_ms": spent / (at + 1 - before) / objects * 1e3,
                }
            )
            before, started = at + 1, time.perf_counter()
    return {"at": found}


def tensor_bytes() -> int:
    """Of what all tensors of this process lie in, each piece of memory once."""
    import torch

    held = {}
    for one in gc.get_objects():
        # Not isinstance, which asks proxies of what has gone.
        if issubclass(type(one), torch.Tensor):
            memory = one.untyped_storage()
            held[memory.data_ptr()] = memory.nbytes()
    return sum(held.values())


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
