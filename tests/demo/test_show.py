"""`frameledger demo` as a user runs it, what the README does with it next, and that it can fail."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import av
import pytest

from pipeline.cli import invoke
from pipeline.config_trackers import OCSortConfig
from pipeline.demo.corpus import make_corpus
from pipeline.demo.pattern import read_index
from pipeline.demo.show import (
    LEAST_HOTA,
    LEAST_IDF1,
    attribute,
    demo,
    demo_config,
    score_tracker,
)
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.runner import run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, str]:
    """A folder in which `demo-output` is what `make demo` makes, and what that printed."""
    folder, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with redirect_stdout(printed):
        assert demo(str(folder / "demo-output"), [], "local") == 0
    return folder, printed.getvalue()


def test_the_demo_reaches_its_targets(made):
    _, printed = made
    assert "frame attribution 100%: 702 of 702" in printed
    assert "audit             sound" in printed
    assert "'two blue squares'" in printed
    hota, idf1 = re.findall(r"^tracks +HOTA (0\.\d+) .* IDF1 (0\.\d+)$", printed, re.MULTILINE)[0]
    assert float(hota) >= 0.85
    assert float(idf1) >= 0.90


def test_oc_sort_reaches_them_too(made):
    folder, _ = made
    tables, videos = folder / "demo-output" / "tables", folder / "demo-output" / "videos"
    tracker = OCSortConfig(backend="ocsort", direction_weight=0.0)
    # A copy: what is made with the demo's own is read on.
    output = shutil.copytree(tables, folder / "ocsort")
    chosen = demo_config().model_copy(update={"tracker": tracker})
    assert run(chosen, [str(videos)], output, engine="local").rows.keys() == {"tracks"}
    # Made elsewhere: Matroska's ids are random, and the demo's own file would be another.
    worlds = make_corpus(folder / "anew")
    score = score_tracker([replace(w, path=videos / w.name) for w in worlds], Ledger(output))
    assert score.hota >= LEAST_HOTA
    assert score.idf1 >= LEAST_IDF1


def test_the_readme_goes_from_the_demo_to_a_clip_and_a_query(made, monkeypatch, capsys):
    folder, _ = made
    monkeypatch.chdir(folder)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## From the demo to a clip and a query\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    demo_line, activate, *lines = block.splitlines()
    assert (demo_line, activate) == ("make demo", ". .venv/bin/activate")
    assert "frameledger demo --output demo-output\n" in (ROOT / "Makefile").read_text()
    printed = {}
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "frameledger"
        assert invoke([command, *arguments]) == (0, ""), line
        printed[command] = capsys.readouterr().out
    assert list(printed) == ["search", "show", "render", "sql"]
    assert len(printed["search"].splitlines()) == 1 + 3
    ledger = Ledger("demo-output/tables")
    video = str(folder / "demo-output" / "videos" / "b-frames.mp4")
    index = ledger.index(video)
    pictures = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    assert set(pictures) == {"found.png", "frame.png"}
    seconds = index.pts_seconds(index.pts)
    wanted = [at for at, time_s in enumerate(seconds) if 1 <= time_s < 3]
    with av.open("clip.mp4") as clip:
        shown = [read_index(frame.to_ndarray(format="rgb24")) for frame in clip.decode(video=0)]
    assert shown == wanted
    rows = ledger.table("detections").to_pylist()
    circles = [r for r in rows if r["class_name"] == "red circle" and r["score"] > 0.8]
    found = {line.split()[0]: line.split()[1:] for line in printed["sql"].splitlines()[2:-1]}
    mine = [row["frame_index"] for row in circles if row["video_id"] == index.video_id]
    assert sum(int(boxes) for _, boxes in found.values()) == len(circles) > 0
    if mine:
        assert found[video] == [str(max(mine)), str(len(mine))]


def test_a_frame_at_another_place_lowers_the_attribution(tmp_path):
    """The check reads pixels: tables of other videos do not satisfy it."""
    videos = make_corpus(tmp_path / "videos")[:1]
    config = demo_config().model_copy(update={"detector": None, "embedder": None})
    run(config, [str(videos[0].path)], tmp_path / "out", engine="local")
    assert attribute(videos, Ledger(tmp_path / "out"), config).right == 120
    import deltalake

    table = deltalake.DeltaTable(str(tmp_path / "out" / "frames"))
    table.update(updates={"pts": "pts + 1"}, predicate="frame_index = 5")
    assert attribute(videos, Ledger(tmp_path / "out"), config).right == 119


def test_a_folder_that_is_no_demos_is_not_cleared(tmp_path):
    (tmp_path / "out" / "tables").mkdir(parents=True)
    precious = tmp_path / "out" / "tables" / "precious.txt"
    precious.write_text("mine")
    with pytest.raises(UsageError, match="holds no tables of a demo"):
        demo(str(tmp_path / "out"), [], "local")
    assert precious.read_text() == "mine"
