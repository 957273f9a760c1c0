"""What the Ledger gives by video, frames, time and class; frames joined with what is theirs."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import Ledger, Where
from pipeline.errors import UsageError
from pipeline.results.joined import join
from pipeline.results.ranges import cuts_of
from tests.ledger.corpus import boxes_of, open_writer, video_id, write_video
from tests.results.reading import made_up


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    return made_up(tmp_path_factory.mktemp("reading") / "o ü")


VIDEOS = st.sampled_from([None, "/videos/a.mp4", "*.mp4", "[bc].mp4", video_id("b")])
BOUNDS = st.none() | st.tuples(st.integers(0, 140), st.none() | st.integers(140, 150))
WHERE = st.builds(
    Where,
    video=VIDEOS,
    frames=BOUNDS,
    seconds=st.none() | st.tuples(st.floats(0, 2), st.none() | st.floats(2, 5)),
    classes=st.sampled_from([(), ("thing",), ("thing", "other"), ("other",)]),
    min_score=st.sampled_from([None, 0.5, 0.6]),
)


def brute(ledger: Ledger, name: str, where: Where) -> list[dict[str, object]]:
    """The rows of a table that match, by looking at each."""
    named = {None: "abc", "*.mp4": "abc", "[bc].mp4": "bc", "/videos/a.mp4": "a"}
    ids = {video_id(v) for v in named.get(where.video, "b")}  # type: ignore[arg-type]

    def inside(value: float, bounds: tuple[float, float | None] | None) -> bool:
        return bounds is None or (value >= bounds[0] and (bounds[1] is None or value < bounds[1]))

    rows = [
        row
        for row in ledger.table(name).to_pylist()
        if row["video_id"] in ids
        and inside(row["frame_index"], where.frames)
        and inside(row["pts_s"], where.seconds)
        and (name != "detections" or not where.classes or row["class_name"] in where.classes)
        and (name != "detections" or row["score"] >= (where.min_score or 0))
    ]
    return sorted(
        rows, key=lambda r: (r["video_id"], r["frame_index"], r.get("detection_index", 0))
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=WHERE, cut=st.sampled_from([3, 16, 50, 4096]))
def test_rows_and_frames_are_those_that_match(output: str, where: Where, cut: int) -> None:
    ledger = Ledger(output)
    boxes = brute(ledger, "detections", where)
    assert ledger.select("detections", where).to_pylist() == boxes
    frames = brute(ledger, "frames", where)
    with_box = {(row["video_id"], row["frame_index"]) for row in boxes}
    if where.about_boxes:
        frames = [f for f in frames if (f["video_id"], f["frame_index"]) in with_box]
    batches = list(join(ledger, where, cut_frames=cut).batches())
    found = [frame for batch in batches for frame in batch]
    assert [frame.row for frame in found] == frames
    assert [row for f in found for row in f.detections.to_pylist()] == boxes
    for frame in found:
        assert {frame.video_id} >= set(frame.detections.column("video_id").to_pylist())
        if frame.row["status"] == "failed":
            assert frame.embedding is None
        else:
            assert frame.embedding is not None
            assert set(frame.embedding.tolist()) == {float(frame.frame_index)}


SHARDS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 200), st.integers(1, 60)), max_size=12
)


@given(shards=SHARDS, most=st.integers(1, 80), data=st.data())
def test_every_key_is_in_exactly_one_cut(shards, most: int, data) -> None:
    """Whatever the shards say of where frames are: rows may have landed that they do not name."""
    ordered = sorted({(video, first): (first + 2 * n - 1, n) for video, first, n in shards}.items())
    cuts = cuts_of([(*key, *rest) for key, rest in ordered], most)
    keys = data.draw(st.lists(st.tuples(st.sampled_from("`abcde"), st.integers(0, 400))))
    rows = pa.table(
        {
            "video_id": pa.array([video for video, _ in keys], pa.string()),
            "frame_index": pa.array([frame for _, frame in keys], pa.int64()),
        }
    )
    found = []
    for cut in cuts:
        expression = cut.expression()
        part = rows if expression is None else rows.filter(expression)
        found += [(row["video_id"], row["frame_index"]) for row in part.to_pylist()]
        assert set(cut.among(list("`abcde"))) >= {
            video for video, _ in found[-part.num_rows :]
        } or (part.num_rows == 0)
    assert sorted(found) == sorted(keys)


def test_cuts_hold_no_more_frames_than_asked(output: str) -> None:
    ledger = Ledger(output)
    for most, fewest in (
        (40, 3),
        (3, 34),
    ):  # Shards have 16 frames: together, or split.
        sizes = [len(batch) for batch in join(ledger, cut_frames=most).batches()]
        assert max(sizes) <= most
        assert sum(sizes) == ledger.table("frames").num_rows == 102
        assert fewest <= len(sizes) <= 2 * fewest


def test_frames_are_what_frame_gives(output: str) -> None:
    ledger = Ledger(output)
    found = list(ledger.frames())
    assert len(found) == ledger.table("frames").num_rows == 25 + 10 + 67
    for frame in found[::7]:
        one = ledger.frame(frame.video_id, frame.frame_index)
        assert one.row == frame.row
        assert one.detections.equals(frame.detections)
        assert frame.detections.num_rows == (
            boxes_of(frame.frame_index) if frame.row["status"] == "ok" else 0
        )
        assert np.array_equal(one.embedding, frame.embedding)  # type: ignore[arg-type]


def test_data_frames(output: str) -> None:
    ledger = Ledger(output)
    where = Where(video="b.mp4", frames=(10, 30))
    arrow = ledger.select("detections", where)
    assert arrow.num_rows == sum(boxes_of(i) for i in range(10, 30, 2))
    assert ledger.polars("detections", where).to_arrow().to_pylist() == arrow.to_pylist()
    pandas = ledger.pandas("detections", where)
    assert pandas["frame_index"].tolist() == arrow.column("frame_index").to_pylist()
    assert pandas["x1"].dtype == np.float32


def test_an_absent_library_is_one_line(output: str, monkeypatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=f"^Ledger.{name} needs {name}: pip install {name}$"):
            getattr(Ledger(output), name)("frames")


def test_mistakes_are_one_line(output: str) -> None:
    ledger = Ledger(output)
    with pytest.raises(UsageError, match="frames 9 to 3: the range ends before it begins"):
        Where(frames=(9, 3))
    with pytest.raises(UsageError, match="table frames cannot be asked for min_score"):
        ledger.select("frames", Where(min_score=0.5))
    with pytest.raises(UsageError, match=r"no video d\.mp4"):
        ledger.select("frames", Where(video="d.mp4"))
    with pytest.raises(UsageError, match=r"no video nothing\*; it has 3 videos"):
        list(ledger.frames(Where(video="nothing*")))


def test_superseded_rows_are_not_joined(tmp_path) -> None:
    output = str(tmp_path / "o")
    with open_writer(output) as writer:
        write_video(writer, "a")
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", frames=10, stamp="2:2", content="a2")
    ledger = Ledger(output)
    assert {frame.video_id for frame in ledger.frames()} == {video_id("a2")}
    assert {f.video_id for f in ledger.frames(Where(video="a.mp4"))} == {video_id("a2")}
    # An id is that of a content, whose rows stay true of it.
    old = Where(video=video_id("a"))
    frames = list(ledger.frames(old))
    assert len(frames) == 25
    assert {frame.video_id for frame in frames} == {video_id("a")}
    for name in ("frames", "detections", "embeddings"):
        rows = ledger.table(name, current=False).to_pylist()
        mine = [row for row in rows if row["video_id"] == video_id("a")]
        assert ledger.select(name, old).to_pylist() == mine
