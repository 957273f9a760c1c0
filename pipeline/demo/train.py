"""Train the demo's models from nothing: `python -m pipeline.demo.train`.

They are trained on frames that the demo world renders, in well under an hour on two cores of a CPU,
and then measured on videos of worlds that no training frame came from. Beside the package's own
dependencies this needs scipy and Pillow, which transformers' loss of RT-DETR uses. The SAM 2 of
`--only tracker` is not shipped: after its training it follows an object for some ten frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from pipeline.demo.corpus import make_corpus
from pipeline.demo.evaluate import MODELS, evaluate_detector, evaluate_search

_EVALUATION_SEEDS = (0, 1)
_MODELS = ("detector", "clip", "tracker")


def main(arguments: list[str] | None = None) -> None:
    """Train and measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Train the demo's detector, CLIP and SAM 2.")
    parser.add_argument("--only", choices=_MODELS, help="one of the models")
    parser.add_argument("--out", type=Path, default=MODELS, help="where the models are saved")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the training")
    asked = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(asked.threads)
    # The tracker is not shipped, and is trained where it is asked for.
    wanted = (asked.only,) if asked.only else _MODELS[:2]
    if "detector" in wanted:
        from pipeline.demo.train_detector import train_detector

        train_detector(asked.out / "detector", _log, steps_scale=asked.steps_scale)
    if "clip" in wanted:
        from pipeline.demo.train_clip import train_clip

        train_clip(asked.out / "clip", _log, steps_scale=asked.steps_scale)
    if "tracker" in wanted:
        from pipeline.demo.evaluate_tracker import measure_tracker
        from pipeline.demo.train_tracker import train_tracker

        # Many small operations, which a second thread makes no faster.
        torch.set_num_threads(1)
        train_tracker(asked.out / "tracker", _log, steps_scale=asked.steps_scale)
        measure_tracker(asked.out / "tracker", _log)
    if asked.only != "tracker":
        measure(asked.out, asked.only)


def measure(models: Path, only: str | None = None) -> None:
    """Print mAP and precision at 10 of the models on held-out encoded videos."""
    for seed in _EVALUATION_SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            videos = make_corpus(Path(folder), seed=seed)
            if only != "clip":
                score = evaluate_detector(models / "detector", videos)
                _log(f"corpus {seed}: mAP@0.5 {score.mean:.3f} over {score.truth_count:,} objects")
            if only != "detector":
                found = evaluate_search(models / "clip", videos)
                mean = sum(found.values()) / len(found)
                worst = sorted(found, key=lambda text: found[text])[:5]
                _log(f"corpus {seed}: precision@10 {mean:.3f} over {len(found)} queries")
                _log("  lowest: " + ", ".join(f"{t} {found[t]:.1f}" for t in worst))


def _log(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


if __name__ == "__main__":
    main()
