"""The command: what it prints, refuses and leaves, in every format."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pipeline.cli import invoke
from pipeline.results.export import FORMATS
from tests.ledger.corpus import open_writer


def test_it_says_what_it_wrote(rows: str, target: Path, capsys) -> None:
    code, error = invoke(["export", rows, "--to", "coco", "-o", str(target), "--video", "[ac].mp4"])
    assert (code, error) == (0, "")
    assert capsys.readouterr().out == (
        f"34 frames of 2 videos with 33 boxes and 34 embeddings in {target}\n"
        "1 frames left out, which could not be decoded\n"
    )


WITHOUT_TRACKS = [name for name in FORMATS if name != "mot"]
"""Formats that say something of any output."""

MISTAKES = {
    "--to nothing": "--to nothing: no format known here; there are npy, sqlite, coco",
    "--to npy --pictures jpg": "--pictures jpg: npy holds none; coco, webdataset, rerun do",
    "--to coco --pictures gif": "--pictures gif: give jpg, png or none",
    "--to npy --frames 9": "--frames 9: give START:STOP, as 100:200, 100: or :200",
    "--to npy --seconds a:b": "--seconds a:b: give START:STOP",
    "--to npy --seconds 5:2": "seconds 5.0 to 2.0: the range ends before it begins",
    "--to npy --video d.mp4": "no video d.mp4; did you mean",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_mistakes_are_one_line(rows: str, target: Path, options: str) -> None:
    code, error = invoke(["export", rows, "-o", str(target), *options.split()])
    assert (code, error.count("\n")) == (2, 0)
    assert MISTAKES[options] in error
    assert not target.exists()


@pytest.mark.parametrize("to", WITHOUT_TRACKS)
def test_what_is_there_stays_unless_told(videos: str, target: Path, to: str) -> None:
    target.parent.mkdir()
    target.write_text("mine")
    command = ["export", videos, "--to", to, "-o", str(target)]
    command += ["--pictures", "none"] if FORMATS[to] else []
    code, error = invoke(command)
    assert (code, error.count("\n")) == (2, 0)
    assert "is there already; name another, or give --overwrite" in error
    assert target.read_text() == "mine"
    assert invoke([*command, "--overwrite"]) == (0, "")
    assert target.is_dir() or target.read_bytes() != b"mine"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("to", WITHOUT_TRACKS)
def test_an_output_without_rows(tmp_path: Path, target: Path, to: str) -> None:
    open_writer(tmp_path / "o").__exit__(None, None, None)
    assert invoke(["export", str(tmp_path / "o"), "--to", to, "-o", str(target)]) == (0, "")
    assert target.exists()


def test_without_a_tracker_there_are_no_tracks_to_export(videos: str, target: Path) -> None:
    target.parent.mkdir()
    target.write_text("mine")
    code, error = invoke(["export", videos, "--to", "mot", "-o", str(target), "--overwrite"])
    assert (code, error.count("\n")) == (2, 0)
    assert "no tracks to export; run with a tracker in the configuration" in error
    assert target.read_text() == "mine"


@pytest.mark.parametrize("to", ["coco", "webdataset", "rerun"])
def test_a_video_that_is_gone_is_named_and_nothing_is_left(
    videos: str, tmp_path: Path, target: Path, to: str
) -> None:
    """While the other video is there."""
    output = tmp_path / "copy"
    shutil.copytree(videos, output)
    hidden = Path(videos).parent / "videos" / "b.mp4"
    away = tmp_path / "b.mp4"
    shutil.move(hidden, away)
    try:
        command = ["export", str(output), "--to", to, "-o", str(target), "--pictures", "jpg"]
        code, error = invoke(command)
    finally:
        shutil.move(away, hidden)
    assert code == 1
    assert f"video {hidden}: " in error
    assert list(target.parent.iterdir()) == []


ABSENT = {"lance": ("lance", "pylance"), "rerun": ("rerun", "rerun-sdk")}


@pytest.mark.parametrize("to", ABSENT)
def test_an_absent_library_is_one_line(rows: str, target: Path, to: str, monkeypatch) -> None:
    module, package = ABSENT[to]
    monkeypatch.setitem(sys.modules, module, None)
    code, error = invoke(["export", rows, "--to", to, "-o", str(target)])
    assert (code, error.count("\n")) == (2, 0)
    assert error.endswith(f"needs {package}: pip install {package}")
