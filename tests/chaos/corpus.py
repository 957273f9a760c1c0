"""What all rounds share: the videos, the tables of a run without faults, outputs to start from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.schedule import LEFT_OVER, VIDEOS
from tests.videos import make, uneven

CONFIG = Path(__file__).parents[2] / "configs" / "probe.yaml"
FORMS: dict[str, dict[str, Any]] = {
    "a.mp4": {"gop": 60, "b_frames": 2},
    "b.mkv": uneven(VIDEOS["b.mkv"]),
    "c.mp4": {"gop": 30, "rotation": 90},
    "d.ts": {"gop": 15, "b_frames": 2},
    "e.mp4": {"gop": 20},
}


@dataclass
class Corpus:
    """Folders of the corpus, of the tables that are right, and of what partial runs left."""

    folder: Path
    truth: Path
    left: dict[int, Path] = field(default_factory=dict)

    def path(self, video: str) -> str:
        return str(self.folder / video)

    def video_id(self, video: str) -> str:
        return hashlib.sha256((self.folder / video).read_bytes()).hexdigest()

    @property
    def table_bytes(self) -> int:
        """What the tables take on disk."""
        return sum(path.stat().st_size for path in self.truth.rglob("*") if path.is_file())

    @property
    def largest_file(self) -> int:
        return max(path.stat().st_size for path in self.truth.rglob("*.parquet"))


def make_corpus(base: Path) -> Corpus:
    """Write the videos and run them without faults, in this process."""
    from pipeline.config_file import load_config
    from pipeline.runner import run

    corpus = Corpus(base / "videos", base / "truth")
    for name, settings in FORMS.items():
        make(corpus.folder / name, VIDEOS[name], **settings)
    shutil.copyfile(corpus.folder / "e.mp4", corpus.folder / "f.mp4")
    config = load_config(CONFIG)
    summary = run(config, [str(corpus.folder)], corpus.truth, engine="local")
    assert (summary.videos_ok, summary.frames) == (len(VIDEOS) + 1, sum(VIDEOS.values()))
    for count in LEFT_OVER:
        corpus.left[count] = base / f"left-{count}"
        run(config, [str(corpus.folder)], corpus.left[count], engine="local", limit=count)
    return corpus
