"""A folder of videos that grows and changes, and what is in it, as whoever changes it knows."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.demo.pattern import draw_index
from pipeline.demo.video import write_video
from tests.year.calendar import Change

WIDTH, HEIGHT = 96, 80
MOST_FRAMES = 26
BEGAN_S = 1.7e9


@dataclass(frozen=True)
class Version:
    """The bytes of a file."""

    video_id: str
    frames: int
    """0 where they are no video."""

    def sampled(self, stride: int) -> int:
        return -(-self.frames // stride)


@dataclass
class Corpus:
    """The folder as it is."""

    folder: Path
    rng: random.Random
    now: dict[str, Version] = field(default_factory=dict)
    """By path."""
    versions: int = 0
    """That were ever made."""
    _at_s: float = BEGAN_S

    def begin(self, day: int) -> None:
        self._at_s = BEGAN_S + 86400 * day

    def apply(self, change: Change) -> None:
        """One change, to a file that is drawn; none where there is none to be had."""
        good = sorted(path for path, version in self.now.items() if version.frames)
        bad = sorted(path for path, version in self.now.items() if not version.frames)
        if change == "add":
            self._write(self._name())
        elif change == "mend" and bad:
            self._write(self.rng.choice(bad))
        elif good and change not in ("add", "mend"):
            self._change(change, self.rng.choice(good), keep=len(good) <= 3)

    def contents(self) -> dict[str, Version]:
        """The videos that are here now, by video_id."""
        return {version.video_id: version for version in self.now.values() if version.frames}

    def _change(self, change: Change, path: str, keep: bool) -> None:
        if change == "change":
            self._write(path)
        elif change == "touch":
            self._stamp(path)
        elif change == "copy":
            copy = self._name(Path(path).suffix)
            Path(copy).write_bytes(Path(path).read_bytes())
            self._stamp(copy)
            self.now[copy] = self.now[path]
        elif change == "rename":
            new = self._name(Path(path).suffix)
            os.rename(path, new)
            self.now[new] = self.now.pop(path)
        elif change == "delete" and not keep:
            os.unlink(path)
            del self.now[path]
        elif change == "break" and not keep:
            data = f"no video {self.rng.random()}".encode()
            Path(path).write_bytes(data)
            self._stamp(path)
            self.now[path] = Version(hashlib.sha256(data).hexdigest(), 0)

    def _name(self, suffix: str = "") -> str:
        suffix = suffix or self.rng.choice((".mp4", ".mp4", ".mkv"))
        name = f"{self.rng.randrange(10**6):06}{suffix}"
        return str(self.folder / self.rng.choice("abc") / name)

    def _write(self, path: str) -> None:
        self.versions += 1
        count = self.rng.randint(4, MOST_FRAMES)
        frames = _frames(count, self.versions)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        settings = {"gop": self.rng.choice((5, 12, 100)), "b_frames": self.rng.choice((0, 2))}
        write_video(Path(path), frames, **settings)
        self._stamp(path)
        video_id = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.now[path] = Version(video_id, count)

    def _stamp(self, path: str) -> None:
        self._at_s += 1
        os.utime(path, (self._at_s, self._at_s))


def _frames(count: int, version: int) -> Iterator[np.ndarray]:
    """Frames that carry their index, in colours of the version's own."""
    colour = (40 + version * 7 % 180, 40 + version // 25 * 11 % 180, 40 + version // 400 * 50 % 180)
    for index in range(count):
        frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        frame[:] = colour
        frame[: HEIGHT // 2, : (index * 3) % WIDTH] = 220
        draw_index(frame, index)
        yield frame
