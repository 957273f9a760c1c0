from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.analyzers.preprocess import Preprocessing, to_rgb
from pipeline.errors import ConfigError
from tests.analyzers import tiny

# As published: openai/clip-vit-base-patch32, facebook/detr-resnet-50, hustvl/yolos-tiny,
# PekingU/rtdetr_r50vd, google/siglip-base-patch16-224, facebook/detr-resnet-50 before 2022.
PUBLISHED: dict[str, dict[str, Any]] = {
    "clip": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    },
    "detr": {
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "format": "coco_detection",
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "DetrImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": 1333, "shortest_edge": 800},
    },
    "detr of old": {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "DetrFeatureExtractor",
        "format": "coco_detection",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "max_size": 1333,
        "size": 800,
    },
    "yolos": {
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "YolosFeatureExtractor",
        "format": "coco_detection",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "max_size": 864,
        "size": 512,
    },
    "rt_detr": {
        "do_convert_annotations": True,
        "do_normalize": False,
        "do_pad": False,
        "do_rescale": True,
        "do_resize": True,
        "format": "coco_detection",
        "image_processor_type": "RTDetrImageProcessor",
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "pad_size": None,
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 640, "width": 640},
    },
    "siglip": {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 224, "width": 224},
    },
}
TINY = {
    "tiny clip": tiny.CLIP_PROCESSOR,
    "tiny detr": tiny.DETR_PROCESSOR,
    "tiny yolos": tiny.YOLOS_PROCESSOR,
    "tiny rt_detr": tiny.RT_DETR_PROCESSOR,
    "nearest": {**tiny.SIGLIP_PROCESSOR, "resample": 0},
    "no resizing": {**tiny.SIGLIP_PROCESSOR, "do_resize": False},
    "no rescaling": {**tiny.RT_DETR_PROCESSOR, "do_rescale": False},
}


def preprocessing_of(folder: Path, config: dict[str, Any]) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return Preprocessing.from_folder(folder)


def reference_processor(folder: Path, config: dict[str, Any]) -> Any:
    """transformers' own, in the variant that needs Pillow and no torchvision."""
    pytest.importorskip("PIL", reason="transformers' reference processors need Pillow")
    import transformers

    name = config.get("image_processor_type") or config["feature_extractor_type"]
    name = name.replace("FeatureExtractor", "ImageProcessor") + "Pil"
    return getattr(transformers, name).from_pretrained(folder)


@pytest.mark.parametrize("name", [*PUBLISHED, *TINY])
@pytest.mark.parametrize(("width", "height"), [(320, 180), (90, 161)])
def test_equals_transformers(name: str, width: int, height: int, tmp_path: Path) -> None:
    config = {**PUBLISHED, **TINY}[name]
    ours = preprocessing_of(tmp_path, config)
    processor = reference_processor(tmp_path, config)
    frames = tiny.scene(2, width, height)
    theirs = processor(list(frames), return_tensors="pt")["pixel_values"].numpy()
    std = np.array(ours.std or (1, 1, 1)).reshape(3, 1, 1)
    rgb = to_rgb(tiny.rgb_pixels(frames), "cpu")
    for exact in (True, False):
        got = ours.apply(rgb, exact=exact).numpy()
        assert got.shape == theirs.shape
        assert got.dtype == np.float32
        levels = np.abs(got - theirs) * std / ours.scale
        if exact:
            assert levels.max() < 1e-3
        else:
            assert levels.max() < 2.01
            assert (levels > 1.01).mean() < 1e-5


SIZES = [(1280, 720), (720, 1280), (1920, 800), (33, 33), (64, 48), (3000, 100), (799, 1200)]


@pytest.mark.parametrize("name", ["clip", "detr", "yolos", "rt_detr"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_sides_equal_transformers(name: str, width: int, height: int, tmp_path: Path) -> None:
    ours = preprocessing_of(tmp_path, PUBLISHED[name])
    processor = reference_processor(tmp_path, PUBLISHED[name])
    picture = np.zeros((3, height, width), dtype=np.uint8)
    theirs = processor.resize(picture, processor.size, resample=0)
    assert ours.resized(height, width) == theirs.shape[1:]


@pytest.mark.parametrize(
    ("name", "height", "width", "expected"),
    [
        ("clip", 720, 1280, (224, 398)),
        ("clip", 1280, 720, (398, 224)),
        ("detr", 720, 1280, (750, 1333)),
        ("detr of old", 480, 640, (800, 1066)),
        ("yolos", 720, 1280, (480, 864)),
        ("rt_detr", 720, 1280, (640, 640)),
    ],
)
def test_sides(
    name: str, height: int, width: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    assert preprocessing_of(tmp_path, PUBLISHED[name]).resized(height, width) == expected


@pytest.mark.parametrize(
    ("resample", "expected"),
    [
        (0, [[57, 198, 232], [147, 108, 142], [107, 68, 102]]),
        (2, [[98, 140, 163], [104, 144, 156], [97, 137, 155]]),
        (3, [[94, 140, 164], [101, 146, 157], [96, 138, 158]]),
    ],
)
def test_levels_as_pillow_made_them(
    resample: int, expected: list[list[int]], tmp_path: Path
) -> None:
    """Red of an 8x8 picture at 3x3, written down from Pillow 13."""
    size = {"height": 3, "width": 3}
    config = {**tiny.RT_DETR_PROCESSOR, "size": size, "resample": resample, "do_rescale": False}
    preprocessing = preprocessing_of(tmp_path, config)
    rgb = to_rgb(tiny.rgb_pixels(steps()), "cpu")
    assert preprocessing.apply(rgb, exact=True)[0, 0].tolist() == expected
    assert np.abs(preprocessing.apply(rgb, exact=False)[0, 0].numpy() - expected).max() <= 1


def steps() -> np.ndarray:
    y, x = np.mgrid[:8, :8]
    red = (17 * x + 40 * (y % 3) + 90 * ((x + y) % 2)).astype(np.uint8)
    return np.stack([red, red, red], axis=-1)[None]


def test_scale_and_normalisation(tmp_path: Path) -> None:
    preprocessing = preprocessing_of(tmp_path, TINY["no resizing"])
    frames = np.array([[[[0, 51, 255]]]], dtype=np.uint8)
    got = preprocessing.apply(to_rgb(tiny.rgb_pixels(frames), "cpu"), exact=True).flatten().tolist()
    assert got == pytest.approx([-1, -0.6, 1])


def test_frames_are_independent_of_their_batch(tmp_path: Path) -> None:
    preprocessing = preprocessing_of(tmp_path, TINY["tiny clip"])
    rgb = to_rgb(tiny.rgb_pixels(tiny.scene(3, 80, 60)), "cpu")
    for exact in (True, False):
        singles = [preprocessing.apply(rgb[i : i + 1], exact=exact).numpy() for i in range(3)]
        whole = preprocessing.apply(rgb, exact=exact).numpy()
        np.testing.assert_array_equal(whole, np.concatenate(singles))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"image_processor_type": "VitMatteImageProcessor"}, "image_processor_type"),
        ({"image_processor_type": None}, "image_processor_type"),
        ({"size_divisor": 32}, "size_divisor"),
        ({"pad_size": {"height": 9, "width": 9}}, "pad_size"),
        ({"do_grayscale": True}, "do_grayscale"),
        ({"resample": 1}, "resample"),
        ({"resample": [3]}, "resample"),
        ({"size": {"max_height": 4, "max_width": 4}}, "size"),
        ({"size": [224, 224]}, "size"),
        ({"size": {"height": 0, "width": 4}}, "size"),
        ({"crop_size": {"height": 500, "width": 500}}, "crop_size"),
        ({"image_mean": 0.5}, "image_mean"),
        ({"image_std": [1, 2]}, "image_std"),
        ({"image_std": [1, 2, 0]}, "image_std"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"data_format": "channels_last"}, "data_format"),
    ],
)
def test_what_is_not_supported_is_refused(change: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        preprocessing_of(tmp_path, {**tiny.CLIP_PROCESSOR, **change})
    assert "preprocessor_config.json" in str(caught.value)


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json is missing"):
        Preprocessing.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: not JSON"):
        Preprocessing.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="expected an object"):
        Preprocessing.from_folder(tmp_path)


def test_the_joint_file_of_transformers_5(tmp_path: Path) -> None:
    joint = {"image_processor": tiny.CLIP_PROCESSOR, "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(joint))
    joined = Preprocessing.from_folder(tmp_path)
    assert joined == preprocessing_of(tmp_path, tiny.CLIP_PROCESSOR)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_no_picture_of_the_smallest_side_is_enlarged(name: str, tmp_path: Path) -> None:
    preprocessing = preprocessing_of(tmp_path, PUBLISHED[name])
    side = preprocessing.smallest_side
    assert side is not None
    for width, height in ((side, side), (2 * side, side), (side, 3 * side)):
        new_height, new_width = preprocessing.resized(height, width)
        assert new_height <= height
        assert new_width <= width
