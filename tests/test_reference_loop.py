"""The tables of a run against a loop over a plain decode with the models' own code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.analyzers.models import resolve_model
from pipeline.config_file import parse_config
from pipeline.demo.corpus import make_corpus
from pipeline.demo.video import write_video
from pipeline.demo.world import World
from pipeline.ledger.reader import Ledger
from pipeline.runner import run

STRIDE = 24


@pytest.fixture(scope="module")
def demo_videos(tmp_path_factory) -> Path:
    """Several sizes and orientations in one corpus."""
    folder = tmp_path_factory.mktemp("demo")
    make_corpus(folder, seed=7)
    for seed, (width, height) in enumerate([(640, 360), (320, 240), (208, 304)], start=70):
        write_video(folder / f"{width}.mp4", World(seed, width, height, 60), fps=30)
    return folder


def plain_frames(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Every STRIDE-th displayed frame of a sequential decode, RGB."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        for index, frame in enumerate(container.decode(stream)):
            if index % STRIDE == 0:
                rgb = frame.to_ndarray(format="rgb24")
                yield index, np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))


def run_with(inputs: Path, output: Path, **sections: object) -> Ledger:
    config = parse_config({"sampling": {"stride": STRIDE}, **sections}, where="test")
    summary = run(config, [str(inputs)], output, engine="local")
    assert summary.exit_code == 0
    return Ledger(output)


def rows_of(ledger: Ledger, table: str) -> dict[tuple[str, int], list[dict]]:
    """Rows by uri and frame index."""
    uris = {row["video_id"]: row["uri"] for row in ledger.videos().to_pylist()}
    found: dict[tuple[str, int], list[dict]] = {}
    for row in ledger.table("frames", columns=["video_id", "frame_index"]).to_pylist():
        found[uris[row["video_id"]], row["frame_index"]] = []
    for row in ledger.table(table).to_pylist():
        found[uris[row["video_id"]], row["frame_index"]].append(row)
    return found


def boxes_of(rows: list[dict]) -> np.ndarray:
    names = ("class_id", "score", "x1", "y1", "x2", "y2")
    return np.array([[row[name] for name in names] for row in rows]).reshape(-1, 6)


def assert_same_boxes(
    found: np.ndarray, expected: np.ndarray, threshold: float, tolerance: float
) -> None:
    """Each expected box has its row: same class, near in score, corners within 0.5 px.

    Of boxes nearer to the threshold than the tolerance, none is asked for.
    """
    for boxes, others in ((expected, found), (found, expected)):
        for class_id, score, *box in boxes[boxes[:, 1] > threshold + tolerance]:
            same = others[others[:, 0] == class_id]
            near = np.abs(same[:, 2:] - box).max(axis=1, initial=0) < 0.5
            assert near.any(), (class_id, score, box)
            assert np.abs(same[near, 1] - score).min() < tolerance


def expected_of(reference, folder: Path, threshold: float) -> dict[tuple[str, int], np.ndarray]:
    """What the models' own code finds, by uri and frame index: class, score and corners."""
    detect = reference(threshold)
    paths = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    return {(str(p), index): detect(rgb) for p in paths for index, rgb in plain_frames(p)}


def assert_detections_are(
    ledger: Ledger,
    expected: dict[tuple[str, int], np.ndarray],
    threshold: float,
    tolerance: float = 1e-3,
) -> None:
    rows = rows_of(ledger, "detections")
    assert rows.keys() == expected.keys()
    for key, boxes in expected.items():
        assert_same_boxes(boxes_of(rows[key]), boxes, threshold, tolerance)


def transformers_reference(threshold: float):
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    folder = resolve_model("builtin:detector")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForObjectDetection.from_pretrained(folder).eval()

    def detect(rgb: np.ndarray) -> np.ndarray:
        height, width = rgb.shape[:2]
        with torch.inference_mode():
            outputs = model(**processor(rgb, return_tensors="pt"))
        (found,) = processor.post_process_object_detection(
            outputs, threshold=threshold, target_sizes=[(height, width)]
        )
        boxes = found["boxes"].numpy().clip(0, [width, height, width, height])
        return np.column_stack([found["labels"].numpy(), found["scores"].numpy(), boxes])

    return detect


@pytest.fixture(scope="module")
def transformers_expected(demo_videos):
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    return expected_of(transformers_reference, demo_videos, 0.5)


@pytest.mark.parametrize("batch", [1, 3, 8, "auto"])
def test_transformers_over_mixed_sizes(demo_videos, transformers_expected, tmp_path, batch):
    detector = {"backend": "transformers", "model": "builtin:detector", "batch": batch}
    ledger = run_with(demo_videos, tmp_path / "out", detector=detector)
    assert sum(map(len, transformers_expected.values())) > 100
    assert_detections_are(ledger, transformers_expected, 0.5)


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_transformers_on_real_videos(real_video, tmp_path, threshold):
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    detector = {"backend": "transformers", "model": "builtin:detector", "threshold": threshold}
    ledger = run_with(real_video, tmp_path / "out", detector=detector)
    expected = expected_of(transformers_reference, real_video, threshold)
    assert_detections_are(ledger, expected, threshold)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.999)])
def test_clip_on_real_and_demo_videos(real_video, demo_videos, tmp_path, precision, least):
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    folder = resolve_model("builtin:clip")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = CLIPModel.from_pretrained(folder).eval()
    embedder = {"backend": "clip", "model": "builtin:clip", "precision": precision}
    both = tmp_path / "both"
    both.mkdir()
    for path in (real_video, *sorted(demo_videos.glob("*.m*"))):
        (both / path.name).symlink_to(path)
    ledger = run_with(both, tmp_path / "out", embedder=embedder, links="anywhere")
    rows = rows_of(ledger, "embeddings")
    compared = len(rows)
    for uri in {uri for uri, _ in rows}:
        for index, rgb in plain_frames(Path(uri)):
            with torch.inference_mode():
                pictures = processor(rgb, return_tensors="pt")["pixel_values"]
                features = model.get_image_features(pixel_values=pictures).pooler_output
            expected = torch.nn.functional.normalize(features, dim=-1)[0].numpy()
            (row,) = rows.pop((uri, index))
            found = np.array(row["embedding"], dtype=np.float32)
            assert abs(np.linalg.norm(found) - 1) < 1e-5
            assert found @ expected >= least
    assert not rows
    assert compared > 30


def detectron2_reference(threshold: float):
    import torch
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor
    from safetensors.torch import load_file

    from pipeline.demo.evaluate import MODELS

    folder = MODELS / "detectron2"
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"), allow_unsafe=False)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    predictor = DefaultPredictor(cfg)
    predictor.model.load_state_dict(load_file(folder / "model.safetensors"))
    bgr = torch.tensor([2, 1, 0]).numpy()

    def detect(rgb: np.ndarray) -> np.ndarray:
        found = predictor(rgb[:, :, bgr])["instances"]
        columns = [found.pred_classes, found.scores, *found.pred_boxes.tensor.T]
        return np.column_stack([column.numpy() for column in columns])

    return detect


@pytest.fixture(scope="module")
def detectron2_expected(demo_videos):
    return expected_of(detectron2_reference, demo_videos, 0.5)


@pytest.mark.detectron2
@pytest.mark.parametrize("batch", [1, 3, 8, "auto"])
def test_detectron2_over_mixed_sizes(demo_videos, detectron2_expected, tmp_path, batch):
    detector = {"backend": "detectron2", "config": "builtin:detectron2", "batch": batch}
    ledger = run_with(demo_videos, tmp_path / "out", detector=detector)
    assert sum(map(len, detectron2_expected.values())) > 100
    assert_detections_are(ledger, detectron2_expected, 0.5)


@pytest.mark.detectron2
def test_detectron2_on_real_videos(real_video, tmp_path):
    detector = {"backend": "detectron2", "config": "builtin:detectron2", "threshold": 0.2}
    ledger = run_with(real_video, tmp_path / "out", detector=detector)
    expected = expected_of(detectron2_reference, real_video, 0.2)
    assert_detections_are(ledger, expected, 0.2)


@pytest.mark.detectron2
def test_the_shipped_detectron2_model_reaches_its_target(tmp_path):
    from pipeline.demo.show import score_detector

    videos = make_corpus(tmp_path / "held-out", seed=0)
    detector = {"backend": "detectron2", "config": "builtin:detectron2", "threshold": 0.05}
    config = parse_config({"detector": detector}, where="test")
    run(config, [str(tmp_path / "held-out")], tmp_path / "out", engine="local")
    assert score_detector(videos, Ledger(tmp_path / "out")).mean >= 0.90
