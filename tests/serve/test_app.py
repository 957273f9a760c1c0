"""The routes: what is answered is what the tables hold."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.ledger.gc import gc
from pipeline.records import Failure
from pipeline.runner import run
from pipeline.serve.app import STATIC
from pipeline.serve.security import HEADERS
from tests.ledger.corpus import open_writer, write_video
from tests.serve.clients import client_of
from tests.serve.conftest import COUNT, STRIDE
from tests.videos import make


def test_the_page_and_all_of_its_parts(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "<script type=" in page.text
    named = set(re.findall(r"/static/([\w.]+)", page.text))
    assert {"main.js", "page.css", "icon.svg"} <= named
    for name in ("main.js", *(path.name for path in STATIC.glob("*.js"))):
        named |= set(re.findall(r"from '\./([\w.]+)'", client.get(f"/static/{name}").text))
    assert {name for name in named if client.get(f"/static/{name}").status_code != 200} == set()
    assert {path.name for path in STATIC.iterdir()} == named | {"index.html"}
    for name, value in HEADERS.items():
        assert page.headers[name] == value
    assert "unsafe" not in page.headers["content-security-policy"]
    assert "access-control-allow-origin" not in page.headers


def test_the_overview_counts_what_the_tables_hold(client, corpus):
    overview = client.get("/api/overview").json()
    assert overview["videos"] == {"ok": 2, "partial": 1, "failed": 1}
    assert overview["frames"] == corpus.ledger.table("frames").num_rows
    assert overview["boxes"] == corpus.ledger.table("detections").num_rows
    assert sum(one["boxes"] for one in overview["classes"]) == overview["boxes"]


def test_videos_are_named_from_their_common_folder(client, corpus):
    videos = client.get("/api/videos").json()["videos"]
    assert [video["name"] for video in videos] == ["noise.mp4", "old.mkv", "part.mkv", "world.mp4"]
    assert [video["status"] for video in videos] == ["failed", "ok", "partial", "ok"]
    assert videos[1]["not_played"] == "browsers do not play mpeg2video in matroska"
    assert videos[3]["not_played"] == ""
    assert client.get("/api/videos?like=ORLD").json()["total"] == 1
    assert client.get("/api/videos?offset=3&limit=5").json()["videos"] == videos[3:]
    assert str(corpus.videos) not in client.get("/api/videos").text


def test_failures_are_all_told(client, corpus):
    told = client.get("/api/failures").json()
    assert told["total"] == corpus.ledger.table("failures").num_rows >= 2
    by_name = {failure["name"]: failure for failure in told["failures"]}
    assert by_name["noise.mp4"]["video_id"] is None
    assert by_name["part.mkv"]["video_id"] == corpus.ids["part.mkv"]
    assert str(corpus.videos) not in client.get("/api/failures").text


def test_failures_come_page_by_page_the_latest_first(tmp_path):
    """Of many commits and of one that gc has made of them; older files are not even opened."""
    with open_writer(tmp_path / "out") as writer:
        write_video(writer, "a", frames=10)
    for number in range(5):
        with open_writer(tmp_path / "out", f"run-{number}") as writer:
            for part in range(4):
                where = f"/videos/{number}{part}.mp4"
                writer.add_failure(Failure(where, "index", "why"))
    client = client_of(tmp_path / "out")

    def shown(offset: int, limit: int) -> list[str]:
        told = client.get("/api/failures", params={"offset": offset, "limit": limit}).json()
        assert told["total"] == 20
        return [failure["name"] for failure in told["failures"]]

    names = [name for at in range(0, 21, 3) for name in shown(at, 3)]
    assert sorted(names) == [f"{number}{part}.mp4" for number in range(5) for part in range(4)]
    assert [name[0] for name in names] == sorted((name[0] for name in names), reverse=True)
    gc(str(tmp_path / "out"), grace_hours=0)
    assert names == [name for at in range(0, 21, 3) for name in shown(at, 3)]


def test_the_index_gives_every_pts_again(client, corpus):
    for name, video_id in corpus.ids.items():
        told = client.get(f"/api/videos/{video_id}/index").json()
        index = corpus.ledger.index(video_id)
        steps = [step for step, often in told["steps"] for _ in range(often)]
        pts = np.cumsum([told["first_pts"], *steps])
        assert pts.tolist() == index.pts.tolist(), name
        assert told["time_base"] == [index.time_base.numerator, index.time_base.denominator]


def test_boxes_are_those_of_the_tables(client, corpus, world):
    told = client.get(f"/api/videos/{world}/boxes?start=10&stop=20").json()
    assert told["sampled"] == list(range(10, 20, STRIDE))
    expected = []
    for frame in told["sampled"]:
        expected += corpus.ledger.frame(world, frame).detections.to_pylist()
    assert len(expected) > 5
    keys = ("frame_index", "x1", "y1", "x2", "y2", "score", "class_id")
    assert told["boxes"] == [[box[key] for key in keys] for box in expected]


def test_the_timeline_has_each_box_once(client, corpus, world):
    told = client.get(f"/api/videos/{world}/timeline?parts=7").json()
    assert told["parts"] == 7
    there = corpus.ledger.table("detections").to_pylist()
    mine = [box for box in there if box["video_id"] == world]
    assert sum(one["boxes"] for one in told["classes"]) == len(mine)
    assert all(len(one["density"]) == 7 for one in told["classes"])
    index = corpus.ledger.index(world)
    assert told["start_s"] == pytest.approx(index.pts_seconds(index.pts[:1])[0])


def test_a_picture_is_that_very_frame(client, corpus):
    for name, frames in {"world.mp4": (0, 1, 33, COUNT - 1), "old.mkv": (0, 17, 29)}.items():
        for frame in frames:
            path = f"/api/videos/{corpus.ids[name]}/frames/{frame}"
            png = client.get(f"{path}.png")
            assert png.headers["content-type"] == "image/png"
            assert read_index(np.asarray(Image.open(io.BytesIO(png.content)))) == frame
            small = Image.open(io.BytesIO(client.get(f"{path}.jpg?width=112").content))
            assert small.width == 112


def test_search_finds_what_is_there(client, corpus):
    assert client.get("/api/searchable").json() == {"on": True, "reason": ""}
    hits = client.get("/api/search", params={"q": "a red circle", "k": 3}).json()["hits"]
    assert 1 <= len(hits) <= 3
    assert all(hit["frame_index"] % STRIDE == 0 for hit in hits)
    assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)
    boxes = corpus.ledger.frame(corpus.ids["world.mp4"], 0).detections.to_pylist()
    name = boxes[0]["class_name"]
    asked = {"q": "anything", "class": name, "min_score": "0.5", "video": "world"}
    filtered = client.get("/api/search", params=asked).json()["hits"]
    assert {hit["name"] for hit in filtered} == {"world.mp4"}
    for hit in filtered:
        boxes = corpus.ledger.frame(hit["video_id"], hit["frame_index"]).detections.to_pylist()
        assert any(box["class_name"] == name and box["score"] >= 0.5 for box in boxes)


def test_without_text_embeddings_search_is_off_and_says_so(tmp_path):
    make(tmp_path / "a.mp4", 12)
    for name, data, why in (
        ("none", {}, "this output has no embeddings"),
        ("probe", {"embedder": {"backend": "probe"}}, "the probe's embeddings know no text"),
    ):
        config = parse_config(data, where="test")
        run(config, [str(tmp_path / "a.mp4")], tmp_path / name, engine="local")
        client = client_of(tmp_path / name)
        state = client.get("/api/searchable").json()
        assert state == {"on": False, "reason": f"search is off: {why}"}
        assert client.get("/api/search?q=cat").status_code == 422
        assert client.get("/api/overview").json()["frames"] == 12
