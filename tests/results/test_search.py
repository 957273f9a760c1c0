"""Search over real tables: exact, filtered, and by no other model than the one that wrote them."""

from __future__ import annotations

import json
from inspect import signature
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import invoke
from pipeline.cli_results import search_command
from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.results.moments import NEAR
from pipeline.results.pixels import read_frames
from pipeline.results.search import search
from pipeline.runner import run
from tests.videos import make

PROBE = {"embedder": {"backend": "probe"}, "sampling": {"stride": 2}, "clip": {"length": 16}}


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> Path:
    """Three videos whose colour drifts, and their mean colours as embeddings."""
    folder = tmp_path_factory.mktemp("search")
    for name, frames in (("a.mp4", 120), ("b.mp4", 60), ("night/c.mp4", 40)):
        make(folder / "videos" / name, frames, gop=12)
    run(parse_config(PROBE, where="test"), [str(folder / "videos")], folder / "out", engine="local")
    return folder


def all_scores(output: Path, query: np.ndarray) -> list[tuple[float, str, int]]:
    """(-score, video_id, frame) of every embedding, best first, by NumPy in float64."""
    rows = Ledger(output).table("embeddings", ["video_id", "frame_index", "embedding"])
    vectors = np.stack(rows.column("embedding").to_numpy()).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ (query / np.linalg.norm(query)).astype(np.float64)
    ids, frames = rows.column("video_id").to_pylist(), rows.column("frame_index").to_pylist()
    return sorted(zip((-scores).tolist(), ids, frames, strict=True))


def test_frames_are_those_of_brute_force(probed: Path) -> None:
    query = np.random.default_rng(0).random(432).astype(np.float32)
    expected = all_scores(probed / "out", query)
    found = search(probed / "out", vector=query, k=1000, near=None)
    assert len(found) == len(expected) == 110
    assert [h.rank for h in found] == list(range(1, 111))
    np.testing.assert_allclose([h.score for h in found], [-e[0] for e in expected], atol=2e-7)
    # Neighbours here differ by less than float32 tells apart: as a whole the order is the same.
    assert {(h.video_id, h.frame_index) for h in found} == {e[1:] for e in expected}
    times = Ledger(probed / "out").index(found[0].uri)
    assert found[0].pts_s == times.pts_seconds(times.pts)[found[0].frame_index]


def test_a_picture_finds_its_frame(probed: Path, tmp_path: Path) -> None:
    video = str(probed / "videos" / "b.mp4")
    ((_, rgb),) = read_frames(Ledger(probed / "out"), video, [30])
    Image.fromarray(rgb).save(tmp_path / "query.png")
    (best, *_) = search(probed / "out", image=tmp_path / "query.png", near=None, video="b.mp4")
    assert (best.uri, best.frame_index) == (video, 30)
    assert best.score == pytest.approx(1, abs=1e-4)


def test_videos_are_chosen_by_a_glob_on_name_or_uri(probed: Path) -> None:
    query = np.ones(432, np.float32)

    def names(pattern: str) -> set[str]:
        hits = search(probed / "out", vector=query, video=pattern, near=None, k=500)
        return {Path(hit.uri).name for hit in hits}

    assert names("a.mp4") == {"a.mp4"}
    assert names("[ab].mp4") == {"a.mp4", "b.mp4"}
    assert names("*/night/*") == {"c.mp4"}
    with pytest.raises(UsageError, match=r"--video z\*: matches none of 3 videos, such as /"):
        names("z*")


def test_results_thin_out_by_time(probed: Path) -> None:
    hits = search(probed / "out", vector=np.ones(432, np.float32), near=None, every_s=1.0, k=500)
    assert len(hits) > 3
    for name in {hit.uri for hit in hits}:
        times = sorted(hit.pts_s for hit in hits if hit.uri == name)
        assert all(b - a >= 1 - 1e-6 for a, b in pairwise(times))


def test_what_a_file_no_longer_is_is_not_found(tmp_path: Path) -> None:
    config = parse_config(PROBE, where="test")
    make(tmp_path / "videos" / "a.mp4", 40)
    run(config, [str(tmp_path / "videos")], tmp_path / "out", engine="local")
    make(tmp_path / "videos" / "a.mp4", 20)
    run(config, [str(tmp_path / "videos")], tmp_path / "out", engine="local")
    hits = search(tmp_path / "out", vector=np.ones(432, np.float32), near=None, k=500)
    assert sorted(hit.frame_index for hit in hits) == list(range(0, 20, 2))


def test_the_frames_written_are_the_frames_found(probed: Path, tmp_path: Path, capsys) -> None:
    Image.new("RGB", (128, 96), (90, 90, 150)).save(tmp_path / "query.png")
    command = ["search", str(probed / "out"), "--image", str(tmp_path / "query.png")]
    command += ["--k", "6", "--every", "0.5s", "--no-merge"]
    command += ["--save-frames", str(tmp_path / "frames"), "--json", str(tmp_path / "hits.json")]
    command += ["--csv", "-", "--contact-sheet", str(tmp_path / "sheet.png")]
    assert invoke(command) == (0, "")
    hits = json.loads((tmp_path / "hits.json").read_text())
    assert len(hits) == 6
    for hit in hits:
        name = f"{hit['rank']:03d}_{Path(hit['uri']).stem}_frame{hit['frame_index']}.png"
        with Image.open(tmp_path / "frames" / name) as picture:
            assert read_index(np.asarray(picture)) == hit["frame_index"]
    assert len(list((tmp_path / "frames").iterdir())) == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 3 * 384
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("rank,score,uri,video_id,frame_index,pts_s,start_frame")
    assert [line.split(",")[2] for line in printed[1:]] == [hit["uri"] for hit in hits]


def test_hits_of_a_video_that_is_gone_are_said_and_the_others_shown(
    probed: Path, tmp_path: Path, capsys
) -> None:
    Image.new("RGB", (128, 96), (90, 90, 150)).save(tmp_path / "query.png")
    command = ["search", str(probed / "out"), "--image", str(tmp_path / "query.png"), "--k", "3"]
    command += ["--every", "30s", "--save-frames", str(tmp_path / "frames")]
    command += ["--frame-format", "jpg", "--contact-sheet", str(tmp_path / "sheet.jpg")]
    gone = probed / "videos" / "b.mp4"
    gone.rename(probed / "away")
    try:
        assert invoke(command) == (3, "")
    finally:
        (probed / "away").rename(gone)
    assert sorted(path.name.split("_")[1] for path in (tmp_path / "frames").iterdir()) == ["a", "c"]
    assert f"video {gone}: No such file or directory (no picture of" in capsys.readouterr().err
    assert (tmp_path / "sheet.jpg").read_bytes()[:2] == b"\xff\xd8"


def _error(*arguments: str) -> str:
    code, line = invoke(["search", *arguments])
    assert code == 2
    assert "\n" not in line
    return line


def test_what_cannot_be_searched_is_one_line(probed: Path, tmp_path: Path) -> None:
    out = str(probed / "out")
    assert "nothing to search for" in _error(out)
    assert "nothing to search for" in _error(out, "  ")
    assert "knows no text; search with --image" in _error(out, "a red circle")
    assert "--image none.png: No such file" in _error(out, "--image", "none.png")
    (tmp_path / "a.png").write_text("no picture")
    assert "not a picture that can be read" in _error(out, "--image", str(tmp_path / "a.png"))
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "b.png")
    picture = ("--image", str(tmp_path / "b.png"))
    assert "--every 5: not a length of time" in _error(out, *picture, "--every", "5")
    assert "no detections to filter by" in _error(out, *picture, "--class", "person")
    assert "no analysis zzz" in _error(out, *picture, "--analysis", "zzz")
    assert "choose png or jpg" in _error(out, *picture, "--frame-format", "gif")
    assert "only one of them" in _error(out, *picture, "--json", "-", "--csv", "-")
    assert "is written as .png or .jpg" in _error(out, *picture, "--contact-sheet", "a.bmp")
    missing = str(tmp_path / "no" / "a.json")
    assert f"--json {missing}: No such file" in _error(out, *picture, "--json", missing)
    assert "no such folder" in _error(str(tmp_path / "nowhere"), "a red circle")


def test_an_output_without_embeddings_says_so(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", 10)
    run(parse_config({}, where="test"), [str(tmp_path / "a.mp4")], tmp_path / "out", engine="local")
    assert "no embeddings to search" in _error(str(tmp_path / "out"), "a red circle")


def test_the_command_merges_as_the_function_does() -> None:
    default = signature(search_command).parameters["near"].default
    assert default == NEAR == signature(search).parameters["near"].default


def test_a_query_of_another_length_is_refused(probed: Path) -> None:
    with pytest.raises(UsageError, match=r"have 432 dimensions, the query has \(5,\)"):
        search(probed / "out", vector=np.ones(5, np.float32))
    with pytest.raises(UsageError, match="--k 0: at least 1"):
        search(probed / "out", vector=np.ones(432, np.float32), k=0)


def test_tables_and_videos_in_a_store_are_searched_as_those_of_a_disk(
    store, probed: Path, tmp_path: Path
) -> None:
    for path in (probed / "videos").rglob("*.mp4"):
        store.put("corpus", f"videos/{path.relative_to(probed / 'videos')}", path)
    output = f"s3://tables/search-{tmp_path.name}"
    config = parse_config({**PROBE, "decode": {"cache_folder": str(tmp_path)}}, where="test")
    run(config, ["s3://corpus/videos"], output, engine="local")
    query = np.random.default_rng(0).random(432).astype(np.float32)
    here, there = (search(out, vector=query, k=15) for out in (probed / "out", output))
    assert [vars(h) | {"uri": ""} for h in there] == [vars(h) | {"uri": ""} for h in here]
    assert there[0].uri.startswith("s3://corpus/videos/")
    (shown,) = read_frames(Ledger(output), there[0].uri, [there[0].frame_index], config.decode)
    assert read_index(shown[1]) == shown[0] == there[0].frame_index
