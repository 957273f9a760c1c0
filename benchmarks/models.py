"""Full-size models in the pipeline against the same model in a tight loop on ready tensors.

Weights are random: speed does not depend on them. Detectron2 is left out where it is missing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import table
from benchmarks.videos import demo_720p

FRAMES = {"clip": 96, "detectron2": 16}
ROUNDS = 3


def models(work: Path, videos: Path | None) -> None:
    """Print the table: frames per second of each analyzer, and its share of the ceiling."""
    import torch

    real = videos / "01_dog.mp4" if videos else None
    video = real if real is not None and real.exists() else demo_720p(work / "demo.mp4", 10)
    rows = []
    for name, prepare in {"clip": _clip, "detectron2": _detectron2}.items():
        found = prepare(work)
        if found is None:
            print(f"\n{name} is left out: it is not installed")
            continue
        label, section, ceiling = found
        best = [0.0, 0.0]
        for _ in range(ROUNDS):
            best = [
                max(best[0], _in_pipeline(work, video, section, FRAMES[name])),
                max(best[1], ceiling()),
            ]
        single = _in_pipeline(work, video, section, FRAMES[name], batch=1)
        cells = (f"{single:,.2f}", f"{best[0]:,.2f}", f"{best[1]:,.2f}", f"{best[0] / best[1]:.2f}")
        rows.append((label, *cells))
    header = ("model", "frame by frame", "frames/s in the pipeline", "tight loop", "share")
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu()
    table(f"Models: 720p, batch 8, fp32, best of {ROUNDS} rounds, {where}", header, rows)


def _cpu() -> str:
    import torch

    return f"CPU, {torch.get_num_threads()} threads"


def _in_pipeline(
    work: Path, video: Path, section: dict[str, Any], frames: int, batch: int = 8
) -> float:
    """Frames per second of the analyzer's own time in a run, from the first clip on."""
    from pipeline.config import parse_config
    from pipeline.runner import run

    output = work / "out-models"
    shutil.rmtree(output, ignore_errors=True)
    stride = max(1, 240 // frames)
    section = {name: {**member, "batch": batch} for name, member in section.items()}
    config = {"sampling": {"stride": stride}, "clip": {"length": 8}, **section}
    summary = run(parse_config(config, where="benchmark"), [str(video)], output, engine="local")
    (spent,) = summary.analyze_s.values()
    return summary.frames / spent


def _loop(forward: Callable[[], Any], batch: int, batches: int) -> Callable[[], float]:
    def rate() -> float:
        import torch

        with torch.inference_mode():
            forward()
            started = time.perf_counter()
            for _ in range(batches):
                forward()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        return batch * batches / (time.perf_counter() - started)

    return rate


def _clip(work: Path) -> tuple[str, dict[str, Any], Callable[[], float]]:
    import json

    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModelWithProjection

    folder = work / "clip-b32"
    if not (folder / "preprocessor_config.json").exists():
        CLIPModel(CLIPConfig()).save_pretrained(folder)
        processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = CLIPVisionModelWithProjection.from_pretrained(folder).eval().to(device)
    ready = torch.rand(8, 3, 224, 224, device=device)
    section = {"embedder": {"backend": "clip", "model": str(folder)}}
    return "CLIP ViT-B/32", section, _loop(lambda: model(pixel_values=ready), 8, 12)


def _detectron2(work: Path) -> tuple[str, dict[str, Any], Callable[[], float]] | None:
    import importlib.util

    if importlib.util.find_spec("detectron2") is None:
        return None
    import torch
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    from pipeline.analyzers.detectron2_model import find_config

    name = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    cfg = get_cfg()
    cfg.merge_from_file(str(find_config(name)), allow_unsafe=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", device
    model = build_model(cfg).eval()
    weights = work / "faster-r50.pth"
    torch.save(model.state_dict(), weights)
    # 720p at the default size: shortest edge 800, longest at most 1333.
    ready = torch.randint(0, 256, (8, 3, 750, 1333), dtype=torch.uint8, device=device)
    inputs = [{"image": one} for one in ready]
    section = {"backend": "detectron2", "config": name, "weights": str(weights)}
    forward = _loop(lambda: model.inference(inputs, do_postprocess=False), 8, 1)
    return "Faster R-CNN R50-FPN (Detectron2)", {"detector": section}, forward
