"""A sample of frames is made again from real small videos and held against real tables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.deep_verify import deep_verify
from pipeline.errors import UsageError
from pipeline.runner import run
from tests.videos import make

PROBE = {"embedder": {"backend": "probe"}, "sampling": {"stride": 2}, "clip": {"length": 8}}
MODELS = {
    "detector": {"backend": "transformers", "model": "builtin:detector", "threshold": 0.05},
    "embedder": {"backend": "clip", "model": "builtin:clip"},
    "sampling": {"stride": 4},
}


def config_of(data: dict[str, object]) -> Config:
    return parse_config(data, where="test")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Videos, one of them without pts of its own, and what the probe made of them."""
    folder = tmp_path_factory.mktemp("deep")
    make(folder / "videos" / "a.mp4", 50, gop=10, b_frames=2)
    make(folder / "videos" / "b.avi", 30, codec="mpeg4", gop=12)
    run(config_of(PROBE), [str(folder / "videos")], folder / "out", engine="local")
    return folder


@pytest.fixture
def output(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made / "out", tmp_path / "out"))


def _update(output: str, table: str, **values: str) -> None:
    DeltaTable(f"{output}/{table}").update(updates=values)


def test_what_is_sound_is_found_so(output: str) -> None:
    report = deep_verify(output, config_of(PROBE), sample=40, seed=1)
    assert report.findings == []
    assert report.passed_over == {}
    assert report.videos == 2
    assert report.frames == report.embeddings > 20
    assert deep_verify(output, sample=10, seed=1).frames > 5


def test_batch_size_and_engine_are_not_part_of_what_is_compared(output: str) -> None:
    other = config_of({**PROBE, "engine": {"workers": 3}, "decode": {"threads": 2}})
    assert deep_verify(output, other, sample=5, seed=1).findings == []


@pytest.mark.parametrize(
    ("table", "values", "said"),
    [
        ("frames", {"pts": "pts + 1"}, "made again"),
        ("frames", {"width": "width + 2"}, "130x96, made again 128x96"),
        ("embeddings", {"embedding": "make_array(1.0, 2.0)"}, "2 dimensions, made again"),
        ("indexes", {"rotation": "90"}, "indexed anew has other rotation"),
    ],
)
def test_rows_that_are_not_the_videos_are_found(output: str, table, values, said) -> None:
    _update(output, table, **values)
    findings = deep_verify(output, config_of(PROBE), sample=6, seed=1).findings
    assert findings
    assert {finding.table for finding in findings} == {table}
    assert all(said in finding.what for finding in findings)


def test_embeddings_of_other_frames_are_found(output: str) -> None:
    """Each row still on its frame, one embedding each: only looking again tells."""
    from pipeline.ledger.verify import verify

    mine = DeltaTable(f"{output}/embeddings").to_pyarrow_table().to_pylist()
    by_frame = {(row["video_id"], row["frame_index"]): row["embedding"] for row in mine}
    video = mine[0]["video_id"]
    wrong = ", ".join(map(str, by_frame[video, 20]))
    DeltaTable(f"{output}/embeddings").update(
        updates={"embedding": f"make_array({wrong})"}, predicate=f"video_id = '{video}'"
    )
    assert verify(output).findings == []
    findings = deep_verify(output, config_of(PROBE), sample=30, seed=2).findings
    assert findings
    assert all("cosine" in finding.what or "length" in finding.what for finding in findings)


def test_files_that_are_gone_or_others_are_passed_over(made: Path, tmp_path: Path) -> None:
    videos = shutil.copytree(made / "videos", tmp_path / "videos")
    output = str(tmp_path / "out")
    run(config_of(PROBE), [str(videos)], output, engine="local")
    os.utime(videos / "a.mp4")  # another stamp, the same bytes
    make(videos / "b.avi", 31, codec="mpeg4", gop=12)
    report = deep_verify(output, config_of(PROBE), sample=40, seed=1)
    assert report.passed_over == {str(videos / "b.avi"): "the file has other bytes now"}
    assert (report.videos, report.findings) == (1, [])
    (videos / "b.avi").unlink()
    report = deep_verify(output, config_of(PROBE), sample=40, seed=1)
    assert report.passed_over == {str(videos / "b.avi"): "No such file or directory"}


def test_other_bytes_under_the_same_size_and_time_are_found(made: Path, tmp_path: Path) -> None:
    video = Path(shutil.copytree(made / "videos", tmp_path / "videos")) / "a.mp4"
    output = str(tmp_path / "out")
    run(config_of(PROBE), [str(video)], output, engine="local")
    status = video.stat()
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(bytes(data))
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    (finding,) = deep_verify(output, config_of(PROBE), sample=3).findings
    assert "has other bytes, though its stamp is the same" in finding.what


def test_another_configuration_is_refused_with_what_differs(output: str) -> None:
    other = config_of({**PROBE, "sampling": {"stride": 3}})
    said = r"its frames is analysis .*sampling: {'stride': 2} there, {'stride': 3} here"
    with pytest.raises(UsageError, match=said):
        deep_verify(output, other)
    both = config_of({**PROBE, "detector": MODELS["detector"]})
    with pytest.raises(UsageError, match=r"no rows of any detector, which the configuration"):
        deep_verify(output, both)


def test_models_make_the_same_again(made: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    config = config_of(MODELS)
    run(config, [str(made / "videos" / "a.mp4")], output, engine="local")
    moved = {"x1": "x1 + 0.7", "x2": "x2 + 0.7"}
    DeltaTable(f"{output}/detections").update(updates=moved, predicate="frame_index < 24")
    report = deep_verify(output, config, sample=20, seed=3)
    assert report.embeddings == report.detections == report.frames > 6
    rows = DeltaTable(f"{output}/detections").to_pyarrow_table()
    looked_at = {finding.frame for finding in report.findings}
    assert looked_at
    assert looked_at <= {frame for frame in rows["frame_index"].to_pylist() if frame < 24}
    assert all("is not among the" in finding.what for finding in report.findings)
