"""Full-size models in the pipeline against the same model in a tight loop on ready tensors.

    python -m benchmarks.models [--device cuda] [--only CLIP] [--json FILE] [--keep NAME]

On a CPU two rows; on a GPU all of them, in bf16, with what the GPU says of itself. Needs no Ray.
Models whose library is missing are left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.analyzing import Fed, InRun, fed, in_run, tight_loop
from benchmarks.full_size import MODELS, FullSize
from benchmarks.machine import machine
from benchmarks.measure import markdown
from benchmarks.videos import demo_video, repeated

if TYPE_CHECKING:
    from pipeline.config import Config

WORK = Path("bench-output")
RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
FPS = 30
BASE_FRAMES = 256
"""Of the demo video; longer ones repeat it."""
WARM_S, FED_S = 1.0, 4.0


@dataclass(frozen=True)
class Row:
    """What is measured. In the pipeline and in the tight loop the same batch is used."""

    model: str
    """A key of `full_size.MODELS`."""
    height: int
    """Of the video, 16:9."""
    precision: str
    batch: int
    clip: int
    """Sampled frames in a clip."""
    frames: int
    """Sampled frames in one measurement."""

    def shortened(self, frames: int) -> Row:
        """The same with at most so many frames, in full batches where that can be."""
        frames = min(frames, self.frames)
        return replace(
            self, frames=frames, batch=min(self.batch, frames), clip=min(self.clip, frames)
        )


@dataclass(frozen=True)
class Result:
    """A row's figures, in frames per second."""

    row: Row
    single: float
    """In a run, frame by frame."""
    run: InRun
    ceiling: float
    """The tight loop."""
    fed: Fed | None
    """None where the models share the CPUs with the decoder."""

    @property
    def share(self) -> float:
        return self.run.rate / self.ceiling

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}


def rows_for(device: str, *, every: bool = False) -> list[Row]:
    """What is worth measuring on a device, or everything that would be on a GPU."""
    if device == "cpu" and not every:
        return [
            Row("CLIP ViT-B/32", 720, "fp32", batch=8, clip=8, frames=128),
            Row("Faster R-CNN R50-FPN (Detectron2)", 720, "fp32", batch=8, clip=8, frames=16),
        ]
    rows = []
    for model in MODELS:
        for height in (720, 1080):
            if model.startswith("CLIP"):
                rows.append(Row(model, height, "bf16", batch=64, clip=64, frames=1024))
            else:
                rows.append(Row(model, height, "bf16", batch=8, clip=32, frames=256))
    return rows


def measure(
    row: Row, model: FullSize, work: Path, device: str, *, rounds: int, feed: bool
) -> Result:
    """The best of some rounds, each of which runs both contestants, so that noise meets both."""
    output = work / "out-models"
    video, frames = video_for(row, work)
    stride = frames // row.frames
    # First: the copy of the model for the tight loop would be counted to its memory.
    by_hand = None
    if feed:
        warm_s, seconds = (WARM_S, FED_S) if device != "cpu" else (0.0, 0.0)
        by_hand = fed(config_for(row, model, device), video, output, warm_s=warm_s, seconds=seconds)
    forward = model.ready(row.batch, row.height, row.height * 16 // 9, device)
    every = config_for(row, model, device, stride=stride)
    runs, ceilings = [], []
    for _ in range(rounds):
        runs.append(in_run(every, video, output))
        ceilings.append(tight_loop(forward, row.frames, row.batch, row.precision, device))
    single = in_run(config_for(replace(row, batch=1), model, device, stride=stride), video, output)
    best = max(runs, key=lambda run: run.rate)
    return Result(row, single.rate, best, max(ceilings), by_hand)


def config_for(row: Row, model: FullSize, device: str, stride: int = 1) -> Config:
    from pipeline.config_file import parse_config

    given = {"batch": row.batch, "precision": row.precision}
    section = {name: {**member, **given} for name, member in model.section.items()}
    sampling = {"sampling": {"stride": stride}, "clip": {"length": row.clip}}
    config = {**sampling, **section, "engine": {"name": "local", "device": device}}
    return parse_config(config, where="benchmark")


def video_for(row: Row, work: Path) -> tuple[Path, int]:
    """A video with at least the row's frames, and how many it has."""
    base = demo_video(work / f"models-{row.height}p.mp4", row.height, BASE_FRAMES)
    turns = -(-row.frames // BASE_FRAMES)
    if turns == 1:
        return base, BASE_FRAMES
    frames = turns * BASE_FRAMES
    longer = work / f"models-{row.height}p-{frames}.mp4"
    return repeated(base, longer, frames / FPS / 60), frames


def table_of(results: list[Result]) -> str:
    """Markdown; the columns of a GPU only where there was one to feed."""
    header = HEADER + (GPU_HEADER if any(result.fed for result in results) else ())
    return markdown(header, [_cells(result) for result in results])


def _cells(result: Result) -> tuple[str, ...]:
    row = result.row
    rates = (f"{rate:,.2f}" for rate in (result.single, result.run.rate, result.ceiling))
    what = (row.model, f"{row.height}p", row.precision, str(row.batch))
    cells: tuple[str, ...] = (*what, *rates, f"{result.share:.2f}")
    if result.fed is None:
        return cells
    busy, memory = "not known", "not known"
    if result.fed.busy is not None:
        busy = f"{result.fed.busy:.0%}"
    if result.fed.memory is not None:
        memory = " / ".join(f"{count / 2**20:,.0f}" for count in result.fed.memory)
    return (*cells, f"{result.fed.rate:,.2f}", busy, memory)


HEADER = (
    *("model", "video", "precision", "batch"),
    *("frame by frame", "frames/s in the pipeline", "tight loop", "share"),
)
GPU_HEADER = ("fed without pause", "GPU busy", "MiB allocated / reserved")
NOTE = """
Frames per second. In the pipeline: of the analyzer's own time in a run of the local engine. Tight
loop: the same model on ready tensors, in the same batches. Fed without pause: by the clock, with
clips that are decoded already, two at a time, uploads included; GPU busy and its memory are from
there.
"""


def models(work: Path, _videos: Path | None) -> None:
    """Print the table of this machine's own device."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    print_rows(rows_for(device), work, device, rounds=ROUNDS, feed=device != "cpu")


def print_rows(
    rows: list[Row], work: Path, device: str, *, rounds: int, feed: bool, json_file: str = ""
) -> str:
    """Measure, and print what was found; also returned, as Markdown.

    The JSON file is written anew after every row, so that a run that is cut short leaves what it
    had.
    """
    from pipeline.errors import ConfigError

    here = machine(device)
    results: list[Result] = []
    left_out: dict[str, str] = {}
    for row in rows:
        if row.model in left_out:
            continue
        try:
            model = MODELS[row.model](work)
        except ConfigError as error:
            left_out[row.model] = f"{row.model} is left out: {error}"
            continue
        result = measure(row, model, work, device, rounds=rounds, feed=feed)
        results.append(result)
        print(" | ".join(_cells(result)), *result.run.notes, sep="\n", file=sys.stderr, flush=True)
        if json_file:
            found = {"machine": here, "rounds": rounds, "rows": [one.as_dict() for one in results]}
            Path(json_file).write_text(json.dumps(found, indent=1) + "\n")
    where = ", ".join(f"{key} {value}" if key != "device" else value for key, value in here.items())
    parts = [f"### Models: best of {rounds} rounds", where, table_of(results), *left_out.values()]
    if feed:
        parts.append(NOTE.strip())
    text = "\n\n".join(parts)
    print(f"\n{text}", flush=True)
    return text


def main() -> None:
    import torch

    options = _options()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch finds no GPU")
    rows = [row for row in rows_for(device, every=options.all) if options.only in row.model]
    if not rows:
        sys.exit(f"--only {options.only}: of the models, {', '.join(MODELS)}, none is meant")
    if options.frames is not None:
        rows = [row.shortened(options.frames) for row in rows]
    WORK.mkdir(exist_ok=True)
    text = print_rows(
        rows,
        WORK,
        device,
        rounds=options.rounds,
        feed=device == "cuda" or options.all,
        json_file=options.json,
    )
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.keep}.md").write_text(text.removeprefix("##") + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.models", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: the GPU if there is one"
    )
    parser.add_argument("--all", action="store_true", help="on a CPU too all rows of a GPU")
    parser.add_argument("--only", default="", metavar="TEXT", help="models with this in their name")
    parser.add_argument("--rounds", type=_count, default=ROUNDS)
    parser.add_argument("--frames", type=_count, help="at most so many in a measurement")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--keep", type=_name, metavar="NAME", help="write benchmarks/results/NAME.md"
    )
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r}: a number above 0 is expected")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: letters, digits, '.', '_' and '-'")
    return text


if __name__ == "__main__":
    main()
