"""Measure the demo's two models on encoded held-out videos, straight from their folders.

This path shares nothing with the pipeline but the models, so the two check each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.demo import train_clip, train_detector
from pipeline.demo.corpus import DemoVideo
from pipeline.demo.queries import QUERIES
from pipeline.demo.score import Detection, DetectionScore, mean_average_precision, precision_at_k
from pipeline.demo.world import WorldObject

MODELS = Path(__file__).parent / "models"
"""The folder of the shipped models: `detector` and `clip`."""

_BATCH = 32
_LEAST_SCORE = 0.01

Image = npt.NDArray[np.uint8]
Key = tuple[int, int]


def displayed_frames(path: Path) -> Iterator[Image]:
    """Every frame as it is displayed, uint8 RGB (height, width, 3), in presentation order."""
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            yield np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def detect(folder: Path, images: Image) -> list[list[Detection]]:
    """Detections of each of uint8 RGB (n, 160, 256, 3), in pixels."""
    import torch
    from transformers import AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    height, width = images.shape[1:3]
    size = torch.tensor([width, height, width, height])
    results = []
    for start in range(0, len(images), _BATCH):
        with torch.inference_mode():
            pixels = train_detector.pixels_of(images[start : start + _BATCH])
            outputs = model(pixel_values=pixels)
        chances = outputs.logits.sigmoid()
        middle, half = outputs.pred_boxes[..., :2], outputs.pred_boxes[..., 2:] / 2
        boxes = torch.cat([middle - half, middle + half], dim=-1) * size
        for chance, box in zip(chances, boxes, strict=True):
            scores, places = chance.flatten().topk(chance.shape[0])
            found = zip(scores.tolist(), places.tolist(), strict=True)
            results.append(
                [
                    Detection(tuple(box[place // chance.shape[1]].tolist()), score, class_id)
                    for score, place in found
                    if score >= _LEAST_SCORE
                    for class_id in [place % chance.shape[1]]
                ]
            )
    return results


def embed_images(folder: Path, images: Image) -> npt.NDArray[np.float32]:
    """L2-normalised embeddings, float32 (n, size), of uint8 RGB (n, height, width, 3)."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    rows = []
    for start in range(0, len(images), _BATCH):
        with torch.inference_mode():
            pixels = train_clip.pixels_of(images[start : start + _BATCH])
            pooled = model.vision_model(pixel_values=pixels).pooler_output
            rows.append(model.visual_projection(pooled))
    return np.asarray(torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy())


def embed_texts(folder: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """L2-normalised embeddings, float32 (n, size)."""
    import torch
    from transformers import AutoTokenizer, CLIPModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        rows = torch.nn.functional.normalize(model.text_projection(pooled), dim=1)
    return np.asarray(rows.numpy())


def evaluate_detector(
    folder: Path, videos: Sequence[DemoVideo], *, every: int = 1
) -> DetectionScore:
    """mAP at IoU 0.5 over every `every`-th frame of the videos."""
    keys = _keys(videos, every)
    found = detect(folder, _images(videos, every))
    predictions = dict(zip(keys, found, strict=True))
    return mean_average_precision(predictions, _truths(videos, keys))


def evaluate_search(
    folder: Path, videos: Sequence[DemoVideo], *, k: int = 10, every: int = 1
) -> dict[str, float]:
    """Precision at `k` of each of the demo's queries over every `every`-th frame of the videos."""
    frames = embed_images(folder, _images(videos, every))
    truths = list(_truths(videos, _keys(videos, every)).values())
    texts = embed_texts(folder, [query.text for query in QUERIES])
    return {
        query.text: precision_at_k(frames @ text, [query.holds(t) for t in truths], k)
        for query, text in zip(QUERIES, texts, strict=True)
    }


def _keys(videos: Sequence[DemoVideo], every: int) -> list[Key]:
    """(video's position, frame index) of each frame that is looked at."""
    return [(n, i) for n, v in enumerate(videos) for i in range(0, v.frame_count, every)]


def _images(videos: Sequence[DemoVideo], every: int) -> Image:
    """The displayed frames that are looked at, in the order of their keys."""
    return np.concatenate([np.stack([*displayed_frames(v.path)][::every]) for v in videos])


def _truths(videos: Sequence[DemoVideo], keys: Sequence[Key]) -> dict[Key, list[WorldObject]]:
    return {(n, i): videos[n].truth(i) for n, i in keys}
