"""Both engines on small videos: equal tables, nothing twice, failures as rows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.videos import make, uneven


def probe(**settings: object) -> Config:
    data = {"embedder": {"backend": "probe"}, "clip": {"length": 8}, **settings}
    return parse_config(data, where="test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    make(folder / "a.mp4", 60, gop=10, b_frames=2)
    make(folder / "b.mkv", 35, **uneven(35))
    make(folder / "sub" / "c.mp4", 20, gop=5, rotation=90)
    return folder


def rows(output: Path, table: str) -> pa.Table:
    """All rows of a table in a fixed order, without what differs from run to run."""
    found = Ledger(output).table(table)
    found = found.drop_columns([c for c in ("run_id", "recorded_at") if c in found.column_names])
    keys = [k for k in ("uri", "video_id", "analysis", "frame_index") if k in found.column_names]
    return found.sort_by([(key, "ascending") for key in keys])


def assert_equal_tables(one: Path, other: Path) -> None:
    for table in ("videos", "frames", "embeddings", "failures"):
        assert rows(one, table).equals(rows(other, table)), table


@pytest.fixture(scope="module")
def local_output(corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("local") / "out"
    summary = run(probe(), [str(corpus)], output, engine="local")
    assert (summary.videos_ok, summary.frames, summary.exit_code) == (3, 115, 0)
    return output


@pytest.mark.parametrize("placement", ["fused", "split"])
def test_ray_gives_the_tables_of_the_local_engine(
    ray_here, corpus, local_output, tmp_path, placement
):
    config = probe(engine={"placement": placement})
    summary = run(config, [str(corpus)], tmp_path / "out", engine="ray")
    assert summary.placement == placement
    assert summary.frames == 115
    assert_equal_tables(local_output, tmp_path / "out")
    assert verify(str(tmp_path / "out")).sound
    # The caller's Ray is left as it was.
    assert ray_here.is_initialized()


def test_a_second_run_does_nothing(corpus, local_output):
    before = {p: p.stat().st_mtime_ns for p in local_output.rglob("*") if p.is_file()}
    summary = run(probe(), [str(corpus)], local_output, engine="local")
    assert summary.did_nothing
    assert summary.videos_done_before == 3
    assert before == {p: p.stat().st_mtime_ns for p in local_output.rglob("*") if p.is_file()}


@pytest.mark.parametrize("length", [1, 7, 32, 1000])
@pytest.mark.parametrize("stride", [1, 4, 30])
def test_values_do_not_depend_on_clips_or_stride(corpus, local_output, tmp_path, length, stride):
    config = probe(clip={"length": length}, sampling={"stride": stride})
    run(config, [str(corpus)], tmp_path / "out", engine="local")
    whole, some = Ledger(local_output), Ledger(tmp_path / "out")
    columns = ["video_id", "frame_index", "pts_s", "embedding"]
    known = {
        (r["video_id"], r["frame_index"]): r for r in whole.table("embeddings", columns).to_pylist()
    }
    found = some.table("embeddings", columns).to_pylist()
    assert len(found) == sum(-(-n // stride) for n in (60, 35, 20))
    for row in found:
        assert row == known[row["video_id"], row["frame_index"]]


def test_a_bad_file_is_a_row_and_the_rest_completes(corpus, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    summary = run(probe(), [str(corpus), str(bad)], tmp_path / "out", engine="local")
    assert (summary.videos_ok, summary.videos_failed, summary.exit_code) == (3, 1, 3)
    ledger = Ledger(tmp_path / "out")
    (failure,) = ledger.table("failures").to_pylist()
    assert failure["uri"] == str(bad)
    assert failure["stage"] == "index"
    assert "not a video" in failure["reason"]
    states = {row["uri"]: row["status"] for row in ledger.videos().to_pylist()}
    assert states[str(bad)] == "failed"
    # The next run leaves it alone and says so; asked to, it tries again.
    again = run(probe(), [str(corpus), str(bad)], tmp_path / "out", engine="local")
    assert (again.did_nothing, again.videos_failed_before, again.exit_code) == (True, 1, 3)
    make(bad, 10)
    mended = run(probe(), [str(corpus), str(bad)], tmp_path / "out", engine="local")
    assert (mended.videos_ok, mended.exit_code) == (1, 0)
    assert verify(str(tmp_path / "out")).sound


def test_the_same_bytes_under_two_names_are_processed_once(corpus, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((corpus / "a.mp4").read_bytes())
    inputs = [str(corpus / "a.mp4"), str(copy)]
    summary = run(probe(), inputs, tmp_path / "out", engine="local")
    assert (summary.videos_ok, summary.frames) == (2, 60)
    ledger = Ledger(tmp_path / "out")
    assert ledger.videos().num_rows == 2
    assert ledger.frame(str(copy), 7).embedding is not None
    # A third name in a later run is known by its bytes.
    third = tmp_path / "third.mp4"
    third.write_bytes(copy.read_bytes())
    later = run(probe(), [str(third)], tmp_path / "out", engine="local")
    assert (later.videos_ok, later.frames) == (1, 0)


def test_a_changed_file_is_processed_anew_and_readers_see_the_new(tmp_path):
    path = make(tmp_path / "v" / "a.mp4", 20)
    run(probe(), [str(path)], tmp_path / "out", engine="local")
    make(path, 30)
    summary = run(probe(), [str(path)], tmp_path / "out", engine="local")
    assert summary.frames == 30
    assert Ledger(tmp_path / "out").table("frames").num_rows == 30
    assert Ledger(tmp_path / "out").table("frames", current=False).num_rows == 50


def test_another_sampling_is_another_analysis(corpus, tmp_path):
    run(probe(), [str(corpus)], tmp_path / "out", engine="local")
    run(probe(sampling={"stride": 5}), [str(corpus)], tmp_path / "out", engine="local")
    ledger = Ledger(tmp_path / "out")
    assert ledger.table("frames").num_rows == 12 + 7 + 4
    assert verify(str(tmp_path / "out")).sound


def test_readers_see_what_the_last_run_wanted(corpus, tmp_path):
    output = tmp_path / "out"
    counts = {}
    for stride in (1, 5, 1, 5):
        run(probe(sampling={"stride": stride}), [str(corpus)], output, engine="local")
        counts.setdefault(stride, Ledger(output).table("frames").num_rows)
        assert Ledger(output).table("frames").num_rows == counts[stride]
        assert Ledger(output).table("embeddings").num_rows == counts[stride]
    assert counts[1] > 4 * counts[5]


def test_a_name_that_stays_broken_is_recorded_once(tmp_path):
    make(tmp_path / "v" / "a.mp4", 10)
    (tmp_path / "v" / "b.mp4").symlink_to("nowhere")
    os.mkfifo(tmp_path / "v" / "c.mp4")
    for _ in range(2):
        summary = run(probe(), [str(tmp_path / "v")], tmp_path / "out", engine="local")
        assert summary.exit_code == 3
    ledger = Ledger(tmp_path / "out")
    assert (summary.videos_failed_before, summary.videos_done_before) == (2, 1)
    assert ledger.table("failures").num_rows == 2
    assert ledger.table("videos").num_rows == 3


def test_frames_only(corpus, tmp_path):
    summary = run(parse_config({}, where="t"), [str(corpus)], tmp_path / "out", engine="local")
    assert summary.rows == {"frames": 115}


def test_a_limit_takes_so_many_and_the_next_run_the_rest(corpus, tmp_path):
    first = run(probe(), [str(corpus)], tmp_path / "out", engine="local", limit=1)
    assert first.videos_ok == 1
    rest = run(probe(), [str(corpus)], tmp_path / "out", engine="local")
    assert (rest.videos_ok, rest.videos_done_before) == (2, 1)
    assert_whole(tmp_path / "out", 115)


def assert_whole(output: Path, frames: int) -> None:
    assert verify(str(output)).sound
    assert Ledger(output).table("frames").num_rows == frames
    assert Ledger(output).table("embeddings").num_rows == frames


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("long") / "long.mp4", 4200, gop=60)


@pytest.mark.parametrize("placement", ["fused", "split"])
def test_shards_of_one_video_are_worked_at_once(ray_here, long, tmp_path, placement):
    config = probe(engine={"placement": placement}, clip={"length": 32})
    summary = run(config, [str(long)], tmp_path / "out", engine="ray")
    assert (summary.shards, summary.videos_ok) == (5, 1)
    assert_whole(tmp_path / "out", 4200)


def test_bytes_in_flight_stay_under_the_cap(ray_here, corpus, tmp_path):
    cap = 3 * 128 * 96 * 3 * 8 * 2
    config = probe(engine={"placement": "split"}, memory={"in_flight": cap})
    summary = run(config, [str(corpus)], tmp_path / "out", engine="ray")
    assert summary.videos_ok == 3
    assert 0 < summary.peak_in_flight_bytes <= cap


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_an_empty_folder_is_an_error(tmp_path, engine):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no videos in"):
        run(probe(), [str(tmp_path / "empty")], tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


def test_embeddings_of_real_videos_equal_a_plain_decode(real_video, tmp_path):
    """Ten frames at random: the row's embedding is that of the frame at its place."""
    import av

    from pipeline.analyzers.frames import FrameBatch
    from pipeline.analyzers.probe import ProbeEmbedder
    from pipeline.clip_pixels import Pixels

    run(probe(), [str(real_video)], tmp_path / "out", engine="local")
    ledger = Ledger(tmp_path / "out")
    with av.open(str(real_video)) as container:
        stream = container.streams.best("video")
        plain = [(f.pts, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    table = ledger.table("frames").sort_by("frame_index").to_pylist()
    assert [row["pts"] for row in table] == [pts for pts, _ in plain]
    assert {(row["width"], row["height"]) for row in table} == {plain[0][1].shape[1::-1]}
    for frame_index in np.random.default_rng(0).choice(len(plain), 10, replace=False):
        rgb = plain[frame_index][1]
        pixels = Pixels(rgb[None], "rgb24", rgb.shape[1], rgb.shape[0])
        expected = np.array(ProbeEmbedder().analyze(FrameBatch(pixels))["embedding"][0].as_py())
        found = ledger.frame(str(real_video), int(frame_index)).embedding
        cosine = expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)
        assert cosine >= 0.9999


def test_values_of_real_videos_do_not_depend_on_clips_or_stride(real_video, tmp_path):
    import itertools

    def embeddings(name: str, **settings: object) -> dict[int, list[float]]:
        run(probe(**settings), [str(real_video)], tmp_path / name, engine="local")
        found = Ledger(tmp_path / name).table("embeddings", ["frame_index", "embedding"])
        return dict(zip(*found.to_pydict().values(), strict=True))

    whole = embeddings("whole")
    for length, stride in itertools.product([1, 7, 32, 1000], [1, 4, 30]):
        clip, sampling = {"length": length}, {"stride": stride}
        some = embeddings(f"{length}-{stride}", clip=clip, sampling=sampling)
        assert list(some) == list(range(0, len(whole), stride))
        assert all(whole[frame] == value for frame, value in some.items())
