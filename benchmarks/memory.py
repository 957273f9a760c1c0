"""Peak memory of a run on a 3-minute and on a 60-minute 720p video, under a configured cap."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.measure import frameledger, table
from benchmarks.videos import demo_720p, repeated

LIMIT_GIB = 3
SHORT_MIN, LONG_MIN = 3, 60


def memory(work: Path, _videos: Path | None) -> None:
    """Print the table."""
    minute = demo_720p(work / "minute.mp4", 60)
    rows = []
    for placement in ("fused", "split"):
        peaks = []
        for minutes in (SHORT_MIN, LONG_MIN):
            video = repeated(minute, work / f"{minutes}min.mp4", minutes)
            output = work / "out-memory"
            shutil.rmtree(output, ignore_errors=True)
            figures, peak = frameledger(
                "configs/probe.yaml",
                str(video),
                *("--output", str(output)),
                *("--set", f"memory.limit={LIMIT_GIB}GiB"),
                *("--set", f"engine.placement={placement}"),
                watch=True,
            )
            assert peak is not None
            peaks.append(peak.together)
            cells = (f"{b / 2**20:,.0f} MiB" for b in (peak.private, peak.store, peak.together))
            rows.append((placement, f"{minutes} min", f"{figures['frames']:,}", *cells))
        rows.append((placement, "60 min / 3 min", "", "", "", f"{peaks[1] / peaks[0]:.3f}"))
    header = ("placement", "video", "frames", "private", "object store", "together")
    table(f"Memory: peaks with memory.limit {LIMIT_GIB} GiB, probe, stride 1", header, rows)
