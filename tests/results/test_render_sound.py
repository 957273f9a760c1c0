"""The sound is copied beside what is rendered."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from pipeline.config_file import parse_config
from pipeline.ledger.reader import Ledger
from pipeline.results.render import render
from pipeline.runner import run
from tests.results.sound import packets_of, with_sound


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_sound_is_copied_as_it_is(ending: str, made: Path, tmp_path: Path) -> None:
    source = with_sound(tmp_path / f"sound.{ending}", made / "videos" / "b-frames.mp4")
    output = tmp_path / "out"
    run(
        parse_config({"sampling": {"stride": 30}}, where="test"),
        [str(source)],
        output,
        engine="local",
    )
    done = render(str(output), str(source), str(tmp_path / "all.mp4"))
    assert done.audio == "copied (aac)"
    before, after = packets_of(source), packets_of(tmp_path / "all.mp4")
    index = Ledger(output).index(str(source))
    zero = float(index.pts[0] * index.time_base)
    header = 7 if ending == "ts" else 0  # of ADTS, which an mp4 has not
    assert [data[header:] for _, data in before] == [data for _, data in after]
    assert [t - zero for t, _ in before] == pytest.approx([t for t, _ in after], abs=0.001)
    render(str(output), str(source), str(tmp_path / "part.mp4"), start="15f", end="45f")
    part = packets_of(tmp_path / "part.mp4")
    start = float(index.pts_seconds(index.pts[15:16])[0])
    wanted = [(t, d) for t, d in before if start <= t < start + 1]
    assert [d[header:] for _, d in wanted] == [d for _, d in part]
    assert [t - start for t, _ in wanted] == pytest.approx([t for t, _ in part], abs=0.001)


def test_sound_without_a_place_in_an_mp4_is_left_out(made: Path, tmp_path: Path) -> None:
    source = with_sound(tmp_path / "s.mov", made / "videos" / "plain.mp4", codec="pcm_mulaw")
    run(parse_config({}, where="test"), [str(source)], tmp_path / "out", engine="local")
    done = render(str(tmp_path / "out"), "s.mov", str(tmp_path / "o.mp4"))
    assert done.audio == "left out: pcm_mulaw has no place in an mp4"
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert len(container.streams.audio) == 0
