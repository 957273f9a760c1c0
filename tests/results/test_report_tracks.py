"""Figures of tracks: those of the tables, for all videos, a run and a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.durations import clock
from pipeline.ledger.reader import Ledger
from pipeline.results.report_data import gather
from pipeline.results.report_page import write_report
from pipeline.results.report_tracks import TrackFigures, count_tracks


def lengths_of(rows: list[dict]) -> dict[tuple[str, int], tuple[float, int, int]]:
    """(seconds, frames with a detection, lost between them) of each track."""
    tracks: dict[tuple[str, int], list[dict]] = {}
    for row in rows:
        tracks.setdefault((row["video_id"], row["track_id"]), []).append(row)
    found = {}
    for key, mine in tracks.items():
        seen = [row for row in mine if row["state"] == "tracked"]
        last = seen[-1]["frame_index"]
        lost = [row for row in mine if row["state"] == "lost" and row["frame_index"] < last]
        found[key] = seen[-1]["pts_s"] - seen[0]["pts_s"], len(seen), len(lost)
    return found


def assert_are(figures: TrackFigures, lengths: list[tuple[float, int, int]]) -> None:
    seconds, frames, lost = zip(*lengths, strict=True)
    assert figures.tracks == len(lengths)
    assert figures.longest_s == pytest.approx(max(seconds))
    assert figures.mean_s == pytest.approx(sum(seconds) / len(seconds))
    assert figures.lost == pytest.approx(sum(lost) / (sum(frames) + sum(lost)))


def test_figures_are_those_of_the_tables(tracked: Path) -> None:
    ledger = Ledger(tracked / "out")
    rows = ledger.tracks().to_pylist()
    lengths = lengths_of(rows)
    data = gather(str(tracked / "out"))
    assert_are(data.tracks.every, list(lengths.values()))
    assert data.tracks.every.lost > 0
    before, made_them = data.runs
    assert (before.track_s, data.tracks.by_run.keys()) == (0.0, {made_them.row["run_id"]})
    assert 0 < made_them.track_s <= made_them.took_s
    assert data.tracks.by_run[made_them.row["run_id"]] == data.tracks.every
    assert sum(figures.tracks for _, _, figures in data.tracks.classes) == len(lengths)
    most = [figures.tracks for _, _, figures in data.tracks.classes]
    assert most == sorted(most, reverse=True)
    for video_id in {row["video_id"] for row in rows}:
        mine = [value for key, value in lengths.items() if key[0] == video_id]
        assert_are(count_tracks(ledger, video_id).every, mine)


def test_the_page_tells_them(tracked: Path, tmp_path: Path) -> None:
    write_report(str(tracked / "out"), str(tmp_path / "r.html"), searches=[])
    page = " ".join((tmp_path / "r.html").read_text().split())
    figures = count_tracks(Ledger(tracked / "out"))
    every = figures.every
    assert f"<b>{every.tracks}</b> <span>tracks</span>" in page
    assert f"{every.tracks} tracks,<br> {100 * every.lost:.1f} % lost" in page
    for _, name, one in figures.classes:
        row = f'{name}</td> <td class="n">{one.tracks}</td><td class="n">{clock(one.mean_s)}</td>'
        assert row in page
    for row in Ledger(tracked / "out").videos().to_pylist():
        mine = count_tracks(Ledger(tracked / "out"), row["video_id"]).every
        assert f'<p class="small">{mine.tracks} tracks <span class="soft">of ' in page
        assert f"the longest {clock(mine.longest_s)}, {100 * mine.lost:.1f} % lost:" in page


def test_without_tracks_nothing_is_said_of_them(boxed: Path, tmp_path: Path) -> None:
    assert count_tracks(Ledger(boxed / "out")).classes == []
    write_report(str(boxed / "out"), str(tmp_path / "r.html"), searches=[])
    page = (tmp_path / "r.html").read_text()
    assert "Detections by class" in page
    assert "tracks" not in page
    assert "<h2>Tracks" not in page
