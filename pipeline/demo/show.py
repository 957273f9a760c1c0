"""`frameledger demo`: the whole product on videos whose content is known, and what it scored."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.demo.corpus import DemoVideo, make_corpus
from pipeline.demo.pattern import read_index
from pipeline.demo.queries import QUERIES
from pipeline.demo.score import Detection, DetectionScore, mean_average_precision, precision_at_k
from pipeline.demo.score_tracks import TrackRow, TrackScore, score_tracks
from pipeline.errors import EXIT_FAILURES, EXIT_OK, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.storage.uris import is_remote

if TYPE_CHECKING:
    from pipeline.demo.world import WorldObject
    from pipeline.results.search import Hit

SEARCHES = ("a red circle", "two blue squares", "a yellow triangle")
K = 10
NEAR = 0.98
"""Cosine from which neighbours are one moment here: objects move from frame to frame, and six
videos of seconds have to show ten moments of each query."""
LEAST_MAP, LEAST_PRECISION = 0.90, 0.90
"""What the shipped models reach on videos that they were not trained on; less is a defect."""
LEAST_HOTA, LEAST_IDF1 = 0.85, 0.90
"""The same of tracks, which are made where the extra `tracks` is installed."""


@dataclass(frozen=True)
class Attribution:
    """Frames whose own index, read from their pixels, is the one in the tables."""

    right: int
    frames: int


def demo(output: str, extra: Sequence[str], engine: str) -> int:
    """Make the videos, run, score, verify, search, and print a report. Returns the exit code.

    Args:
        output: folder for the videos and the tables; tables of an earlier demo are replaced.
        extra: videos of the user's own, run beside the demo's and not scored.
        engine: `ray` or `local`.
    """
    from pipeline.ledger.verify import verify
    from pipeline.progress import choose_progress
    from pipeline.runner import check_output, run

    if engine not in ("ray", "local"):
        raise UsageError(f"--engine {engine}: choose ray or local")
    if is_remote(output):
        raise UsageError(f"output {output}: the demo writes its videos to a local folder")
    folder = Path(check_output(output))
    tables = folder / "tables"
    _clear(folder, tables)
    started = time.perf_counter()
    videos = make_corpus(folder / "videos")
    print(f"made {len(videos)} videos with known content in {time.perf_counter() - started:.1f} s")
    config = with_tracks(demo_config())
    inputs = [str(folder / "videos"), *extra]
    summary = run(
        config,
        inputs,
        tables,
        engine=engine,  # type: ignore[arg-type]
        progress=choose_progress(),
    )
    ledger = Ledger(tables)
    attribution = attribute(videos, ledger, config)
    detection = score_detector(videos, ledger)
    tracks = score_tracker(videos, ledger) if config.tracker is not None else None
    found = Searches(videos, ledger)
    precision = found.mean_precision()
    audit = verify(str(tables))

    from pipeline.report import print_summary

    print("\n--- the run")
    print_summary(summary)
    print("\n--- held against what the videos are known to show")
    share = attribution.right / max(1, attribution.frames)
    print(
        f"frame attribution {share:.0%}: {attribution.right:,} of {attribution.frames:,} frames "
        "carry in their pixels the index of their row"
    )
    print(f"detector          mAP@0.5 {detection.mean:.3f} ({detection.truth_count:,} objects)")
    if tracks is not None:
        print(
            f"tracks            HOTA {tracks.hota:.3f} (detection {tracks.detection:.3f}, "
            f"association {tracks.association:.3f}), IDF1 {tracks.idf1:.3f}"
        )
    print(
        f"text search       precision@{K} {precision:.3f} over {len(QUERIES)} queries, merged into "
        "moments"
    )
    print(f"audit             {'sound' if audit.sound else f'{len(audit.findings)} findings'}")
    print("\n--- three searches")
    for text in SEARCHES:
        print(f"{text!r}")
        for line in found.best(text):
            print(f"    {line}")
    command = _command()
    print("\n--- try next")
    print(f"{command} status {tables}")
    print(f"{command} verify {tables}")
    print(f"{command} search {tables} 'a red circle' --contact-sheet {folder / 'found.png'}")
    print(f"{command} run configs/demo.yaml YOUR_VIDEOS --output {folder / 'mine'}")
    print("(these two models know the demo's coloured shapes only; see configs/coco.yaml)")
    good = (
        share == 1.0
        and detection.mean >= LEAST_MAP
        and precision >= LEAST_PRECISION
        and (tracks is None or (tracks.hota >= LEAST_HOTA and tracks.idf1 >= LEAST_IDF1))
        and audit.sound
        and summary.exit_code == EXIT_OK
    )
    return EXIT_OK if good else EXIT_FAILURES


def _command() -> str:
    """How this process was called, so that the lines shown can be typed as they are."""
    called = Path(sys.argv[0])
    if called.name != "frameledger":
        return "python -m pipeline"
    return "frameledger" if shutil.which("frameledger") == str(called) else os.path.relpath(called)


def demo_config() -> Config:
    """configs/demo.yaml, from the checkout or from inside the installed package."""
    package = Path(__file__).parents[1]
    for folder in (package.parent / "configs", package / "configs"):
        if (folder / "demo.yaml").is_file():
            return load_config(folder / "demo.yaml")
    raise UsageError("configs/demo.yaml is neither in the checkout nor in the installed package")


def with_tracks(config: Config) -> Config:
    """The configuration with a tracker, where its package is installed."""
    from importlib.util import find_spec

    from pipeline.config_trackers import ByteTrackConfig

    if find_spec("trackers") is None:
        return config
    return config.model_copy(update={"tracker": ByteTrackConfig(backend="bytetrack")})


def _clear(folder: Path, tables: Path) -> None:
    """Remove the tables of an earlier demo, and nothing that is not one."""
    if tables.exists():
        if not (tables / "frames" / "_delta_log").is_dir():
            raise UsageError(f"{tables} exists and holds no tables of a demo; choose --output")
        shutil.rmtree(tables)
    folder.mkdir(parents=True, exist_ok=True)


def attribute(videos: Sequence[DemoVideo], ledger: Ledger, config: Config) -> Attribution:
    """Decode every shard as the run does and read each frame's index from its pixels."""
    from pipeline.engine.job import grid_of
    from pipeline.records import ShardEnd
    from pipeline.sources.decode import decode_shard
    from pipeline.sources.discover import discover
    from pipeline.sources.plan import plan_video

    rows = ledger.table("frames", columns=["video_id", "frame_index", "pts"]).to_pylist()
    pts_of = {(row["video_id"], row["frame_index"]): row["pts"] for row in rows}
    right = frames = 0
    for source in discover([str(video.path) for video in videos]):
        index = ledger.index(source.uri)
        for task in plan_video(source, index, grid_of(config)):  # type: ignore[arg-type]
            for clip in decode_shard(task, 1, config.decode, "rgb24"):
                if isinstance(clip, ShardEnd):
                    continue
                for positions, pixels in clip.owned():
                    indices = task.sampled[positions - task.base]
                    for frame_index, picture in zip(indices.tolist(), pixels.data, strict=True):
                        known = pts_of.get((index.video_id, frame_index))
                        same_time = known == index.pts[frame_index]
                        right += same_time and read_index(picture) == frame_index
                        frames += 1
    expected = sum(video.frame_count for video in videos)
    return Attribution(right, max(frames, expected))


def score_detector(videos: Sequence[DemoVideo], ledger: Ledger) -> DetectionScore:
    """mAP at IoU 0.5 of the table `detections`."""
    name_of = _names(videos, ledger)
    predictions: dict[tuple[str, int], list[Detection]] = {
        (video.name, i): [] for video in videos for i in range(video.frame_count)
    }
    columns = ["video_id", "frame_index", "x1", "y1", "x2", "y2", "score", "class_id"]
    for row in ledger.table("detections", columns=columns).to_pylist():
        if row["video_id"] in name_of:
            box = (row["x1"], row["y1"], row["x2"], row["y2"])
            found = Detection(box, row["score"], row["class_id"])
            predictions[name_of[row["video_id"]], row["frame_index"]].append(found)
    truths = {(video.name, i): video.truth(i) for video in videos for i in range(video.frame_count)}
    return mean_average_precision(predictions, truths)


def score_tracker(videos: Sequence[DemoVideo], ledger: Ledger) -> TrackScore:
    """HOTA and IDF1 of the table `tracks`, of the frames in which tracks have a detection."""
    rows: dict[str, dict[int, list[TrackRow]]] = {video.name: {} for video in videos}
    name_of = _names(videos, ledger)
    columns = ["video_id", "frame_index", "track_id", "x1", "y1", "x2", "y2", "state"]
    for row in ledger.table("tracks", columns=columns).to_pylist():
        if row["video_id"] in name_of and row["state"] == "tracked":
            one = TrackRow(row["track_id"], (row["x1"], row["y1"], row["x2"], row["y2"]))
            rows[name_of[row["video_id"]]].setdefault(row["frame_index"], []).append(one)
    truths = ([video.truth(i) for i in range(video.frame_count)] for video in videos)
    return score_tracks(list(zip(truths, rows.values(), strict=True)))


def _names(videos: Sequence[DemoVideo], ledger: Ledger) -> dict[str, str]:
    """File name of each demo video by its video_id."""
    return {ledger.index(str(video.path.resolve())).video_id: video.name for video in videos}


class Searches:
    """Text queries on the demo videos, as `frameledger search` answers them."""

    def __init__(self, videos: Sequence[DemoVideo], ledger: Ledger) -> None:
        from pipeline.analyzers.models import resolve_model
        from pipeline.analyzers.text import text_embeddings

        self._videos = {str(video.path.resolve()): video for video in videos}
        # Beside videos of the user's own.
        self._glob = glob.escape(str(videos[0].path.resolve().parent)) + "/*"
        self._ledger = ledger
        texts = [*(query.text for query in QUERIES), *SEARCHES]
        words = text_embeddings(resolve_model("builtin:clip", None), texts)
        self._words = dict(zip(texts, words, strict=True))

    def mean_precision(self) -> float:
        """Precision at `K`, mean over the demo's queries, of moments by their best frames."""
        each = []
        for query in QUERIES:
            hits = self._search(query.text, K)
            right = [query.holds(self._truth(hit)) for hit in hits]
            each.append(precision_at_k([hit.score for hit in hits], right, K))
        return float(np.mean(each))

    def best(self, text: str) -> list[str]:
        """The best moments, a second apart or more, with what is really in them."""
        lines = []
        for hit in self._search(text, 3, every_s=1.0):
            seen = sorted(o.class_name for o in self._truth(hit) if o.visibility >= 0.4)
            lines.append(
                f"{os.path.basename(hit.uri)} frame {hit.frame_index} ({hit.pts_s:.2f} s), "
                f"similarity {hit.score:.2f}: {', '.join(seen)}"
            )
        return lines

    def _search(self, text: str, k: int, every_s: float = 0.0) -> list[Hit]:
        from pipeline.results.search import search

        vector = self._words[text]
        return search(
            self._ledger, vector=vector, k=k, near=NEAR, every_s=every_s, video=self._glob
        )

    def _truth(self, hit: Hit) -> list[WorldObject]:
        return self._videos[hit.uri].truth(hit.frame_index)
