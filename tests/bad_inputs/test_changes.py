"""Files that may not be read, vanish, or are replaced while a run goes on: case 15."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.analyzers.probe import ProbeEmbedder
from pipeline.engine.collect import Collector
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.bad_inputs.checking import HEALTHY, Outcome, config_of, run_between
from tests.videos import make

CHANGED = "the file changed during the run"


def test_15_permission_denied(folder):
    path = make(folder / "secret.mp4", 9)
    path.chmod(0)
    if os.access(path, os.R_OK):
        # Whoever may read everything: a file that nobody may open.
        path.unlink()
        path.symlink_to("/proc/1/mem" if os.path.exists("/proc/1/mem") else "/dev/null")
        outcome = run_between(folder, links="anywhere")
    else:
        outcome = run_between(folder)
    failure = outcome.rows("failures", path)[0]
    assert outcome.video(path)["status"] == "failed"
    assert failure["attempts"] == 1
    assert failure["reason"]


def test_15_vanished_between_listing_and_index(tmp_path, monkeypatch):
    from pipeline.engine.worker import Decoder

    path = make(tmp_path / "in" / "gone.mp4", 9)
    original = Decoder.index

    def index(self, source):
        if source.uri == str(path):
            path.unlink()
        return original(self, source)

    monkeypatch.setattr(Decoder, "index", index)
    run_between(tmp_path / "in").failed(path, "index", "No such file or directory")


def at_frame(monkeypatch: pytest.MonkeyPatch, when: int, change: Callable[[], object]) -> None:
    """Do something when the embedder is shown its `when`-th clip: in the middle of a decode."""
    seen = []
    original = ProbeEmbedder.analyze

    def analyze(self, frames):
        seen.append(None)
        if len(seen) == when:
            change()
        return original(self, frames)

    monkeypatch.setattr(ProbeEmbedder, "analyze", analyze)


def after_index(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Do something once the first index is kept, before anything of that video is decoded."""
    original = Collector.index
    done = []

    def index(self, found):
        original(self, found)
        if not done:
            done.append(change())

    monkeypatch.setattr(Collector, "index", index)


def overwrite(path: Path, other: Path) -> None:
    """Other bytes in the same file, as `cp other path` does."""
    shutil.copyfile(other, path)


def rename_over(path: Path, other: Path) -> None:
    os.replace(shutil.copy(other, path.with_name("coming")), path)


def remove(path: Path, _other: Path) -> None:
    path.unlink()


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """A video, and another of the same size and length for its place."""
    path = make(tmp_path / "in" / "a.mp4", 200, gop=10)
    other = make(tmp_path / "other.mp4", 200, gop=25)
    size = max(path.stat().st_size, other.stat().st_size)
    for one in (path, other):
        with open(one, "ab") as file:
            free = size + 64 - one.stat().st_size
            file.write(free.to_bytes(4, "big") + b"free" + bytes(free - 8))
    assert path.stat().st_size == other.stat().st_size
    return path, other


@pytest.mark.parametrize("how", [overwrite, rename_over, remove])
@pytest.mark.parametrize("moment", ["after the index", "in the middle"])
def test_15_replaced_during_the_run_is_never_mixed(pair, tmp_path, monkeypatch, how, moment):
    path, other = pair
    for name, frames in HEALTHY.items():
        make(tmp_path / "in" / name, frames, gop=7)
    order = [path, *(tmp_path / "in" / name for name in HEALTHY)]
    with monkeypatch.context() as patch:
        if moment == "after the index":
            after_index(patch, lambda: how(path, other))
        else:
            at_frame(patch, 3, lambda: how(path, other))
        output = tmp_path / "out"
        outcome = Outcome(run(config_of(), map_str(order), output, engine="local"), output)
    video = outcome.video(path)
    assert video["status"] == "failed"
    gone = "No such file or directory"
    assert (gone if how is remove else CHANGED) in video["reason"]
    failures = outcome.rows("failures", path)
    assert {(f["stage"], f["first_frame"], f["last_frame"]) for f in failures} == {
        ("decode", 0, 199)
    }
    assert {f["attempts"] for f in failures} == {1}
    assert not outcome.rows("frames", path)
    for name, frames in HEALTHY.items():
        outcome.whole(tmp_path / "in" / name, frames)
    assert outcome.summary.exit_code == 3
    if how is not remove:
        # The next run takes the new content for what it is.
        outcome = Outcome(run(config_of(), map_str(order), output, engine="local"), output)
        outcome.has_frames(path, 200)
        now = outcome.video(path)
        assert (now["status"], now["video_id"] == video["video_id"]) == ("ok", False)
        assert Ledger(output).table("frames", current=False).num_rows == 200 + sum(HEALTHY.values())


def map_str(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def test_15_replaced_while_it_is_indexed(pair, tmp_path, monkeypatch):
    """Between the packets and the bytes: the id would be another file's."""
    from pipeline.sources import files

    path, other = pair
    original = files.sha256_of

    def replacing(name):
        rename_over(path, other)
        return original(name)

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256_of", replacing)
        output = tmp_path / "out"
        outcome = Outcome(run(config_of(), [str(path)], output, engine="local"), output)
    outcome.failed(path, "index", CHANGED)
    assert not outcome.rows("indexes")
