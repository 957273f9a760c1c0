"""The configuration's `tracker`: what makes tracks of detections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config_base import FrozenModel


class _LightTracks(FrozenModel):
    """What trackers that look at boxes alone have in common."""

    class_aware: bool = True
    """A track keeps to one class. False: boxes of all classes are matched with each other."""
    lost_seconds: PositiveFloat = 1.0
    """How long a track without a detection is looked for before it ends."""
    min_frames: PositiveInt = 1
    """Sampled frames in a row with a detection before a track has its id."""
    duplicate_iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    """A detection that overlaps a better one (of its class, where that is kept to) by more is taken
    for the same object, and has no track. Detectors without suppression give such. 1: none is."""
    high_score: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Detections below may not begin a track."""


class ByteTrackConfig(_LightTracks):
    """Detections of low score go on with tracks that those of high score leave."""

    backend: Literal["bytetrack"]
    min_iou: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of a detection and a track's predicted box."""
    new_score: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Of a detection that begins a track."""


class OCSortConfig(_LightTracks):
    """Tracks that are found again are corrected for the time in which they were lost; detections
    below `high_score` are not looked at."""

    backend: Literal["ocsort"]
    high_score: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Detections below are left out. By itself as `detector.threshold`: all that have landed are
    tracked."""
    min_iou: Annotated[float, Field(gt=0, lt=1)] = 0.3
    direction_weight: Annotated[float, Field(ge=0)] = 0.2
    """Of going on in the direction so far, beside the IoU."""
    direction_frames: PositiveInt = 3
    """Sampled frames over which that direction is taken."""


class Sam2Config(FrozenModel):
    """Masks by SAM 2: prompted by detections, then followed by its memory of each object.

    Times and counts of frames are those of sampled frames. `memory: recent` is SAM 2 as published;
    `samurai` chooses among its masks by a Kalman filter and keeps only good frames in memory
    (Yang et al. 2024, arXiv:2411.11922), with the thresholds that are published for it.
    """

    backend: Literal["sam2"]
    model: str
    """A local folder, or a hub name such as facebook/sam2.1-hiera-small, or facebook/sam3, whose
    tracker is taken."""
    revision: str | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    memory: Literal["samurai", "recent"] = "samurai"

    class_aware: bool = True
    """A detection goes with tracks of its class only. False: with any."""
    new_score: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Detections below begin no track."""
    new_frames: PositiveInt = 2
    """Sampled frames in a row in which a detection that no track covers is seen before it begins
    one."""
    match_iou: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Of a detection and a track's box, from which on they are the same object."""
    duplicate_iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    """A detection that overlaps a better one (of its class, where that is kept to) by more is taken
    for the same object, and so is a track whose mask overlaps that of an older one. 1: none is."""
    lost_seconds: PositiveFloat = 1.0
    """How long a track without a mask is looked for before it ends."""
    most_objects: PositiveInt = 16
    """Tracks at once; of the detections that could begin one the best are taken."""

    min_object_score: float = -1.0
    """Logit above which an object is there. SAM 2's own is 0, which `recent` keeps to."""
    kf_score_weight: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Of agreement with the predicted box in the choice of a mask, beside the model's own score;
    0.15 is published for the large model."""
    stable_frames: PositiveInt = 15
    """Good frames in a row before the predicted box has a say."""
    stable_iou: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Mask score above which a frame is good for the filter."""
    memory_iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Mask score above which a frame may be remembered; so with the two below."""
    memory_object_score: float = 0.0
    """A logit."""
    memory_kf_score: float = 0.0
    """IoU with the predicted box, where there was one."""
    num_maskmem: PositiveInt | None = None
    """Frames of memory, the prompted one among them. None: as many as the model was made for, which
    is also the most."""
    offload: bool = False
    """Keep the memories in the host's memory between frames: slower, with less on the GPU."""
    prompts: str | None = None
    """A file of prompts by hand, see `tracks.prompts`: objects that are followed besides those that
    the detector finds."""

    parallel: bool = False
    """Follow the shards of a video at once, each from its own detections, and join what they have
    found where one ends and the next begins. Faster for a long video on several GPUs; an object
    that is hidden at such a border is another one behind it."""
    overlap_frames: PositiveInt = 8
    """Sampled frames before its shard with which each begins then, to be joined by."""

    @model_validator(mode="after")
    def _prompts_go_on(self) -> Sam2Config:
        if self.parallel and self.prompts is not None:
            raise ValueError(
                "parallel: true begins every shard from what the detector finds, so an object of "
                "prompts would end with its shard; leave out one of parallel and prompts"
            )
        return self


TrackerConfig = Annotated[
    ByteTrackConfig | OCSortConfig | Sam2Config, Field(discriminator="backend")
]
