from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger.books import Books, ShardSets
from pipeline.ledger.keys import KeySet, SortedKeys, key_of, keys_of, order_of
from pipeline.records import Failure, VideoOutcome
from tests.ledger.corpus import (
    DETECTOR,
    EMBEDDER,
    FRAMES,
    feed,
    make_index,
    make_tasks,
    open_writer,
    source_of,
    video_id,
    write_video,
)


def test_no_output_yet(tmp_path) -> None:
    books = Books(str(tmp_path / "none"))
    assert books.known("/videos/a.mp4") is None
    assert books.landed("x", "y") == books.failed("x", "y") == set()
    assert not books.video_done("x", "y")
    assert books.index("x") is None
    assert not (tmp_path / "none").exists()


def test_what_a_run_left(output: str) -> None:
    books = Books(output)
    assert books.known("/videos/a.mp4") == ("1:1", video_id("a"), "ok")
    assert books.known("/videos/c.mp4") == ("1:1", video_id("c"), "partial")
    assert books.known("/videos/d.mp4") is None
    shards = {task.shard.shard_index for task in make_tasks("a")}
    assert len(shards) > 1
    for analysis in (FRAMES, DETECTOR, EMBEDDER):
        assert books.landed(video_id("a"), analysis.fingerprint) == shards
        assert books.video_done(video_id("a"), analysis.fingerprint)
        assert not books.video_done(video_id("d"), analysis.fingerprint)
    assert books.landed(video_id("a"), "unknown") == set()


def test_indexes_come_back_as_they_were(output: str) -> None:
    books = Books(output)
    for name, frames in (("a", 50), ("b", 33), ("c", 20)):
        index, wanted = books.index(video_id(name)), make_index(name, frames)
        assert index is not None
        for field, value in vars(wanted).items():
            assert np.array_equal(getattr(index, field), value), field
        assert index.pts.dtype == index.keyframes.dtype == np.int64
    assert books.index(video_id("nobody")) is None


def test_files_that_a_delete_has_rewritten_are_read_as_well(output: str) -> None:
    from deltalake import DeltaTable

    from pipeline.ledger.reader import Ledger
    from pipeline.ledger.store import Store
    from pipeline.ledger.verify import verify

    for table in ("indexes", "frames", "detections", "embeddings", "shards", "videos"):
        gone = f"video_id = '{video_id('b')}'"
        DeltaTable(Store(output).uri(table)).delete(gone)
    books, ledger = Books(output), Ledger(output)
    assert books.index(video_id("b")) is None
    assert np.array_equal(books.index(video_id("a")).pts, make_index("a").pts)  # type: ignore[union-attr]
    assert books.known("/videos/b.mp4") is None
    assert books.video_done(video_id("a"), EMBEDDER.fingerprint)
    assert ledger.frame("/videos/a.mp4", 10).detections.num_rows == 2
    assert ledger.index("/videos/c.mp4").frame_count == 20
    assert verify(output).findings == []


def test_unfinished_failed_and_changed(tmp_path) -> None:
    output = str(tmp_path / "o")
    tasks = make_tasks("a")
    with open_writer(output) as writer:
        feed(writer, tasks[0])
        for number in (0, 1):
            writer.add_failure(
                Failure(
                    "/videos/a.mp4",
                    "analyze",
                    "boom",
                    video_id=video_id("a"),
                    analysis=DETECTOR.fingerprint,
                    shard_index=number,
                )
            )
        writer.add_failure(Failure("/videos/z.mp4", "index", "no video", stamp="9:9"))
        writer.add_video(VideoOutcome(source_of("z", "9:9"), None, "failed", "no video"))
        writer.add_video(VideoOutcome(source_of("a", "1:1"), make_index("a"), "partial"))
    books = Books(output)
    assert not books.video_done(video_id("a"), DETECTOR.fingerprint)
    assert books.landed(video_id("a"), DETECTOR.fingerprint) == {0}
    assert books.failed(video_id("a"), DETECTOR.fingerprint) == {1}  # 0 has landed since
    assert books.failed(video_id("a"), FRAMES.fingerprint) == set()
    assert books.known("/videos/z.mp4") == ("9:9", None, "failed")
    with open_writer(output, "run-2") as writer:
        write_video(writer, "a", stamp="2:2", content="a2")
    assert Books(output).known("/videos/a.mp4") == ("2:2", video_id("a2"), "ok")


def test_a_video_without_frames_is_done(tmp_path) -> None:
    with open_writer(tmp_path / "o") as writer:
        writer.add_index(make_index("empty", 0))
    assert Books(str(tmp_path / "o")).video_done(video_id("empty"), FRAMES.fingerprint)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), max_size=40))
def test_shard_sets_are_sets(pairs) -> None:
    names = pa.array([video_id(name) for name, _ in pairs], pa.string())
    index = np.array([number for _, number in pairs], np.int32)
    sets = ShardSets(keys_of(names), index, np.full(len(pairs), 3, np.int32))
    for name in "abcdefghi":
        mine = {number for other, number in pairs if other == name}
        assert sets.of(video_id(name)) == mine
        assert sets.complete(video_id(name)) == (len(mine) == 3)


def test_keys_of_one_and_of_many_agree() -> None:
    sums = [video_id(str(i)) for i in range(50)]
    near = [sums[0].upper(), sums[1][:-1], sums[2][:-1] + "g"]
    texts = [*sums, *near, *(f"video {i} ü" for i in range(47))] * 2
    keys = keys_of(pa.chunked_array([texts[:40], texts[40:], pa.array(texts).slice(5, 0)]))
    assert [(int(k["hi"]), int(k["lo"])) for k in keys] == [key_of(text) for text in texts]
    assert np.array_equal(keys_of(texts), keys)
    ordered = SortedKeys(keys[order_of(keys)])
    spans = [ordered.span(key_of(text)) for text in texts]
    assert all(span.stop - span.start == 2 for span in spans)
    assert ordered.find(keys).tolist() == [span.start for span in spans]
    assert ordered.find(keys_of(["other"])).tolist() == [-1]
    assert ordered.starts().tolist() == list(range(0, 200, 2))
    known = KeySet([pa.array(texts)])
    assert texts[3] in known
    assert "other" not in known
    known.add("other")
    assert "other" in known


def test_a_hit_needs_all_128_bits() -> None:
    keys = np.zeros(3, keys_of(pa.array(["x"])).dtype)
    keys["hi"], keys["lo"] = 5, [1, 2, 4]
    ordered = SortedKeys(keys)
    assert ordered.span((5, 2)) == slice(1, 2)
    assert ordered.span((5, 3)).start == ordered.span((5, 3)).stop
    asked = np.array([(5, 4), (5, 3), (5, 1), (5, 9), (4, 1), (6, 1)], keys.dtype)
    assert ordered.find(asked).tolist() == [2, -1, 0, -1, -1, -1]


def test_hashing_is_fast_enough_for_a_million() -> None:
    texts = pa.array([video_id(str(i)) for i in range(20_000)])
    started = time.perf_counter()
    assert keys_of(texts).nbytes == 16 * 20_000
    assert time.perf_counter() - started < 1.0
