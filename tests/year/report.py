"""What a simulated year prints."""

from __future__ import annotations

from tests.year.calendar import Day
from tests.year.runs import Counts
from tests.year.simulation import Simulation


def line_of(day: Day, simulation: Simulation, seconds: float) -> str:
    """One day in a line."""
    models = f"detector {day.detector}, embedder {day.embedder}, stride {day.stride}"
    done = ", ".join(name for name in ("gc", "verify") if getattr(day, name))
    return (
        f"day {day.number:3} {day.how:8} {models}; changes: {', '.join(day.changes) or 'none'}; "
        f"{len(simulation.corpus.now)} files, {simulation.counts.pairs:,} landed"
        f"{'; ' + done if done else ''}; {seconds:.1f} s"
    )


def table(counts: Counts, days: int, seed: int, seconds: float) -> str:
    """The year."""
    runs = ", ".join(f"{count} {how}" for how, count in sorted(counts.runs.items()))
    lines = [
        "",
        f"{days} days, seed {seed}, {seconds / 60:.1f} min. Runs: {runs}.",
        f"Contents worked, once for each analysis: {counts.pairs:,}, of which {counts.again:,} "
        f"again after gc had removed them; removed by gc: {counts.removed:,}.",
        f"Frames that analyzers looked at: {counts.frames:,}, of which {counts.lost:,} "
        "came to nothing in runs that were killed.",
        "",
        "| day | files of the corpus | videos | data MiB | files | logs MiB | files |",
        "|---|---|---|---|---|---|---|",
    ]
    for day, (files, videos, size) in sorted(counts.sizes.items()):
        lines.append(
            f"| {day + 1} | {files:,} | {videos:,} | {size.data_bytes / 2**20:.1f} | "
            f"{size.data_files:,} | {size.log_bytes / 2**20:.1f} | {size.log_files:,} |"
        )
    return "\n".join(lines)
