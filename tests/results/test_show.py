"""One frame: what is printed, the JSON, and the picture with its boxes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli import invoke
from pipeline.ledger.reader import Ledger
from pipeline.results.draw import Style, caption, draw_caption, draw_detections
from pipeline.results.pixels import read_frames


def test_show_prints_the_rows_and_writes_the_picture(boxed: Path, tmp_path: Path, capsys) -> None:
    target, figures = tmp_path / "f.png", tmp_path / "f.json"
    out = str(boxed / "out")
    code, error = invoke(["show", out, "demo.mp4", "12", "-o", str(target), "--json", str(figures)])
    assert (code, error) == (0, "")
    said = capsys.readouterr().out
    frame = Ledger(out).frame(f"{boxed}/demo.mp4", 12)
    assert f"video     {boxed}/demo.mp4\n" in said
    assert f"frame     12 at {caption(12, frame.row['pts_s'])[-12:]} (pts" in said
    assert "embedding none\n" in said
    assert f"boxes     {frame.detections.num_rows}\n" in said
    assert said.endswith(f"picture   {target}\n")
    rows = frame.detections.to_pylist()
    for row in rows:
        assert f"{row['class_name']}" in said
        assert f"{row['score']:.3f}{row['x1']:10.2f}{row['y1']:10.2f}" in said

    found = json.loads(figures.read_text())
    assert found["detections"] == rows
    assert found["frame"] == frame.row
    assert (found["uri"], found["embedding_size"]) == (f"{boxed}/demo.mp4", None)

    picture = cv2.imread(str(target))[:, :, ::-1]
    ((_, expected),) = read_frames(Ledger(out), frame.video_id, [12])
    style = Style.of(256, 160)
    draw_detections(expected, rows, style=style)
    draw_caption(expected, caption(12, frame.row["pts_s"]), style)
    np.testing.assert_array_equal(picture, expected)


def test_json_on_standard_output_is_all_there_is(boxed: Path, capsys) -> None:
    assert invoke(["show", str(boxed / "out"), "demo.mp4", "0", "--json", "-"]) == (0, "")
    assert json.loads(capsys.readouterr().out)["frame"]["frame_index"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo.mp4", "1"], "has no frame 1; nearest are 0 and 3"),
        (["demo.mp4", "9" * 20], f"frame index {'9' * 20}: frames count from 0"),
        (["x\udcff.mp4", "1"], r"no video x\udcff.mp4"),
        (["damo.mp4", "1"], "no video damo.mp4; did you mean"),
        (["demo.mp4", "0", "-o", "x.jpg"], "-o x.jpg: give a name that ends in .png"),
        (["demo.mp4", "0", "--json", "no/x.json"], "--json no/x.json: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(boxed: Path, tmp_path: Path, monkeypatch, arguments, said) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = invoke(["show", str(boxed / "out"), *arguments])
    assert code == 2
    assert said in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir())


def test_render_as_it_is_typed(boxed: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "o.mp4"
    arguments = ["render", str(boxed / "out"), "demo.mp4", "-o", str(target), "--end", "6f"]
    assert invoke([*arguments, "--no-masks", "--no-labels", "--min-score", "0.6"]) == (0, "")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"video    {boxed}/demo.mp4"
    assert said[1].startswith("frames   6 (0 to 5), 0.")
    assert said[1].endswith(" s, 256x160")
    assert said[3:] == ["sound    the source has none", f"output   {target}"]
    assert target.stat().st_size > 1000
    code, error = invoke([*arguments, "--between", "some"])
    assert (code, error) == (2, "--between some: choose last or none")
    code, error = invoke([*arguments[:2], "none.mp4", *arguments[3:]])
    assert code == 2
    assert "did you mean" in error
