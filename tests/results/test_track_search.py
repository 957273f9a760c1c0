"""Search for tracks: exact, filtered, with their pictures."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.cli import invoke
from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.results.colors import class_color
from pipeline.results.contact_sheet import thumbnail
from pipeline.results.hit_frames import pictures_of
from pipeline.results.pixels import read_frames
from pipeline.results.track_search import search_tracks
from pipeline.runner import run
from pipeline.tracks import summary
from pipeline.tracks.summary import Summaries

QUERY = np.random.default_rng(0).random(432).astype(np.float32)


def expected(output: Path, query: np.ndarray) -> list[tuple[float, str, int]]:
    """(-score, video_id, track_id) of every track, best first, row by row in float64."""
    ledger = Ledger(output)
    vectors = {
        (row["video_id"], row["frame_index"]): np.array(row["embedding"], np.float64)
        for row in ledger.table("embeddings").to_pylist()
    }
    of: dict[tuple[str, int], list[np.ndarray]] = {}
    for row in ledger.tracks().to_pylist():
        if row["state"] == "tracked":
            key = row["video_id"], row["track_id"]
            of.setdefault(key, []).append(vectors[row["video_id"], row["frame_index"]])
    means = {key: np.mean(some, axis=0) for key, some in of.items()}
    unit = query.astype(np.float64) / np.linalg.norm(query)
    return sorted((-float(v @ unit / np.linalg.norm(v)), *key) for key, v in means.items())


def test_tracks_are_those_of_brute_force(tracked: Path) -> None:
    every = expected(tracked / "out", QUERY)
    found = search_tracks(tracked / "out", vector=QUERY, k=1000)
    assert len(found) == len(every) > 10
    assert {hit.video_id for hit in found} == {one[1] for one in every}
    np.testing.assert_allclose([h.score for h in found], [-e[0] for e in every], atol=1e-6)
    assert {(h.video_id, h.track_id) for h in found} == {one[1:] for one in every}
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))
    assert search_tracks(tracked / "out", vector=QUERY, k=4) == found[:4]


def test_it_does_not_matter_which_videos_are_read_together(tracked: Path, monkeypatch) -> None:
    found = search_tracks(tracked / "out", vector=QUERY, k=1000)
    whole = Ledger(tracked / "out").track_summaries()
    rows = list(Counter(Ledger(tracked / "out").tracks()["video_id"].to_pylist()).values())
    for most, groups in ((10**6, 1), (rows[0] + rows[1], 2), (1, 3)):
        monkeypatch.setattr(summary, "_ROWS", most)
        each = list(Summaries(Ledger(tracked / "out")).each())
        assert len(each) == groups
        assert pa.concat_tables(each).equals(whole)
        assert search_tracks(tracked / "out", vector=QUERY, k=1000) == found


def test_of_equal_tracks_the_first_video_comes_first(tracked: Path) -> None:
    """All score 0 for a query of nothing that is in any frame."""
    found = search_tracks(tracked / "out", vector=np.zeros(432, np.float32), k=1000)
    assert {hit.score for hit in found} == {0.0}
    assert [_key(hit) for hit in found] == sorted(_key(hit) for hit in found)
    assert search_tracks(tracked / "out", vector=np.zeros(432, np.float32), k=9) == found[:9]


def test_a_hit_says_what_its_track_is(tracked: Path) -> None:
    rows = Ledger(tracked / "out").tracks().to_pylist()
    for hit in search_tracks(tracked / "out", vector=QUERY, k=1000):
        mine = [row for row in rows if (row["video_id"], row["track_id"]) == _key(hit)]
        seen = [row for row in mine if row["state"] == "tracked"]
        assert (hit.start_frame, hit.end_frame) == (seen[0]["frame_index"], seen[-1]["frame_index"])
        assert (hit.start_s, hit.end_s) == (seen[0]["pts_s"], seen[-1]["pts_s"])
        best = max(seen, key=lambda row: (row["score"], -row["frame_index"]))
        assert (hit.frame_index, hit.pts_s) == (best["frame_index"], best["pts_s"])
        assert [hit.x1, hit.y1, hit.x2, hit.y2] == [best[side] for side in ("x1", "y1", "x2", "y2")]
        assert hit.mean_score == pytest.approx(np.mean([row["score"] for row in seen]), abs=1e-6)
        assert hit.class_name in {row["class_name"] for row in seen}
        assert hit.frames == len(seen)
        assert hit.uri.startswith(str(tracked / "videos"))


def _key(hit) -> tuple[str, int]:
    return hit.video_id, hit.track_id


def test_tracks_are_chosen_by_class_score_and_video(tracked: Path) -> None:
    every = search_tracks(tracked / "out", vector=QUERY, k=1000)
    name = every[-1].class_name
    least = sorted(hit.mean_score for hit in every)[len(every) // 2]

    def keys(**choice: object) -> list[tuple[str, int]]:
        hits = search_tracks(tracked / "out", vector=QUERY, k=1000, **choice)  # type: ignore[arg-type]
        return [_key(hit) for hit in hits]

    assert keys(class_name=name) == [_key(hit) for hit in every if hit.class_name == name]
    assert keys(min_score=least) == [_key(hit) for hit in every if hit.mean_score >= least]
    one = keys(video="b.*")
    assert one == [_key(hit) for hit in every if hit.uri.endswith("/b.mp4")]
    assert 0 < len(one) < len(every)


def test_the_command_writes_what_the_function_finds(tracked: Path, tmp_path: Path, capsys) -> None:
    video = str(tracked / "videos" / "b.mp4")
    ((_, rgb),) = read_frames(Ledger(tracked / "out"), video, [10])
    Image.fromarray(rgb).save(tmp_path / "query.png")
    found = search_tracks(tracked / "out", image=tmp_path / "query.png", k=5)
    assert found[0].uri == video
    command = ["search", str(tracked / "out"), "--image", str(tmp_path / "query.png"), "--tracks"]
    command += ["--k", "5", "--json", str(tmp_path / "hits.json"), "--csv", "-"]
    command += ["--save-frames", str(tmp_path / "frames")]
    command += ["--contact-sheet", str(tmp_path / "sheet.png")]
    assert invoke(command) == (0, "")
    assert json.loads((tmp_path / "hits.json").read_text()) == [hit.as_dict() for hit in found]
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["track_id"]) for row in printed] == [hit.track_id for hit in found]
    for hit in found:
        name = f"{hit.rank:03d}_{Path(hit.uri).stem}_frame{hit.frame_index}.png"
        with Image.open(tmp_path / "frames" / name) as picture:
            assert read_index(np.asarray(picture)) == hit.frame_index
    with Image.open(tmp_path / "sheet.png") as sheet:
        seen = np.asarray(sheet)
    for hit in found:
        assert (seen == class_color(hit.track_id - 1)).all(axis=2).sum() > 50
    assert invoke(command[:7]) == (0, "")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "score time frame from first to last track video"
    assert f"track {found[0].track_id}, {found[0].class_name}" in lines[1]


def test_two_tracks_of_a_frame_both_have_a_picture(tracked: Path) -> None:
    one, *_ = search_tracks(tracked / "out", vector=QUERY, k=1)
    other = replace(one, rank=2, track_id=one.track_id + 1)
    lost: list[str] = []
    shown = list(pictures_of(Ledger(tracked / "out"), [one, other], lost.append))
    assert ([hit for hit, _ in shown], lost) == ([one, other], [])
    plain, boxed = (np.asarray(thumbnail(shown[0][1], boxes)) for boxes in ((), one.boxes))
    changed = (plain != boxed).any(axis=2)
    assert (boxed[changed] == class_color(one.track_id - 1)).all()
    scale = boxed.shape[1] / shown[0][1].shape[1]
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert edges == pytest.approx([scale * v for v in (one.x1, one.y1, one.x2, one.y2)], abs=1)


def test_what_cannot_be_found_is_said_in_a_line(tracked: Path, tmp_path: Path) -> None:
    out = tracked / "out"
    for options in (["--every", "1s"], ["--no-merge"], ["--near", "0.9"], ["--approximate"]):
        code, line = invoke(["search", str(out), "a red circle", "--tracks", *options])
        assert code == 2
        assert line.startswith("--tracks: a track is found as a whole; leave out --every")
    with pytest.raises(UsageError, match="--class cat: was never found here; there are "):
        search_tracks(out, vector=QUERY, class_name="cat")
    with pytest.raises(UsageError, match=r"have 432 dimensions, the query has \(5,\)"):
        search_tracks(out, vector=np.ones(5, np.float32))
    with pytest.raises(UsageError, match="--k 0: at least 1"):
        search_tracks(out, vector=QUERY, k=0)
    config = parse_config({"embedder": {"backend": "probe"}}, where="test")
    run(config, [str(tracked / "videos" / "b.mp4")], tmp_path / "out", engine="local")
    with pytest.raises(UsageError, match="no tracks to search; run with a tracker"):
        search_tracks(tmp_path / "out", vector=QUERY)
