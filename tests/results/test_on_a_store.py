"""Videos that lie on a store are rendered and served as those on a disk are."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config_file import parse_config
from pipeline.demo.pattern import read_index
from pipeline.errors import VideoError
from pipeline.ledger.reader import Ledger
from pipeline.results.render import render
from pipeline.runner import run
from tests.object_store import ObjectStore
from tests.serve.clients import client_of
from tests.videos import make

COUNT = 40


@pytest.fixture
def output(store: ObjectStore, tmp_path) -> str:
    """The tables of a video at s3://corpus/results/v.mp4, `v.mp4` beside them."""
    make(tmp_path / "v.mp4", COUNT, gop=10, b_frames=2)
    store.put("corpus", "results/v.mp4", tmp_path / "v.mp4")
    data = {"sampling": {"stride": 4}, "decode": {"cache_folder": str(tmp_path / "cache")}}
    config = parse_config(data, where="test")
    run(config, ["s3://corpus/results/"], tmp_path / "out", engine="local")
    return str(tmp_path / "out")


def test_render(output: str, store: ObjectStore, tmp_path) -> None:
    done = render(output, "v.mp4", str(tmp_path / "o.mp4"), start="5f", end="25f")
    assert done.uri == "s3://corpus/results/v.mp4"
    with av.open(str(tmp_path / "o.mp4")) as made:
        shown = [read_index(frame.to_ndarray(format="rgb24")) for frame in made.decode(video=0)]
    assert shown == list(range(5, 25))
    store.delete("corpus", "results/v.mp4")
    with pytest.raises(VideoError, match=r"video s3://corpus/results/v.mp4: "):
        render(output, "v.mp4", str(tmp_path / "none.mp4"))
    assert not (tmp_path / "none.mp4").exists()


def test_serve(output: str, store: ObjectStore, tmp_path) -> None:
    client = client_of(output)
    (video,) = client.get("/api/videos").json()["videos"]
    assert (video["name"], video["status"]) == ("v.mp4", "ok")
    video_id = Ledger(output).index("s3://corpus/results/v.mp4").video_id
    png = client.get(f"/api/videos/{video_id}/frames/17.png")
    assert read_index(np.asarray(Image.open(io.BytesIO(png.content)))) == 17
    whole = (tmp_path / "v.mp4").read_bytes()
    assert client.get(f"/media/{video_id}").content == whole
    part = client.get(f"/media/{video_id}", headers={"Range": "bytes=100-1999"})
    assert (part.status_code, part.content) == (206, whole[100:2000])
    assert client.head(f"/media/{video_id}").headers["content-length"] == str(len(whole))
    store.delete("corpus", "results/v.mp4")
    for path in (f"/media/{video_id}", f"/api/videos/{video_id}/frames/18.png"):
        answer = client.get(path)
        assert answer.status_code == 410
        assert "s3" not in answer.text
