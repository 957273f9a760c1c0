"""Runs over a bad file between healthy ones, and what the tables have to say of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.runner import run
from pipeline.summary import RunSummary
from tests.videos import make

HEALTHY = {"0-first.mp4": 23, "z-last.mkv": 17}
"""Before and behind the bad ones in the order of a run, with their frames."""


def config_of(**settings: object) -> Config:
    data = {"embedder": {"backend": "probe"}, "clip": {"length": 8}, **settings}
    return parse_config(data, where="test")


@dataclass
class Outcome:
    """What a run over a folder came to."""

    summary: RunSummary
    output: Path

    def rows(self, table: str, path: Path | str | None = None, **wanted: Any) -> list[dict]:
        """Rows of a table, of one file where one is given (by uri or by its video_id)."""
        found = Ledger(self.output).table(table).to_pylist()
        if path is not None:
            key, value = "uri", str(path)
            if found and "uri" not in found[0]:
                key, value = "video_id", self.video(path)["video_id"]
            found = [row for row in found if row[key] == value]
        order = [n for n in ("frame_index", "first_frame", "uri") if found and n in found[0]]
        return sorted(found, key=lambda row: [(row[n] is not None, row[n]) for n in order])

    def video(self, path: Path | str) -> dict:
        (row,) = (r for r in Ledger(self.output).videos().to_pylist() if r["uri"] == str(path))
        return row

    def failed(self, path: Path | str, stage: str, reason: str, attempts: int = 1) -> dict:
        """Assert that the file failed as a whole, and return its failures row."""
        video = self.video(path)
        assert video["status"] == "failed"
        assert reason in video["reason"]
        (failure,) = self.rows("failures", path)
        assert (failure["stage"], failure["attempts"]) == (stage, attempts)
        assert reason in failure["reason"]
        assert failure["first_frame"] is None
        assert failure["last_frame"] is None
        if video["video_id"] is not None:
            assert not self.rows("frames", path)
        return failure

    def whole(self, path: Path | str, frames: int) -> list[dict]:
        """Assert that every frame of the file is there, and return its rows of `frames`."""
        video = self.video(path)
        assert (video["status"], video["reason"]) == ("ok", "")
        assert not self.rows("failures", path)
        return self.has_frames(path, frames)

    def has_frames(self, path: Path | str, frames: int) -> list[dict]:
        found = self.rows("frames", path)
        assert [row["frame_index"] for row in found] == list(range(frames))
        decoded = [row["frame_index"] for row in found if row["status"] == "ok"]
        assert [row["frame_index"] for row in self.rows("embeddings", path)] == decoded
        return found


def run_between(folder: Path, engine: str = "local", **settings: object) -> Outcome:
    """Run over what is in `folder` and healthy videos beside it, which must come out whole."""
    for name, frames in HEALTHY.items():
        if not (folder / name).exists():
            make(folder / name, frames, gop=7, b_frames=2)
    output = folder.parent / f"out-{engine}"
    outcome = Outcome(run(config_of(**settings), [str(folder)], output, engine=engine), output)
    for name, frames in HEALTHY.items():
        outcome.whole(folder / name, frames)
    assert [str(finding) for finding in verify(str(output)).findings] == []
    return outcome
