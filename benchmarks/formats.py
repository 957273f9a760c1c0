"""The classic table of frame formats: 10,000 frames of 120x120, every fourth of them loaded.

Every pixel of a loaded frame is read (summed): a memory-mapped file costs nothing else. Each format
is read by a process of its own, whose memory is looked at from outside.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from select import select
from statistics import median

import numpy as np

from benchmarks.format_files import EVERY, FORMATS, Format
from benchmarks.measure import table

COUNT, SIDE = 10_000, 120
ROUNDS = 3
_LOSSY = 0.01
"""What of the sum of all levels a lossy format may be off."""
_LOOK_S = 0.002


def formats(work: Path, videos: Path | None) -> None:
    """Print a table of noise and one of real video."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    _table(work, "noise", noise)
    del noise
    names = ("01_dog.mp4", "05_default_juggle.mp4")
    found = [videos / name for name in names] if videos is not None else []
    if not all(path.exists() for path in found) or not found:
        from benchmarks.videos import demo_720p

        found = [demo_720p(work / "formats-demo.mp4", 20)]
    what = f"{' and '.join(path.stem for path in found)}, again and again"
    _table(work, what, np.stack(list(islice(_small(found), COUNT))))


def _small(paths: list[Path]) -> Iterator[np.ndarray]:
    """Frames of the videos, one after another for ever: uint8 (120, 120, 3)."""
    import av

    frames = []
    for path in paths:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                small = frame.reformat(SIDE, SIDE, "rgb24", interpolation="AREA")
                frames.append(small.to_ndarray())
    return cycle(frames)


def _table(work: Path, what: str, frames: np.ndarray) -> None:
    folder = work / "formats"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expected = sum(int(frame.sum(dtype=np.int64)) for frame in frames[::EVERY])
    rows = []
    for one in FORMATS:
        path = folder / one.file
        one.write(frames, path)
        disk = _disk(path)
        rounds = [measured(one, path) for _ in range(ROUNDS)]
        for _, _, count, total in rounds:
            off = abs(total - expected) / expected
            assert count == len(frames[::EVERY]), one.name
            assert total == expected if one.lossless else off < _LOSSY, (one.name, off)
        seconds = median(seconds for seconds, *_ in rounds)
        held = max(held for _, held, *_ in rounds)
        sizes = (f"{size / 1e6:,.0f} MB" for size in (disk, held))
        each = f"{seconds / len(frames[::EVERY]) * 1e6:,.0f} µs"
        rows.append((one.name, *sizes, f"{seconds:.2f} s", each))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    title = f"Frame formats: {len(frames):,} frames of {SIDE}x{SIDE} RGB, every fourth read; {what}"
    table(title, ("format", "disk", "memory", "time", "a frame"), rows)


def measured(one: Format, path: Path) -> tuple[float, int, int, int]:
    """(seconds, bytes of memory, frames, sum of all levels) of a process that reads `path`.

    Its own memory, beyond what it has when everything is imported; pages of mapped files are the
    system's, which takes them back when it likes.
    """
    command = [sys.executable, "-m", "benchmarks.formats", one.name, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    with process:
        process.stdout.readline()  # It has imported what it needs.
        before = most = _private(process.pid)
        for _ in ("to its first frame, with which it waits", "to the end"):
            process.stdin.write("go\n")
            process.stdin.flush()
            while not select([process.stdout], [], [], _LOOK_S)[0]:
                most = max(most, _private(process.pid))
            most = max(most, _private(process.pid))
            said = process.stdout.readline()
        found = json.loads(said)
    return found["seconds"], most - before, found["count"], found["sum"]


def _private(pid: int) -> int:
    """Bytes of a process that are in no file. Source: proc(5), /proc/pid/status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def _disk(path: Path) -> int:
    """Bytes that a file, or a folder of files, takes up."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_blocks * 512 for file in files)


def _read(name: str, path: Path) -> None:
    """One process: import, say so, wait for the word, read; wait again with the first frame, so
    that however busy the machine is it is seen what the reader then holds."""
    one = next(one for one in FORMATS if one.name == name)
    one.load()
    _wait("ready")
    started = time.perf_counter()
    count = total = 0
    for frame in one.read(path):
        if not count:
            started += _wait("first")
        total += int(frame.sum(dtype=np.int64))
        count += 1
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "count": count, "sum": total}))


def _wait(said: str) -> float:
    """Say something, and wait for the word. Returns the seconds that it took."""
    began = time.perf_counter()
    print(said, flush=True)
    sys.stdin.readline()
    return time.perf_counter() - began


if __name__ == "__main__":
    _read(sys.argv[1], Path(sys.argv[2]))
