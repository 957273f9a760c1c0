"""The configuration: frozen models that refuse unknown keys; `config_file` reads them from YAML.

`configs/demo.yaml` shows every key with its meaning; the defaults here are the defaults there.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.config_base import FrozenModel
from pipeline.config_trackers import Sam2Config, TrackerConfig

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def parse_bytes(value: object) -> object:
    """`"512 MiB"` or a plain number of bytes to int bytes; anything else is left to pydantic."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z]*)\s*", value)
        if not match or match[2].lower() not in _UNITS:
            raise ValueError("not a size in bytes such as 512MiB or 2GiB")
        return int(float(match[1]) * _UNITS[match[2].lower()])
    return value


def parse_fps(value: object) -> object:
    """A frame rate as `30`, `29.97` or `30000/1001`, kept exact as a Fraction."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError("not a frame rate such as 2, 0.5 or 30000/1001") from None


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)]
Auto = Literal["auto"]
CountOrAuto = PositiveInt | Auto
SecondsOrAuto = PositiveFloat | Auto


class Sampling(FrozenModel):
    """Which frames are looked at; exactly one of the three, every frame where none is given."""

    stride: PositiveInt | None = None
    fps: Annotated[Fraction, BeforeValidator(parse_fps)] | None = None
    keyframes: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Sampling:
        given = [k for k in ("stride", "fps", "keyframes") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of stride, fps and keyframes, not {' and '.join(given)}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError("fps must be above 0 and at most 1000")
        return self

    def identity(self) -> dict[str, object]:
        if self.fps is not None:
            return {"fps": str(self.fps)}
        if self.keyframes:
            return {"keyframes": True}
        return {"stride": self.stride or 1}


class ClipConfig(FrozenModel):
    """The window that a model is given at once, in sampled frames."""

    length: PositiveInt = 32
    stride: PositiveInt | None = None

    @model_validator(mode="after")
    def _no_gaps(self) -> ClipConfig:
        if self.stride is not None and self.stride > self.length:
            raise ValueError(f"stride {self.stride} above length {self.length} would skip frames")
        return self

    @property
    def step(self) -> int:
        return self.stride or self.length


class DecodeConfig(FrozenModel):
    backend: Literal["pyav", "opencv"] = "pyav"
    threads: Annotated[PositiveInt, Field(le=64)] = 1
    """FFmpeg threads of each decoder. One: the workers are the parallelism."""
    max_pixels: PositiveInt = 8192 * 4320
    """Pixels of one frame above which a video is refused."""
    max_frames: PositiveInt = 5_000_000
    """Frames above which a video is refused: 46 hours at 30 a second."""
    max_duration: PositiveFloat = 7 * 86400.0
    """Seconds from the first pts to the last above which a video is refused."""
    max_corrupt: PositiveInt = 1000
    """Packets of a shard that cannot be decoded above which the shard is given up."""
    max_memory: Bytes | Literal["auto", "none"] = "auto"
    """Address space (Linux) that a decoding process may take beyond what it has when it begins with
    a video or a shard. auto: as memory.limit. Never in a process that uses a GPU."""
    cache: Bytes | Auto = "auto"
    """Of objects from a store, on each node's disk. auto: 20 GiB, or half of what is free."""
    cache_folder: str | None = None
    """Where a node keeps them; None: its folder for temporary files."""


class CacheConfig(FrozenModel):
    """Decoded frames made smaller, kept on each node's disk for later runs."""

    format: Literal["npy"] = "npy"
    height: Annotated[PositiveInt, Field(ge=16)] = 256
    """Pixels of a picture's shorter side, as in 720p; smaller pictures stay as they are."""
    budget_gb: Annotated[PositiveFloat, Field(le=10**6)] = 100.0
    """10**9 bytes on each node."""
    folder: str | None = None
    """Where a node keeps them; None: XDG_CACHE_HOME, or .cache in the user's home."""

    @property
    def budget_bytes(self) -> int:
        return int(self.budget_gb * 10**9)


class ProbeConfig(FrozenModel):
    """A 16x9 grid of mean colours as the embedding: no model, for plumbing and throughput."""

    backend: Literal["probe"]


class ModelConfig(FrozenModel):
    model: str
    """`builtin:NAME` (shipped with frameledger), a local folder, or a hub name."""
    revision: str | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    batch: CountOrAuto = "auto"
    compile: bool = False
    """Let torch.compile build the model's kernels: minutes at the start, faster for long runs.
    Needs a C++ compiler, on a GPU Triton."""


class TransformersDetectorConfig(ModelConfig):
    backend: Literal["transformers"]
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Detectron2Config(FrozenModel):
    backend: Literal["detectron2"]
    config: str
    """`builtin:detectron2`, a YAML file, or a name in the model zoo of the installed Detectron2."""
    weights: str | None = None
    """A .pth, .safetensors or .pkl file, or its URL; None: model.safetensors beside the YAML."""
    class_names: tuple[str, ...] | None = None
    """By class id. None: classes.txt beside the YAML, or those of the data set it names."""
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    masks: bool = True
    """False leaves the masks of a model that has them away."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    batch: CountOrAuto = "auto"


DetectorConfig = Annotated[
    TransformersDetectorConfig | Detectron2Config, Field(discriminator="backend")
]


class ClipEmbedderConfig(ModelConfig):
    backend: Literal["clip"]


EmbedderConfig = Annotated[ProbeConfig | ClipEmbedderConfig, Field(discriminator="backend")]


class EngineConfig(FrozenModel):
    name: Literal["ray", "local"] = "ray"
    placement: Literal["auto", "split", "fused"] = "auto"
    workers: CountOrAuto = "auto"
    """Decoding actors: decoders when split, fused workers otherwise. auto: one per CPU."""
    analyzers: CountOrAuto = "auto"
    """Analyzer actors when split. auto: one per GPU, without GPUs one per node."""
    min_workers: PositiveInt | None = None
    """Bounds of auto. What the cluster has no room for yet is asked for, so that one that scales
    itself grows: up to the maximum where it is given, else to the minimum (default: one)."""
    max_workers: PositiveInt | None = None
    min_analyzers: PositiveInt | None = None
    max_analyzers: PositiveInt | None = None
    head: Literal["auto", "use", "leave"] = "auto"
    """The node that runs Ray's own services. auto: left alone once another node can do the work;
    leave: also while it is the only one."""
    gpus_per_analyzer: PositiveFloat = 1.0
    """A part of a GPU, or a whole number of them."""
    analyzers_per_collector: PositiveInt = 32
    """Analyzers, or fused workers, for each process that writes the tables."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    attempts: PositiveInt = 3
    """How often a shard, or a clip of it, is tried before it becomes a failure."""
    clip_timeout: SecondsOrAuto = "auto"
    """Seconds after which a clip that has not come is taken to be stuck: its process is replaced
    and the clip tried again. auto: by its pixels, see `engine.timing`."""
    # Of tracks of pictures too, which have no limit by `auto`.
    shard_timeout: SecondsOrAuto = "auto"
    """The same for a whole shard, and below for reading the packets of a video."""
    index_timeout: SecondsOrAuto = "auto"
    start_timeout: PositiveFloat = 600.0
    """Seconds that a worker may take to load its models, from when Ray has given it a process: it
    is replaced then. Waiting for room on the cluster does not count."""
    same_failures: NonNegativeInt = 10
    """Videos in a row that fail for the same reason, one that lies not in the file, after which
    the run stops: it is the reason that has to go. 0: never."""

    @model_validator(mode="after")
    def _counts(self) -> EngineConfig:
        for name in ("workers", "analyzers"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            given = [key for key, bound in (("min", least), ("max", most)) if bound is not None]
            if given and getattr(self, name) != "auto":
                raise ValueError(
                    f"{given[0]}_{name} is a bound of {name}: auto; with {name}: "
                    f"{getattr(self, name)} leave it out"
                )
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{name} {least} is above max_{name} {most}")
        if self.gpus_per_analyzer > 1 and self.gpus_per_analyzer % 1:
            raise ValueError(
                f"gpus_per_analyzer {self.gpus_per_analyzer:g}: a part of a GPU such as 0.5, or a "
                "whole number of them"
            )
        return self


class MemoryConfig(FrozenModel):
    limit: Bytes | Auto = "auto"
    """Private memory of all processes and the object store together. auto: half of the RAM."""
    in_flight: Bytes | Auto = "auto"
    """Decoded pixels between decoders and analyzers. auto: an eighth of the limit."""


class CommitConfig(FrozenModel):
    bytes: Bytes = 4 * 2**20
    """Commit when this much is buffered ..."""
    seconds: PositiveFloat = 30.0
    """... or when the oldest buffered shard has waited this long."""


class PriceConfig(FrozenModel):
    """What a run costs, for its report."""

    per_hour: PositiveFloat
    """Of all machines together, for the time from a run's start to its end."""
    currency: Annotated[str, Field(min_length=1, max_length=16)] = "USD"


class AlertConfig(FrozenModel):
    """Who is told how a run has ended."""

    webhook_env: str
    """Name of the environment variable that holds the URL, which is a secret."""
    on: Literal["failure", "always"] = "failure"
    """failure: of runs with an exit code other than 0."""

    @model_validator(mode="before")
    @classmethod
    def _on_is_no_truth(cls, data: Any) -> Any:
        # YAML 1.1 reads the bare key `on` as true.
        if isinstance(data, dict) and True in data:
            data = {("on" if key is True else key): value for key, value in data.items()}
        return data

    @model_validator(mode="after")
    def _is_a_name(self) -> AlertConfig:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.webhook_env):
            raise ValueError("webhook_env must be the name of an environment variable")
        return self


class Config(FrozenModel):
    """One run: what to look at, with what, and how."""

    sampling: Sampling = Sampling()
    clip: ClipConfig = ClipConfig()
    decode: DecodeConfig = DecodeConfig()
    cache: CacheConfig | None = None
    detector: DetectorConfig | None = None
    embedder: EmbedderConfig | None = None
    tracker: TrackerConfig | None = None
    engine: EngineConfig = EngineConfig()
    memory: MemoryConfig = MemoryConfig()
    commit: CommitConfig = CommitConfig()
    price: PriceConfig | None = None
    alert: AlertConfig | None = None
    inputs: tuple[str, ...] = ()
    """Used when the command line names no input."""
    links: Literal["inside", "anywhere"] = "inside"
    """Links found in a folder lead to files in it; `anywhere`: out of it too, and to folders."""

    @model_validator(mode="after")
    def _tracks_of_boxes(self) -> Config:
        if self.tracker is not None and self.detector is None:
            raise ValueError("tracker: tracks are made of detections; configure a detector too")
        if isinstance(self.tracker, Sam2Config) and self.decode.backend != "pyav":
            raise ValueError("tracker: sam2 looks at exact frames; it needs decode.backend: pyav")
        return self
