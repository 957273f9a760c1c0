"""SAM 2 from a checkpoint: what makes masks of prompts and memories.

The model is `Sam2VideoModel` of transformers, or the tracker of SAM 3, which has the same methods
under another name; extended in three places:

    mask decoder                    a hook shows its masks to the object's `Follower`, which may
                                    choose among them
    _run_single_frame_inference     so are the scores of a frame
    _gather_memory_frame_outputs    asks the `Follower` which frames are remembered
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.analyzers.models import load_pretrained, model_identity, model_type, resolve_model
from pipeline.analyzers.precision import Precision
from pipeline.analyzers.preprocess import Preprocessing, as_tensor
from pipeline.config_trackers import Sam2Config
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

_CLASSES = {
    "sam2_video": "Sam2Video",
    "sam3_tracker_video": "Sam3TrackerVideo",
    # All of SAM 3, of which this is a part.
    "sam3_video": "Sam3TrackerVideo",
}
"""By the model_type of a checkpoint how the names of its classes in transformers begin."""


def checkpoint_of(config: Sam2Config) -> Path:
    """The folder of the configured model. Raises ConfigError where it holds no SAM 2 or 3."""
    folder = resolve_model(config.model, config.revision)
    if (kind := model_type(folder)) not in _CLASSES:
        raise ConfigError(
            f"{folder / 'config.json'}: model_type = {kind!r} cannot track; "
            f"{', '.join(_CLASSES)} can"
        )
    return folder


def checkpoint_identity(folder: Path) -> dict[str, object]:
    """What masks depend on besides the configuration; imports neither torch nor transformers."""
    return {
        "model": model_identity(folder),
        "preprocessing": asdict(Preprocessing.from_folder(folder)),
    }


@dataclass(frozen=True)
class LoadedSam2:
    """A model on its device. Nothing in it is of any video."""

    model: Any
    preprocessing: Preprocessing
    device: str
    precision: Precision
    classes: str
    """How the names of its classes in transformers begin."""

    @property
    def side(self) -> int:
        """Pixels of the square that a picture is made into."""
        return int(self.model.config.image_size)

    def picture(self, pixels: np.ndarray) -> torch.Tensor:
        """uint8 (h, w, 3) RGB to float32 (3, side, side), squashed, on the device."""
        rgb = as_tensor(pixels).to(self.device).permute(2, 0, 1)
        return self.preprocessing.apply(rgb[None], exact=True)[0]

    def feature_cache(self) -> Any:
        """For the sessions of one video: features of one frame at a time."""
        return self._class("InferenceCache")(self.device, self.device)

    def session(self) -> Any:
        """For one object: what transformers keeps of it."""
        import torch

        return self._class("InferenceSession")(
            inference_device=self.device,
            inference_state_device=self.device,
            video_storage_device=self.device,
            dtype=torch.float32,
        )

    def _class(self, name: str) -> Any:
        """One that lies beside the model's own."""
        base = _transformers_class(self.classes)
        return getattr(sys.modules[base.__module__], f"{self.classes}{name}")


def load(folder: Path, device: str, precision: Precision = "fp32") -> LoadedSam2:
    """Load a checkpoint. Raises ConfigError where it is damaged, or made for pictures alone."""
    preprocessing = Preprocessing.from_folder(folder)
    classes = _CLASSES[model_type(folder)]
    model = load_pretrained(_transformers_class(classes), folder).to(device)
    # Only now: weights of old names are known to transformers for its own classes alone.
    model.__class__ = _model_class(classes)
    model.prepare()
    side = model.config.image_size
    if (preprocessing.height, preprocessing.width) != (side, side):
        raise ConfigError(
            f"{folder}: pictures are made {preprocessing.height}x{preprocessing.width}, and the "
            f"model takes {side}x{side}"
        )
    return LoadedSam2(model, preprocessing, device, precision, classes)


def _transformers_class(classes: str) -> Any:
    import transformers

    return getattr(transformers, f"{classes}Model")


@lru_cache(maxsize=len(_CLASSES))
def _model_class(classes: str) -> Any:
    """The model that heeds the `follower` of a session; made once transformers is wanted."""
    import torch

    base = _transformers_class(classes)

    class FollowingSam2(base):  # type: ignore[misc, valid-type]
        def prepare(self) -> None:
            self._follower: Any = None
            self._positions: torch.Tensor | None = None
            self.mask_decoder.register_forward_hook(self._on_masks)

        def _on_masks(self, module: Any, inputs: Any, output: Any) -> Any:
            return output if self._follower is None else self._follower.on_masks(*output)

        def _run_single_frame_inference(self, inference_session: Any, **of_frame: Any) -> Any:
            follower = inference_session.follower
            if of_frame["mask_inputs"] is None:
                self._follower = follower
            try:
                output = super()._run_single_frame_inference(
                    inference_session=inference_session, **of_frame
                )
            finally:
                self._follower = None
            return follower.on_output(output)

        def _gather_memory_frame_outputs(
            self, inference_session: Any, obj_idx: int, frame_idx: int, *rest: Any
        ) -> Any:
            frames = inference_session.follower.memories(frame_idx)
            outputs = inference_session.output_dict_per_obj[obj_idx]
            found = [(0, output) for output in outputs["cond_frame_outputs"].values()]
            for rank in range(len(frames), 0, -1):
                output = outputs["non_cond_frame_outputs"].get(frames[rank - 1])
                if output is not None:
                    found.append((rank, output))
            return [(rank, self._memory(output)) for rank, output in found]

        def _memory(self, output: Any) -> Any:
            # Where its tokens are is the same for every frame, so that it is not kept with each.
            if self._positions is None:
                shape = (1, self.mem_dim, *self.backbone_feature_sizes[-1])
                grid = self.memory_encoder.position_encoding(
                    torch.Size(shape), self.device, torch.float32
                )
                self._positions = grid.flatten(2).permute(2, 0, 1)
            # It is kept in bfloat16, which the autocast of fp16 would not put beside other numbers.
            features = output["maskmem_features"].to(self.device).float()
            return {"maskmem_features": features, "maskmem_pos_enc": self._positions}

    return FollowingSam2
