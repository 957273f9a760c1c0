"""The routes: what is answered, and what is refused, with nothing of the machine in it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipeline.config import parse_config
from pipeline.demo.pattern import read_index
from pipeline.runner import run
from pipeline.serve.app import STATIC, make_app
from pipeline.serve.security import HEADERS
from tests.serve.conftest import COUNT, STRIDE, Corpus
from tests.videos import make

HERE = "http://127.0.0.1:8000"


def client_of(output: Path, base_url: str = HERE, **settings) -> TestClient:
    settings = {"host": "127.0.0.1", "port": 8000, "token": None} | settings
    return TestClient(make_app(str(output), **settings), base_url, follow_redirects=False)


@pytest.fixture(scope="module")
def client(corpus: Corpus) -> TestClient:
    return client_of(corpus.output)


@pytest.fixture(scope="module")
def world(corpus: Corpus) -> str:
    return corpus.ids["world.mp4"]


def is_plain(answer, corpus: Corpus) -> bool:
    """One line of text that names nothing of this machine."""
    text = answer.text
    hidden = [str(corpus.output), str(corpus.videos), "Traceback", "/tmp", os.sep + "home", ".py"]
    return (
        text.count("\n") == 1
        and answer.headers["content-type"].startswith("text/plain")
        and not any(word in text for word in hidden)
    )


# -- what the page is made of ---------------------------------------------------------


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


# -- one video ------------------------------------------------------------------------


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


# -- bytes of videos ------------------------------------------------------------------


RANGES = [
    ("bytes=0-", 0, None),
    ("bytes=0-0", 0, 1),
    ("bytes=100-199", 100, 200),
    ("bytes=1000-99999999999", 1000, None),
    ("bytes=-50", -50, None),
    ("bytes=-99999999999", 0, None),
]


@pytest.mark.parametrize(("asked", "start", "stop"), RANGES)
def test_ranges_are_those_bytes(client, corpus, world, asked, start, stop):
    whole = (corpus.videos / "world.mp4").read_bytes()
    answer = client.get(f"/media/{world}", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == whole[start:stop]
    first = start if start >= 0 else len(whole) + start
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    "asked", [None, "bytes=5-2", "bytes=0-1,4-5", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=1"]
)
def test_what_is_no_range_is_the_whole(client, corpus, world, asked):
    answer = client.get(f"/media/{world}", headers={"Range": asked} if asked else {})
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == world
    assert answer.headers["accept-ranges"] == "bytes"


def test_what_is_behind_the_end_is_refused(client, corpus, world):
    size = (corpus.videos / "world.mp4").stat().st_size
    for asked in (f"bytes={size}-", "bytes=999999999-", "bytes=-0"):
        answer = client.get(f"/media/{world}", headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert is_plain(answer, corpus)


def test_head_and_if_range(client, corpus, world):
    head = client.head(f"/media/{world}")
    size = (corpus.videos / "world.mp4").stat().st_size
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size)
    same = {"Range": "bytes=0-3", "If-Range": head.headers["etag"]}
    assert client.get(f"/media/{world}", headers=same).status_code == 206
    other = {"Range": "bytes=0-3", "If-Range": '"another"'}
    assert client.get(f"/media/{world}", headers=other).status_code == 200


def test_a_file_that_changed_or_is_gone_is_not_served(tmp_path):
    video = make(tmp_path / "v" / "a.mp4", 12)
    run(parse_config({}, where="test"), [str(video)], tmp_path / "out", engine="local")
    client = client_of(tmp_path / "out")
    video_id = client.get("/api/videos").json()["videos"][0]["video_id"]
    paths = [f"/media/{video_id}", f"/api/videos/{video_id}/frames/3.png"]
    assert [client.get(path).status_code for path in paths] == [200, 200]
    content = video.read_bytes()
    for change in (lambda: video.write_bytes(b"another" + content), video.unlink):
        change()
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 410
            assert answer.text == "the file of this video is gone, or has other bytes now\n"


# -- what is refused ------------------------------------------------------------------

NOBODY = "0" * 64
PATHS = [
    "/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fcli.py",
    "/static/app.py", "/static/", "/media/", "/media/../../etc/passwd",
    "/media/..%2f..%2f..%2fetc%2fpasswd", "/media/%2fetc%2fpasswd", "/media/world.mp4",
    "/media/file:%2f%2f%2fetc%2fpasswd", f"/media/{NOBODY}", f"/media/{NOBODY.upper()}",
    "/media/" + "a" * 5000, "/media/%00", "/api/videos/x", "/favicon.ico",
    f"/api/videos/{NOBODY}", f"/api/videos/{NOBODY}/index", f"/api/videos/{NOBODY}/boxes",
    f"/api/videos/{NOBODY}/timeline", f"/api/videos/{NOBODY}/frames/0.png",
    f"/api/videos/{NOBODY}/frames/0.jpg", "/api/videos/%27%20OR%201=1--/index",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_unknown_paths_and_ids(client, corpus, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert is_plain(answer, corpus)


FRAMES = ["60", "-1", "999999999999", "9" * 5000, "1e3", "0x1", "NaN", "1;ls", "%2e%2e", "①"]


@pytest.mark.parametrize("frame", FRAMES)
def test_unknown_frames(client, corpus, world, frame):
    for ending in ("png", "jpg"):
        answer = client.get(f"/api/videos/{world}/frames/{frame}.{ending}")
        assert answer.status_code == 404
        assert is_plain(answer, corpus)


QUERIES = [
    "search", "search?q=", "search?q=%20", "search?q=" + "a" * 501, "search?q=a%00b",
    "search?q=a%0d%0aX:%20y", "search?q=a&k=0", "search?q=a&k=201", "search?q=a&k=-1",
    "search?q=a&k=1e9", "search?q=a&k=" + "9" * 5000, "search?q=a&min_score=nan",
    "search?q=a&min_score=inf", "search?q=a&min_score=2", "search?q=a&min_score=x",
    "search?q=a&class=nobody", "search?q=a&class=%27%29%20OR%201=1", "search?q=a&video=nowhere",
    "search?q=a&video=../../../etc/*", "search?q=a&video=%5b", "videos?limit=0",
    "videos?limit=501", "videos?offset=-1", "videos?offset=x", "videos?like=%1b%5b2J",
    "failures?limit=1.5", "failures?offset=" + "9" * 30, "videos/{}/boxes?start=x",
    "videos/{}/boxes?start=5&stop=5", "videos/{}/boxes?start=0&stop=99999",
    "videos/{}/timeline?parts=0", "videos/{}/timeline?parts=100000",
    "videos/{}/frames/1.jpg?width=99999", "videos/{}/frames/1.jpg?width=x",
]  # fmt: skip


@pytest.mark.parametrize("asked", QUERIES)
def test_hostile_queries(client, corpus, world, asked):
    answer = client.get("/api/" + asked.format(world))
    assert 400 <= answer.status_code < 500
    assert is_plain(answer, corpus)


def test_a_glob_sees_names_from_the_common_folder_only(client, corpus):
    for pattern in ("*videos*", str(corpus.videos)[:12] + "*", "*some where*"):
        asked = {"q": "anything", "video": pattern}
        assert client.get("/api/search", params=asked).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading(client, corpus, method):
    for path in ("/", "/api/overview", "/nothing"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert is_plain(answer, corpus)
        assert "access-control-allow-origin" not in answer.headers


# -- who may ask ----------------------------------------------------------------------

OTHERS = [
    "evil.com", "evil.com:8000", "127.0.0.1.evil.com", "localhost.evil.com", "192.168.0.1",
    "169.254.169.254", "[fe80::1]:8000", "0.0.0.0", "", "a:b:c", "127.0.0.1@evil.com",
]  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_name_is_refused(client, corpus, name):
    answer = client.get("/api/overview", headers={"Host": name})
    assert answer.status_code == 403
    assert is_plain(answer, corpus)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:9", "127.0.0.1:9000", "[::1]:8000"])
def test_names_of_this_machine(client, name):
    assert client.get("/api/overview", headers={"Host": name}).status_code == 200


def test_other_sites_may_link_and_no_more(client, corpus, world):
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site, "Origin": "http://evil.com"}
        assert client.get("/", headers=headers).status_code == 200
        for path in ("/api/overview", f"/media/{world}", f"/api/videos/{world}/frames/1.png"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 403
            assert is_plain(answer, corpus)


TOKEN = "a-token-of-the-test"


def test_others_need_the_token(corpus, world):
    there = "http://192.168.0.7:8000"
    client = client_of(corpus.output, there, host="0.0.0.0", token=TOKEN)
    wrong = ["", "?token=", "?token=wrong", f"?token={TOKEN}x", "?token=%ff%00", "?token=é"]
    paths = ["/", "/api/overview", f"/media/{world}", "/static/main.js", *("/" + w for w in wrong)]
    paths.append(f"/api/overview?token={TOKEN}")
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 403
        assert is_plain(answer, corpus)
        assert TOKEN not in str(answer.headers)
    for cookie in ("frameledger-8000=wrong", "frameledger-8000", "=;;=", f"other={TOKEN}"):
        assert client.get("/", headers={"Cookie": cookie}).status_code == 403
    entered = client.get(f"/?token={TOKEN}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    for path in ("/", "/api/overview", f"/media/{world}"):
        assert client.get(path).status_code == 200
    evil = {"Host": "evil.com", "Cookie": f"frameledger-8000={TOKEN}"}
    assert client.get("/api/overview", headers=evil).status_code == 403
    own = {"Host": socket.gethostname(), "Cookie": f"frameledger-8000={TOKEN}"}
    assert client.get("/api/overview", headers=own).status_code == 200


def test_no_server_for_others_is_without_a_token(corpus):
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(ValueError, match="needs a token"):
            make_app(str(corpus.output), host=host, port=8000, token=None)
