"""The tracker of SAM 3: the tests of an object's follower, on other classes of transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

from pipeline.demo.tiny_sam2 import HIDDEN, MEMORY, save_sam2
from pipeline.tracks.sam2_model import LoadedSam2, checkpoint_of, load
from tests.tracks import test_follower, test_sam2
from tests.tracks.sam2_made import SIDE, pixels, randomised, sam2_config

PATCH = 16


def build() -> Any:
    backbone = {
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "patch_size": PATCH,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    config = Sam3TrackerVideoConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": {"model_type": "sam3_vit_model", **backbone},
            "fpn_hidden_size": HIDDEN,
        },
        prompt_encoder_config={"hidden_size": HIDDEN, "image_size": SIDE, "patch_size": PATCH},
        mask_decoder_config={
            "hidden_size": HIDDEN,
            "mlp_dim": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": HIDDEN,
        },
        image_size=SIDE,
        memory_attention_hidden_size=HIDDEN,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=HIDDEN,
        memory_attention_rope_feat_sizes=[SIDE // PATCH] * 2,
        memory_encoder_hidden_size=HIDDEN,
        memory_encoder_output_channels=MEMORY,
        mask_downsampler_embed_dim=HIDDEN,
        memory_fuser_embed_dim=HIDDEN,
        memory_fuser_intermediate_dim=HIDDEN,
    )
    return Sam3TrackerVideoModel(config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam3")
    save_sam2(randomised(build), path)
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[LoadedSam2]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(folder, "cpu")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    return Sam3TrackerVideoModel.from_pretrained(folder).eval()


whole = test_follower.whole
scene = test_sam2.scene
test_recent_memory_is_plain_transformers = test_follower.test_recent_memory_is_plain_transformers
test_what_is_dropped_is_not_missed = test_follower.test_what_is_dropped_is_not_missed
test_save_and_resume_is_uninterrupted = test_sam2.test_save_and_resume_is_uninterrupted
test_objects_together_are_what_they_are_alone = (
    test_sam2.test_objects_together_are_what_they_are_alone
)
test_no_state_goes_from_one_video_to_the_next = (
    test_sam2.test_no_state_goes_from_one_video_to_the_next
)


def test_pictures_are_squashed_and_lie_around_0(folder: Path, tmp_path: Path) -> None:
    """Of a configuration that leaves all but the size to the defaults of its class."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    size = {"height": SIDE, "width": SIDE}
    given = {"image_processor_type": "Sam3ImageProcessorFast", "size": size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    found = load(tmp_path, "cpu").picture(pixels(0))
    squashed = Image.fromarray(pixels(0)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    wanted = np.asarray(squashed, np.float32) / 127.5 - 1
    assert found.shape == (3, SIDE, SIDE)
    assert np.allclose(found.permute(1, 2, 0).numpy(), wanted, atol=1e-5)


def test_the_part_of_a_whole_sam_3_is_loaded(folder: Path, loaded: LoadedSam2, tmp_path: Path):
    """As facebook/sam3 is laid out: its detector's encoder of pictures is the tracker's."""
    weights = load_file(folder / "model.safetensors")
    named = {}
    for name, tensor in weights.items():
        of_detector = name.startswith("detector_model.")
        whole = name if of_detector or name.startswith("tracker_") else f"tracker_model.{name}"
        named[whole] = tensor
    save_file(named, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "sam3_video", "tracker_config": config})
    )
    preprocessing = (folder / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(preprocessing)
    assert checkpoint_of(sam2_config().model_copy(update={"model": str(tmp_path)})) == tmp_path
    mine, other = loaded.model.state_dict(), load(tmp_path, "cpu").model.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
