"""Each export, read back by the readers of its own ecosystem: the ledger's values."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import Ledger, Where
from pipeline.demo.pattern import read_index
from pipeline.results.export.job import BOX
from tests.results.export.made import boxes_of, counted, frames_of, made, of


def test_npy(rows: str, target: Path) -> None:
    frames = frames_of(rows)
    counts = made(rows, target, "npy")
    assert (counts.videos, counts.frames, counts.embeddings) == (3, 101, 101)
    array = np.load(target / "embeddings.npy", mmap_mode="r")
    assert isinstance(array, np.memmap)
    assert (array.shape, array.dtype) == ((101, 8), np.float32)
    index = pq.read_table(target / "index.parquet").to_pylist()
    assert [row["row"] for row in index] == list(range(101))
    for row, frame in zip(index, frames, strict=True):
        assert (row["video_id"], row["frame_index"]) == (frame.video_id, frame.frame_index)
        assert row["pts_s"] == frame.row["pts_s"]
        assert Ledger(rows).video_id(row["uri"]) == frame.video_id or row["uri"] is None
        assert array[row["row"]].tobytes() == frame.embedding.tobytes()  # type: ignore[union-attr]
    about = json.loads((target / "about.json").read_text())
    assert about["analyses"]["embedder"]["model"] == "b"


def test_sqlite(videos: str, target: Path) -> None:
    frames = frames_of(videos)
    assert of(made(videos, target, "sqlite")) == counted(frames)
    with closing(sqlite3.connect(target)) as database:
        database.row_factory = sqlite3.Row
        assert database.execute("pragma integrity_check").fetchone()[0] == "ok"
        assert database.execute("pragma foreign_key_check").fetchall() == []
        one = (
            "select * from frames join videos using (video) "
            "left join embeddings using (video, frame_index) where video_id = ? and frame_index = ?"
        )
        plan = [row["detail"] for row in database.execute(f"explain query plan {one}", ("", 0))]
        # Two videos are looked through sooner than looked up.
        assert [step for step in plan if "SCAN" in step] in ([], ["SCAN videos"])
        for frame in frames:
            (row,) = database.execute(one, (frame.video_id, frame.frame_index)).fetchall()
            assert np.frombuffer(row["embedding"], "<f4").tolist() == frame.embedding.tolist()  # type: ignore[union-attr]
            assert (row["pts"], row["pts_s"]) == (frame.row["pts"], frame.row["pts_s"])
            boxes = database.execute(
                "select * from boxes where video_id = ? and frame_index = ?",
                (frame.video_id, frame.frame_index),
            ).fetchall()
            found = [{name: row[name] for name in BOX} for row in boxes]
            for box in found:
                box["mask"] = json.loads(box["mask"]) if box["mask"] else None
                box["keypoints"] = json.loads(box["keypoints"]) if box["keypoints"] else None
            assert found == boxes_of(frame)
        plan = database.execute(
            "explain query plan "
            "select * from detections where class_name = 'blue square' and score > 0.5"
        ).fetchall()
        assert "detections_class" in plan[0]["detail"]


def test_coco(videos: str, target: Path) -> None:
    from pycocotools.coco import COCO

    frames = frames_of(videos)
    assert of(made(videos, target, "coco", "png")) == counted(frames)
    coco = COCO(str(target / "annotations.json"))
    assert sorted(coco.getImgIds()) == list(range(1, len(frames) + 1))
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    assert names == {1: "red circle", 2: "blue square"}
    for number, frame in enumerate(frames, 1):
        (image,) = coco.loadImgs(number)
        assert (image["video_id"], image["frame_index"]) == (frame.video_id, frame.frame_index)
        picture = np.asarray(Image.open(target / "images" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3)
        assert read_index(picture) == frame.frame_index
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=number))
        for found, box in zip(annotations, boxes_of(frame), strict=True):
            x, y, width, height = found["bbox"]
            assert (x, y, x + width, y + height) == tuple(box[s] for s in ("x1", "y1", "x2", "y2"))
            assert (found["score"], found["category_id"]) == (box["score"], box["class_id"])
            assert found.get("segmentation") == box["mask"]
            if box["mask"] is not None:
                mask = coco.annToMask(found)
                assert mask.sum() == found["area"] == 12 * 10
                assert mask[int(y) : int(y) + 10, int(x) : int(x) + 12].all()
                assert found["keypoints"][:3] == [box["x1"] + 1, box["y1"] + 1, 2]
                assert found["keypoints"][5] == 0
                assert found["num_keypoints"] == 1
                assert found["keypoint_scores"] == [0.75, 0.0]


def test_coco_is_evaluated(videos: str, target: Path) -> None:
    """The annotations as truth and as results of themselves: a perfect score."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    made(videos, target, "coco")
    assert [p.name for p in target.iterdir()] == ["annotations.json"]
    truth = COCO(str(target / "annotations.json"))
    results = truth.loadRes([dict(one) for one in truth.loadAnns(truth.getAnnIds())])
    for kind, ids in (("bbox", [1, 2]), ("segm", [2])):
        evaluation = COCOeval(truth, results, kind)
        evaluation.params.catIds = ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


def test_webdataset(videos: str, target: Path, monkeypatch) -> None:
    import webdataset

    from pipeline.results.export import webdataset as ours

    monkeypatch.setattr(ours, "SHARD_FRAMES", 20)
    frames = frames_of(videos)
    assert of(made(videos, target, "webdataset", "png")) == counted(frames)
    shards = sorted(str(path) for path in target.glob("*.tar"))
    assert len(shards) == -(-len(frames) // 20)
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    for sample, frame in zip(samples, frames, strict=True):
        about = json.loads(sample["json"])
        assert (about["video_id"], about["frame_index"]) == (frame.video_id, frame.frame_index)
        assert about["boxes"] == boxes_of(frame)
        vector = np.load(io.BytesIO(sample["npy"]))
        assert vector.tobytes() == frame.embedding.tobytes()  # type: ignore[union-attr]
        assert read_index(np.asarray(Image.open(io.BytesIO(sample["png"])))) == frame.frame_index
    made(videos, target.with_name("jpg"), "webdataset", video="b.mp4", frames=(4, 6))
    (sample,) = webdataset.WebDataset(str(target.with_name("jpg") / "frames-000000.tar"))
    assert read_index(np.asarray(Image.open(io.BytesIO(sample["jpg"])))) == 4


def test_lance(videos: str, target: Path) -> None:
    import lance

    frames = frames_of(videos)
    assert of(made(videos, target, "lance")) == counted(frames)
    dataset = lance.dataset(str(target))
    assert str(dataset.schema.field("embedding").type) == "fixed_size_list<item: float>[8]"
    for row, frame in zip(dataset.to_table().to_pylist(), frames, strict=True):
        assert (row["video_id"], row["frame_index"]) == (frame.video_id, frame.frame_index)
        assert row["boxes"] == boxes_of(frame)
        assert row["embedding"] == frame.embedding.tolist()  # type: ignore[union-attr]
        assert Ledger(videos).video_id(row["uri"]) == frame.video_id
    wanted = frames[40]
    near = {"column": "embedding", "q": wanted.embedding, "k": 1}
    nearest = dataset.to_table(
        nearest=near, filter=f"video_id = '{wanted.video_id}'", prefilter=True
    )
    assert nearest.column("frame_index").to_pylist() == [wanted.frame_index]


def test_lance_keeps_frames_without_an_embedding(rows: str, target: Path) -> None:
    import lance

    made(rows, target, "lance", video="c.mp4")
    table = lance.dataset(str(target)).to_table().to_pylist()
    assert [row["frame_index"] for row in table if row["embedding"] is None] == [6]
    assert [row["status"] for row in table if row["embedding"] is None] == ["failed"]


def test_rerun(videos: str, target: Path) -> None:
    from rerun.chunk import RrdReader

    frames = frames_of(videos)
    assert of(made(videos, target, "rerun", "png")) == counted(frames)
    found: dict[tuple[str, int], dict[str, object]] = {}
    for chunk in RrdReader(str(target)).stream().to_chunks():
        video, _, part = str(chunk.entity_path).strip("/").partition("/")
        for row in chunk.to_record_batch().to_pylist():
            if part in ("picture", "boxes", "embedding"):
                found.setdefault((video, row["frame"]), {})[part] = row
    assert len(found) == len(frames)
    uris = Ledger(videos).videos().select(["video_id", "uri"]).to_pylist()
    names = {row["video_id"]: f"{Path(row['uri']).stem}-{row['video_id'][:12]}" for row in uris}
    for frame in frames:
        one = found[names[frame.video_id], frame.frame_index]
        rows = boxes_of(frame)
        boxes = one["boxes"]
        half = boxes.get("Boxes2D:half_sizes") or []
        centers = boxes.get("Boxes2D:centers") or []
        corners = [[c[0] - h[0], c[1] - h[1]] for c, h in zip(centers, half, strict=True)]
        assert corners == [[row["x1"], row["y1"]] for row in rows]
        assert (boxes.get("Boxes2D:labels") or []) == [row["class_name"] for row in rows]
        assert (boxes.get("score") or []) == [row["score"] for row in rows]
        assert boxes["time"].total_seconds() == pytest.approx(frame.row["pts_s"], abs=1e-6)
        assert one["embedding"]["embedding"] == frame.embedding.tolist()  # type: ignore[union-attr]
        (blob,) = one["picture"]["EncodedImage:blob"]
        assert read_index(np.asarray(Image.open(io.BytesIO(bytes(blob))))) == frame.frame_index


def test_only_what_is_asked_for(videos: str, target: Path) -> None:
    where = {"classes": ("blue square",), "min_score": 0.5, "seconds": (0.5, 2.0), "video": "a.mp4"}
    counts = made(videos, target, "sqlite", **where)
    frames = list(Ledger(videos).frames(Where(**where)))  # type: ignore[arg-type]
    assert of(counts) == counted(frames)
    with closing(sqlite3.connect(target)) as database:
        found = database.execute("select frame_index, class_name, pts_s from boxes order by 1")
        boxes = found.fetchall()
    assert [frame for frame, _, _ in boxes] == [frame.frame_index for frame in frames]
    assert {name for _, name, _ in boxes} == {"blue square"}
    assert all(0.5 <= pts_s < 2.0 for _, _, pts_s in boxes)
