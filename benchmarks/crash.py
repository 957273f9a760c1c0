"""What a crash costs: a run killed with -9 at half of a long video, and run again.

`python -m benchmarks.crash CONFIG VIDEO OUTPUT` is the run that gets killed: as `frameledger run`,
but it prints after every result how many frames have been decoded and analyzed so far.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import table
from benchmarks.videos import demo_720p, repeated

MINUTES = 30


@dataclass(frozen=True)
class Cost:
    """Of one crash."""

    frames: int
    """Of the video."""
    seen: int
    """Decoded and analyzed when the run was killed, as far as it had said."""
    kept: int
    """Of those, what the next run did not do again."""
    decoders: int
    shard_frames: int
    """Of the largest shard."""
    resumed_s: float

    @property
    def redone(self) -> int:
        return max(0, self.seen - self.kept)

    @property
    def unsaid(self) -> int:
        """Kept, though the run was killed before it could say so: at most what is `allowed`."""
        return max(0, self.kept - self.seen)

    @property
    def allowed(self) -> int:
        """One shard that was not whole per decoder, and what was analyzed after the last word."""
        return self.decoders * self.shard_frames


def crash(work: Path, _videos: Path | None) -> None:
    """Print the table."""
    video = repeated(demo_720p(work / "minute.mp4", 60), work / "30min.mp4", MINUTES)
    rows = []
    for placement in ("fused", "split"):
        cost = crash_at_half(video, work / "out-crash", placement)
        counts = (cost.frames, cost.seen, cost.kept, cost.redone, cost.decoders, cost.shard_frames)
        rows.append((placement, *(f"{count:,}" for count in counts), f"{cost.resumed_s:.0f} s"))
    header = ("placement", "frames", "seen at the kill", "kept", "redone", "decoders")
    header = (*header, "frames of a shard", "run again")
    table(
        "Crash: kill -9 of the driver at half of a 30-minute video, probe, stride 1", header, rows
    )


def crash_at_half(video: Path, output: Path, placement: str) -> Cost:
    """Kill a run on `video` when half of its frames are done, and run it again to its end."""
    from pipeline.ledger.reader import Ledger
    from pipeline.ledger.runs import read_runs
    from pipeline.ledger.verify import verify
    from pipeline.runner import run

    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.crash", str(video), str(output), placement]
    half = _frames_of(video) // 2
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = 0
    while seen < half and (line := process.stdout.readline()):
        seen = int(line)
    process.send_signal(signal.SIGKILL)
    # What it had said before it died.
    seen = int([str(seen), *process.stdout.read().split()][-1])
    process.wait()
    summary = run(_config(placement), [str(video)], output, engine="ray")
    ledger = Ledger(output)
    rows = ledger.table("frames", ["run_id"]).column("run_id").to_pylist()
    shards = ledger.table("shards", ["frames"]).column("frames").to_pylist()
    if findings := verify(str(output)).findings:
        raise RuntimeError(f"{output}: {findings[0]}")
    kept = sum(run_id != summary.run_id for run_id in rows)
    if len(rows) != _frames_of(video) or len(read_runs(str(output))) != 2:
        raise RuntimeError(f"{output}: {len(rows)} frames of {_frames_of(video)}")
    return Cost(len(rows), seen, kept, summary.decoders, max(shards), summary.steady_s)


def _config(placement: str) -> Any:
    from pipeline.config_file import load_config

    return load_config("configs/probe.yaml", (f"engine.placement={placement}",))


def _frames_of(video: Path) -> int:
    import av

    with av.open(str(video)) as container:
        return int(container.streams.video[0].frames)


class _Telling:
    """Prints how far a run has come."""

    @contextmanager
    def watching(self, stats: Any) -> Iterator[None]:
        saw = stats.saw

        def telling(ack: Any) -> None:
            saw(ack)
            print(stats.frames_seen, flush=True)

        stats.saw = telling
        yield


if __name__ == "__main__":
    from pipeline.runner import run as _run

    _run(_config(sys.argv[3]), [sys.argv[1]], sys.argv[2], engine="ray", progress=_Telling())
