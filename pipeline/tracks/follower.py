"""One object as SAM 2 follows it: its session, what of it is remembered, and its filter.

Each object has a session of its own, so that it is what it would be alone: within one session a
prompt for one object changes the masks of the others. The sessions of a video share a cache of
picture features, so that the encoder runs once a frame. transformers keeps all frames;
here what no later frame reads is dropped after each, so that memory and time are flat:

    kept                        read as
    prompted frame              memory and pointer
    frames to be remembered     memory (num_maskmem - 1 of them at most, however old with samurai)
    newest 15 frames            pointer
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.analyzers.precision import autocast
from pipeline.config_trackers import Sam2Config
from pipeline.tracks.sam2_model import LoadedSam2
from pipeline.tracks.samurai import Box, Motion, Seen, choose, remembered

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pipeline.tracks.prompts import Prompt

_OBJECT = 1
"""The id of the only object of a session."""
_MEMORY, _POINTER = "maskmem_features", "object_pointer"
"""What is read of a frame's output: bfloat16 (h * w, 1, channels), and float32 (1, 1, hidden)."""


class Look(NamedTuple):
    """What the model says of an object in one frame."""

    logits: torch.Tensor
    """float32 (1, 1, h, w), a quarter of the model's side: above 0 where the object is."""
    seen: Seen


class Follower:
    """One object of a video.

    Args:
        loaded: the model.
        config: which memory, and its thresholds.
        cache: as `LoadedSam2.feature_cache` gives it, shared by the objects of a video.
    """

    def __init__(self, loaded: LoadedSam2, config: Sam2Config, cache: Any) -> None:
        self.motion = Motion()
        self._loaded = loaded
        self._config = config
        self._most = (config.num_maskmem or loaded.model.num_maskmem) - 1
        self._samurai = config.memory == "samurai"
        self._seen: dict[int, Seen] = {}
        """Of the kept frames that were not prompted."""
        self._latest = Seen(0.0, 0.0, None)
        self._score: torch.Tensor | None = None
        """The logit of the object as the model gave it."""
        self._session = loaded.session()
        self._session.cache = cache
        # Weakly, so that a track's tensors go with it, whenever cycles are collected.
        self._session.follower = weakref.proxy(self)
        self._session.obj_id_to_idx(_OBJECT)
        outputs = self._session.output_dict_per_obj[0]
        self._prompted: dict[int, Any] = outputs["cond_frame_outputs"]
        self._others: dict[int, Any] = outputs["non_cond_frame_outputs"]

    def look(
        self,
        frame: int,
        picture: torch.Tensor,
        prompt: Prompt | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> Look:
        """One frame.

        Args:
            frame: its number, one more than that of the frame before.
            picture: as `LoadedSam2.picture` makes it; read where the cache lacks the frame.
            prompt: where the object is, in a picture of `size` (width, height); with the first
                frame. None to look for it.
        """
        if prompt is not None:
            self._give(frame, prompt, size)
        with autocast(self._loaded.precision, self._loaded.device):
            found = self._loaded.model(self._session, frame=picture, frame_idx=frame)
        if prompt is None:
            self._seen[frame] = self._latest
        self.trim(frame)
        return Look(found.pred_masks.float(), self._latest)

    def memories(self, frame: int) -> list[int]:
        """The frames that `frame` remembers, the newest first, besides the prompted one."""
        if self._samurai:
            return remembered(self._seen, frame, self._most, self._config)
        return list(range(frame - 1, frame - 1 - self._most, -1))

    def trim(self, frame: int) -> None:
        """Drop all that no frame after `frame` reads."""
        session = self._session
        session.processed_frames = None
        for inputs in (session.point_inputs_per_obj, session.mask_inputs_per_obj):
            inputs[0].clear()
        session.frames_tracked_per_obj[0].clear()
        memories = set(self.memories(frame + 1))
        first_pointer = frame + 2 - self._loaded.model.config.max_object_pointers_in_encoder
        for at in [at for at in self._others if at < first_pointer and at not in memories]:
            del self._others[at], self._seen[at]
        for at, output in self._others.items():
            self._others[at] = self._kept(output, at in memories)
        for at, output in self._prompted.items():
            self._prompted[at] = self._kept(output, True)

    def _kept(self, output: dict[str, Any], memory: bool) -> dict[str, Any]:
        """Of a frame's output what is read: its tensors are slices of nothing larger."""
        kept = {_POINTER: output[_POINTER]}
        if memory:
            features = output[_MEMORY]
            kept[_MEMORY] = (features.cpu() if self._config.offload else features).contiguous()
        return kept

    def on_masks(
        self,
        masks: torch.Tensor,
        ious: torch.Tensor,
        tokens: torch.Tensor,
        score: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the mask decoder gives, `n` masks, to what the model goes on with.

        Args:
            masks: (1, 1, n, h, w) logits.
            ious: (1, 1, n).
            tokens: (1, 1, n, hidden).
            score: (1, 1, 1), a logit.
        """
        import torch

        self._score = score
        if not self._samurai:
            numbers = torch.cat([ious.flatten(), score.flatten()]).tolist()
            self._latest = Seen(max(numbers[:-1]), numbers[-1], None)
            return masks, ious, tokens, score
        # The model itself asks whether the logit is above 0.
        shifted = score - self._config.min_object_score
        if masks.shape[2] == 1:
            numbers = torch.cat([ious.flatten(), score.flatten()]).tolist()
            self._latest = Seen(numbers[0], numbers[1], None)
            return masks, ious, tokens, shifted
        found, there, boxes = self._measure(masks, ious, score)
        if there <= self._config.min_object_score:
            boxes = [None] * len(boxes)
        best, kf_iou = choose(self.motion, found, boxes, self._config)
        self._latest = Seen(found[best], there, kf_iou)
        one = slice(best, best + 1)
        return masks[:, :, one], ious[:, :, one], tokens[:, :, one], shifted

    def on_output(self, output: dict[str, Any]) -> dict[str, Any]:
        """A frame's output, once the model has it."""
        if self._score is not None:
            output["object_score_logits"] = self._score
        else:
            # A mask as the prompt is taken as it is.
            self._latest = Seen(1.0, float(output["object_score_logits"]), None)
        self._score = None
        return output

    def _measure(
        self, masks: torch.Tensor, ious: torch.Tensor, score: torch.Tensor
    ) -> tuple[list[float], float, list[Box | None]]:
        """IoUs, the logit, and the boxes of masks in the model's picture: in one transfer."""
        import numpy as np
        import torch
        from torch.nn import functional

        side = self._loaded.side
        large = functional.interpolate(
            masks[0].float(), size=(side, side), mode="bilinear", align_corners=False
        )
        inside = large[0] > 0
        lines = torch.stack([inside.any(dim=1), inside.any(dim=2)], dim=1).float()
        parts = [ious.float().flatten(), score.float().flatten(), lines.flatten()]
        numbers = torch.cat(parts).cpu().numpy()
        count = masks.shape[2]
        boxes: list[Box | None] = []
        for columns, rows in numbers[count + 1 :].reshape(count, 2, side) > 0:
            x, y = np.flatnonzero(columns), np.flatnonzero(rows)
            edges = (float(x[0]), float(y[0]), float(x[-1]), float(y[-1])) if len(x) else None
            boxes.append(edges)
        return numbers[:count].tolist(), float(numbers[count]), boxes

    def _give(self, frame: int, prompt: Prompt, size: tuple[int, int]) -> None:
        """Source: transformers, `processing_sam2_video.py`."""
        import torch

        side = self._loaded.side
        session = self._session
        if prompt.mask is not None:
            session.add_mask_inputs(0, frame, prompt.mask_of(side))
        else:
            if prompt.box is not None:
                x1, y1, x2, y2 = prompt.box
                points = [(x1, y1, 2), (x2, y2, 3)]
            else:
                points = list(prompt.points)
            scale = torch.tensor([side / size[0], side / size[1]])
            places = torch.tensor([point[:2] for point in points], dtype=torch.float32) * scale
            labels = torch.tensor([point[2] for point in points], dtype=torch.int32)
            inputs = {"point_coords": places[None, None], "point_labels": labels[None, None]}
            session.add_point_inputs(0, frame, inputs)
        session.obj_with_new_inputs = [_OBJECT]

    def pointer(self) -> np.ndarray:
        """float32 (hidden,): what is kept of the object in the newest frame, to know it by."""
        kept = self._others or self._prompted
        pointer: torch.Tensor = kept[max(kept)][_POINTER]
        return pointer.float().flatten().cpu().numpy()

    def save(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Facts as JSON has them, and tensors on the CPU: all that the frames to come read."""
        tensors = {}
        for at, output in {**self._prompted, **self._others}.items():
            for name, tensor in output.items():
                tensors[f"{at}.{name}"] = tensor.cpu()
        facts = {
            "motion": self.motion.save(),
            "prompted": list(self._prompted),
            "seen": [[at, *seen] for at, seen in self._seen.items()],
        }
        return facts, tensors

    def restore(self, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what was saved."""
        self.motion = Motion.restore(facts["motion"])
        self._seen = {at: Seen(*seen) for at, *seen in facts["seen"]}
        for kept, frames in ((self._prompted, facts["prompted"]), (self._others, self._seen)):
            for at in frames:
                names = (name for name in (_POINTER, _MEMORY) if f"{at}.{name}" in tensors)
                kept[at] = {name: self._placed(name, tensors[f"{at}.{name}"]) for name in names}

    def _placed(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        offloaded = self._config.offload and name == _MEMORY
        return tensor if offloaded else tensor.to(self._loaded.device)
