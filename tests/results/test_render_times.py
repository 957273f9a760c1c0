"""What is rendered: the source's frames at the source's times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.demo.pattern import read_index
from pipeline.ledger.reader import Ledger
from pipeline.results.render import render, strictly_ascending
from tests.results.rendering import COUNT, FORMS, decoded


@pytest.mark.parametrize("name", FORMS)
def test_every_frame_is_there_at_its_own_time(name: str, made: Path, tmp_path: Path) -> None:
    uri = f"{made}/videos/{name}"
    index = Ledger(made / "out").index(uri)
    done = render(str(made / "out"), uri, str(tmp_path / "out.mp4"))
    unit, pts, pictures = decoded(tmp_path / "out.mp4")
    expected = (index.pts - index.pts[0]) * index.time_base.numerator
    assert unit == Fraction(1, index.time_base.denominator)
    assert pts == expected.tolist()
    assert done.frames == len(pts) == COUNT
    assert [read_index(p[: index.height, : index.width]) for p in pictures] == list(range(COUNT))
    assert pictures[0].shape == (index.height + index.height % 2, index.width + index.width % 2, 3)
    assert done.seconds == pytest.approx(index.duration_s, rel=0.03)


@pytest.mark.parametrize("name", ["b-frames.mp4", "uneven.mp4", "transport.ts", "counted.avi"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_part_has_the_times_that_it_has_in_the_source(
    name: str, keep: bool, made: Path, tmp_path: Path
) -> None:
    index = Ledger(made / "out").index(f"{made}/videos/{name}")
    path = tmp_path / "part.mp4"
    done = render(
        str(made / "out"), f"{made}/videos/{name}", str(path), start="17f", end="41f", keep_pts=keep
    )
    unit, pts, pictures = decoded(path)
    assert [read_index(picture) for picture in pictures] == list(range(17, 41))
    zero = 0 if keep else int(index.pts[17])
    assert [p * unit for p in pts] == [(int(p) - zero) * index.time_base for p in index.pts[17:41]]
    assert (done.first_frame, done.last_frame, done.frames) == (17, 40, 24)


def test_frames_that_share_a_time_are_a_tick_apart() -> None:
    pts = np.array([0, 0, 0, 5, 4, 9], np.int64)
    assert strictly_ascending(pts).tolist() == [0, 1, 2, 5, 6, 9]
    same = np.array([-3, 0, 10], np.int64)
    assert strictly_ascending(same).tolist() == same.tolist()


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0:00:01", 30),
        ("00:01.0", 30),
        ("1", 30),
        ("1.03", 31),
        ("1.033", 31),
        ("1.034", 32),
        ("31f", 31),
        (".5", 15),
        ("-1", 0),
    ],
)
def test_points_in_time(made: Path, tmp_path: Path, text: str, first: int) -> None:
    from pipeline.results.span import frame_range

    index = Ledger(made / "out").index(f"{made}/videos/plain.mp4")
    assert frame_range(index, text, None) == (first, COUNT)
