"""What is refused, with nothing of the machine in it, and who may ask."""

from __future__ import annotations

import socket

import pytest

from pipeline.serve.app import make_app
from tests.serve.clients import client_of, is_plain

NOBODY = "0" * 64

PATHS = [
    "/nothing", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fcli.py",
    "/static/app.py", "/static/", "/media/", "/media/../../etc/passwd",
    "/media/..%2f..%2f..%2fetc%2fpasswd", "/media/%2fetc%2fpasswd", "/media/world.mp4",
    "/media/file:%2f%2f%2fetc%2fpasswd", f"/media/{NOBODY}", f"/media/{NOBODY.upper()}",
    "/media/" + "a" * 5000, "/media/%00", "/api/videos/x", "/favicon.ico",
    f"/api/videos/{NOBODY}", f"/api/videos/{NOBODY}/index", f"/api/videos/{NOBODY}/boxes",
    f"/api/videos/{NOBODY}/timeline", f"/api/videos/{NOBODY}/masks",
    f"/api/videos/{NOBODY}/trackmasks", f"/api/videos/{NOBODY}/frames/0.png",
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
    "videos/{}/masks?start=0&stop=99", "videos/{}/trackmasks?start=0&stop=99",
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
