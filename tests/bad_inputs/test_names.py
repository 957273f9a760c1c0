"""Links and names: cases 13 and 14."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.bad_inputs.checking import config_of, run_between
from tests.videos import make


def test_13_a_loop_of_links_is_gone_through_once(folder):
    path = make(folder / "sub" / "a.mp4", 11)
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "sub" / "here").symlink_to(".")
    (folder / "itself.mp4").symlink_to("itself.mp4")
    outcome = run_between(folder)
    outcome.whole(path, 11)
    outcome.failed(folder / "itself.mp4", "discover", "Too many levels of symbolic links")
    uris = {row["uri"] for row in outcome.rows("videos")}
    assert len(uris) == 4
    assert not any("/up/" in uri or "/here/" in uri for uri in uris)
    everywhere = run_between(folder, links="anywhere")
    assert {row["uri"] for row in everywhere.rows("videos")} == uris


def test_13_a_link_out_of_the_input_is_refused_unless_allowed(folder):
    target = make(folder.parent / "elsewhere" / "b.mp4", 12)
    deeper = make(folder.parent / "elsewhere" / "deep" / "c.mp4", 13)
    (folder / "link.mp4").symlink_to(target)
    (folder / "folder").symlink_to(deeper.parent)
    outcome = run_between(folder)
    for name in ("link.mp4", "folder"):
        reason = f"a link that leads out of {folder}; set links: anywhere"
        outcome.failed(folder / name, "discover", reason)
    assert outcome.summary.exit_code == 3
    # Allowed, it is another matter.
    again = run_between(folder, links="anywhere")
    again.whole(folder / "folder" / "c.mp4", 13)
    again.has_frames(folder / "link.mp4", 12)
    assert again.video(folder / "link.mp4")["status"] == "ok"


def test_13_a_link_that_is_named_itself_is_what_the_user_wants(folder):
    target = make(folder.parent / "elsewhere" / "b.mp4", 12)
    link = folder / "link.mp4"
    link.symlink_to(target)
    summary = run(config_of(), [str(link)], folder.parent / "out", engine="local")
    assert (summary.videos_ok, summary.frames) == (1, 12)


NAMES = (
    "with space.mp4",
    "new\nline.mp4",
    "Ünïcödé 視頻 🎬.mp4",
    "e\u0301 (not composed).mp4",
    "quote'\"`$(id)`.mp4",
    "concat:a|b.mp4",
    "subfile,,start,0,end,10,,:x.mp4",
    "%d-%03d.mp4",
    "[a-z]*?.mp4",
    "-rf.mp4",
    "@list.mp4",
    "\x1b[31mred.mp4",
    "x" * 251 + ".mp4",
)


@pytest.mark.parametrize("name", NAMES)
def test_14_odd_names(folder, name):
    path = make(folder / "a.mp4", 9).rename(folder / name)
    outcome = run_between(folder)
    outcome.whole(path, 9)
    ledger = Ledger(outcome.output)
    assert ledger.frame(str(path), 5).row["frame_index"] == 5
    # Also named by itself.
    alone = folder.parent / "alone"
    assert run(config_of(), [str(path)], alone, engine="local").videos_ok == 1
    assert [row["uri"] for row in Ledger(alone).videos().to_pylist()] == [str(path)]


@pytest.mark.parametrize("backend", ["pyav", "opencv"])
def test_14_a_path_as_long_as_may_be(folder, backend):
    """4,095 bytes are the longest that Linux opens."""
    made = make(folder / "a.mp4", 9)
    deep = folder
    while len(str(deep)) < 3700:
        deep /= "d" * 200
    deep.mkdir(parents=True)
    rest = 4095 - len(str(deep)) - len("//.mp4")
    deep /= "e" * (rest // 2)
    deep.mkdir()
    path = deep / ("f" * (4095 - len(str(deep)) - len("/.mp4")) + ".mp4")
    assert len(str(path)) == 4095
    made.rename(path)
    outcome = run_between(folder, decode={"backend": backend})
    outcome.whole(path, 9)


def test_14_a_path_that_is_too_long(folder):
    deep = folder
    while len(str(deep)) < 3880:  # With less than 201 more: under 4,096, where paths end.
        deep /= "d" * 200
    deep.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(deep)
    try:
        os.mkdir("e" * 250)
    finally:
        os.chdir(here)
    outcome = run_between(folder)
    (failure,) = outcome.rows("failures")
    assert (failure["stage"], failure["reason"]) == ("discover", "folder: File name too long")
    assert outcome.summary.exit_code == 3


def test_14_a_name_cannot_speak_to_the_terminal(folder):
    (folder / "\x1b[2J\nvideos   99 ok.mp4").write_bytes(b"")
    output = str(folder.parent / "out")
    arguments = ["run", "configs/probe.yaml", str(folder), "-o", output, "--engine", "local"]
    said = CliRunner().invoke(app, arguments).output
    assert "\x1b" not in said
    assert "\\x1b[2J\\nvideos   99 ok.mp4: index: not a video" in said
