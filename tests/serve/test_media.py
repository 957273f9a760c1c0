"""Bytes of videos by ranges, of files that are what the tables say."""

from __future__ import annotations

import hashlib
import os

import pytest

from pipeline.config_file import parse_config
from pipeline.runner import run
from tests.serve.clients import client_of, is_plain
from tests.videos import make

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
    os.utime(video)  # Another stamp, the same bytes.
    assert [client.get(path).status_code for path in paths] == [200, 200]
    changes = (
        lambda: video.write_bytes(b"another" + content),
        lambda: os.truncate(video, 2**40),  # Nobody would live to see all of it read.
        video.unlink,
    )
    for change in changes:
        change()
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 410
            assert answer.text == "the file of this video is gone, or has other bytes now\n"
