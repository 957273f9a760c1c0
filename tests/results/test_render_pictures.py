"""What is rendered: boxes where the rows say, in the colours of the source."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config_file import parse_config
from pipeline.demo.video import write_video
from pipeline.ledger.reader import Ledger
from pipeline.results.boxes import BoxChoice, Boxes
from pipeline.results.colors import class_color
from pipeline.results.draw import Style, scaled_box
from pipeline.results.render import render
from pipeline.runner import run
from tests.results.rendering import decoded


def test_what_plays_it_is_told_what_it_is(made: Path, tmp_path: Path) -> None:
    render(str(made / "out"), f"{made}/videos/b-frames.mp4", str(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (1, 1)
        assert context.has_b_frames == 0
        assert float(container.duration / av.time_base) == pytest.approx(2.0, abs=0.001)
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # faststart


def test_colours_of_the_source_are_kept(tmp_path: Path) -> None:
    frame = np.zeros((96, 128, 3), np.uint8)
    frame[:, :64], frame[:, 64:] = (200, 60, 40), (30, 90, 220)
    write_video(tmp_path / "flat.mp4", [frame] * 8, options={"crf": "4"})
    run(parse_config({}, where="test"), [str(tmp_path)], tmp_path / "out", engine="local")
    render(str(tmp_path / "out"), "flat.mp4", str(tmp_path / "drawn.mp4"))
    seen = decoded(tmp_path / "drawn.mp4")[2][4]
    for x, color in ((20, (200, 60, 40)), (110, (30, 90, 220))):
        assert np.abs(seen[60, x].astype(int) - color).max() <= 6


@pytest.mark.parametrize("between", ["last", "none"])
def test_boxes_are_where_the_rows_say(boxed: Path, tmp_path: Path, between: str) -> None:
    """Colours read back from the decoded mp4, and the picture beside them as the source has it."""
    choice = BoxChoice(masks=False, between=between)
    path = tmp_path / "out.mp4"
    done = render(str(boxed / "out"), "demo.mp4", str(path), choice=choice, labels=False)
    ledger = Ledger(boxed / "out")
    video_id = ledger.index(f"{boxed}/demo.mp4").video_id
    _, _, pictures = decoded(path)
    _, _, plain = decoded(boxed / "demo.mp4")
    line = Style.of(256, 160).line
    looked_at = drawn = 0
    for at, (picture, source) in enumerate(zip(pictures, plain, strict=True)):
        rows = []
        if at % 3 == 0 or between == "last":
            rows = ledger.frame(video_id, at - at % 3).detections.to_pylist()
        drawn += len(rows)
        rim = np.zeros((160, 256), bool)
        for row in rows:
            left, top, right, bottom = scaled_box(row)
            rim[max(0, top) : bottom, max(0, left) : right] = True
        rim[:20, :110] = True  # the caption
        away = np.abs(picture.astype(int) - source).max(axis=2)
        assert away[~_grown(rim)].mean() < 6
        assert np.percentile(away[~_grown(rim)], 99) < 40
        alone = [row for row in rows if not _touches(row, rows)]
        for row in alone:
            left, top, right, bottom = scaled_box(row)
            middle = (top + bottom) // 2, (left + right) // 2
            color = np.array(class_color(row["class_id"]))
            places = {
                (middle[0], left),
                (middle[0], left + line - 1),
                (middle[0], right - 1),
                (middle[0], right - line),
                (top, middle[1]),
                (bottom - 1, middle[1]),
            }
            for y, x in places:
                if 20 <= y < 140 and 0 <= x < 256:
                    # Brightness is kept for each pixel; colours are shared by two by two.
                    assert abs(_luma(picture[y, x]) - _luma(color)) < 30, (at, row, y, x)
                    looked_at += 1
    assert done.boxes == drawn
    assert looked_at > 40


def _luma(rgb: np.ndarray) -> float:
    return float(np.asarray(rgb) @ (0.2126, 0.7152, 0.0722))


def _grown(mask: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)


def _touches(row: dict, rows: list[dict]) -> bool:
    """Whether another box comes near this one."""
    return any(
        other is not row
        and other["x1"] - 4 < row["x2"]
        and row["x1"] < other["x2"] + 4
        and other["y1"] - 4 < row["y2"]
        and row["y1"] < other["y2"] + 4
        for other in rows
    )


def test_classes_and_scores_choose(boxed: Path, tmp_path: Path) -> None:
    ledger = Ledger(boxed / "out")
    rows = ledger.table("detections").to_pylist()
    some = rows[0]["class_name"]
    least = sorted(row["score"] for row in rows)[len(rows) // 2]
    chosen = [row for row in rows if row["class_name"] == some and row["score"] >= least]
    video_id = rows[0]["video_id"]
    boxes = Boxes(ledger, video_id, BoxChoice((some,), least, masks=False, between="none"))
    shown = [row for at in range(30) for row in boxes.on(at)]
    key = ("frame_index", "class_name", "score")
    assert sorted([row[k] for k in key] for row in shown) == sorted(
        [row[k] for k in key] for row in chosen
    )
    done = render(
        str(boxed / "out"), video_id[:12], str(tmp_path / "o.mp4"), choice=BoxChoice(("dog", "ufo"))
    )
    assert done.boxes == 0
    (note,) = done.notes
    assert note.startswith("no boxes of dog, ufo; classes of this video: ")
    assert some in note


def test_boxes_can_be_asked_for_in_any_order(boxed: Path) -> None:
    ledger = Ledger(boxed / "out")
    video_id = ledger.index(f"{boxed}/demo.mp4").video_id
    forward, backward = Boxes(ledger, video_id), Boxes(ledger, video_id)
    rows = [forward.on(at) for at in range(30)]
    assert [backward.on(at) for at in reversed(range(30))] == rows[::-1]
    assert rows[2] == rows[0] != rows[3]
    assert all(row["frame_index"] == at - at % 3 for at in range(30) for row in rows[at])
