"""What readers make of tracks: boxes between detections, and one row for each track."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.ledger.reader import Ledger
from pipeline.results.where import Where
from pipeline.tracks.interpolate import interpolated
from tests.tracks.made import boxes, crowd, detect, make_config, make_index, make_job, track


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> Ledger:
    job = make_job(tmp_path_factory.mktemp("read") / "out", make_config())
    one, two = make_index(90), make_index(60, name="b")
    detect(job, one, crowd(1))
    detect(job, two, crowd(2))
    track(job, one, two)
    return Ledger(job.output)


def test_a_gap_is_filled_by_time_and_an_end_is_cut(tmp_path):
    def scene(frame, time_s):
        x = 20 + 90 * time_s + 300 * time_s**2
        return boxes((x, 50, x + 90, 120, 0.9, 1)) if frame < 10 or 16 <= frame < 22 else boxes()

    job = make_job(tmp_path / "out", make_config())
    index = make_index(40, steps=(3000, 6000))
    detect(job, index, scene)
    track(job, index)
    ledger = Ledger(job.output)
    raw, filled = (ledger.tracks(interpolate=choice).to_pylist() for choice in (False, True))
    assert [row["frame_index"] for row in filled] == list(range(22))
    assert {row["track_id"] for row in raw} == {1}
    assert [row["state"] for row in filled] == ["tracked"] * 10 + ["interpolated"] * 6 + [
        "tracked"
    ] * 6
    assert raw[:10] == filled[:10]
    assert {row["state"] for row in raw[22:]} == {"lost"}
    seconds = [filled[9]["pts_s"], filled[16]["pts_s"]]
    for row in filled[10:16]:
        line = np.interp(row["pts_s"], seconds, [filled[9]["x1"], filled[16]["x1"]])
        assert row["x1"] == pytest.approx(line, abs=1e-3)
        assert row["score"] is None


def test_tracks_of_several_videos_are_filled_apart(ledger):
    raw, filled = ledger.tracks(), ledger.tracks(interpolate=True)
    assert len(set(raw.column("video_id").to_pylist())) == 2
    assert set(filled.column("state").to_pylist()) == {"tracked", "interpolated"}
    alone = [
        interpolated(raw.filter(pa.compute.equal(raw.column("video_id"), video)))
        for video in sorted(set(raw.column("video_id").to_pylist()))
    ]
    assert pa.concat_tables(alone).to_pylist() == filled.to_pylist()


def test_tracks_are_asked_for_like_boxes(ledger):
    (video,) = {v for v in ledger.videos().column("video_id").to_pylist() if v} - {
        make_index(90).video_id
    }
    found = ledger.tracks(Where(video=video, frames=(10, 20), classes=("class 1",)))
    assert found.num_rows
    assert {row["class_id"] for row in found.to_pylist()} == {1}
    assert all(10 <= row["frame_index"] < 20 for row in found.to_pylist())


def test_a_summary_says_what_its_rows_say(ledger):
    rows = ledger.tracks().to_pylist()
    summaries = ledger.track_summaries().to_pylist()
    keys = [(one["video_id"], one["track_id"]) for one in summaries]
    assert keys == sorted({(row["video_id"], row["track_id"]) for row in rows})
    for one, key in zip(summaries, keys, strict=True):
        mine = [row for row in rows if (row["video_id"], row["track_id"]) == key]
        tracked = [row for row in mine if row["state"] == "tracked"]
        frames = [row["frame_index"] for row in tracked]
        assert (one["first_frame"], one["last_frame"]) == (min(frames), max(frames))
        assert one["frames"] == len(frames)
        inside = [r for r in mine if r["state"] == "lost" and r["frame_index"] < max(frames)]
        assert one["lost_frames"] == len(inside)
        scores = [row["score"] for row in tracked]
        assert one["mean_score"] == pytest.approx(np.mean(scores), abs=1e-6)
        best = max(tracked, key=lambda row: (row["score"], -row["frame_index"]))
        assert (one["best_frame"], one["best_s"]) == (best["frame_index"], best["pts_s"])
        sides = ("x1", "y1", "x2", "y2")
        assert [one[side] for side in sides] == [best[side] for side in sides]
        assert one["class_name"] == f"class {one['class_id']}"
        assert one["embedding"] is None
