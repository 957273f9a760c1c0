"""The analyzer protocol: what a detector, an embedder, later a tracker, has to offer.

An analyzer is built from its configuration alone (cheap: no model is loaded), tells its
`identity` (which names the analysis), and loads its model in `setup`, in the process that will
run it. It knows nothing of videos, global indices, actors or tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pipeline.analyzers.steps import StepTimes
from pipeline.clip_pixels import PixelFormat

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.analyzers.frames import FrameBatch

TableName = Literal["detections", "embeddings"]


@dataclass(frozen=True)
class ModelFacts:
    """What a loaded model is, for people."""

    kind: str
    """Class of the model, or what it computes."""
    parameters: int = 0
    classes: tuple[str, ...] = ()
    """Names by class id, of a detector."""


class Analyzer(Protocol):
    """One member of a run. Implementations are plain classes; nothing is inherited."""

    name: str
    """The role in the configuration, unique in a run: `detector` or `embedder`."""
    table: TableName
    pixel_format: PixelFormat
    """What it wants the decoder to deliver on a CPU; on a GPU yuv420p is uploaded for all."""

    SEMANTICS: ClassVar[int]
    """Version of the code's meaning; raised whenever the same input would give other output."""

    @property
    def notes(self) -> list[str]:
        """What happened that a user should hear of, such as batches cut for lack of memory.

        Whoever reads them clears the list.
        """
        ...

    @property
    def steps(self) -> StepTimes:
        """Where the time of `analyze` went; whoever reads it drains it."""
        ...

    def identity(self) -> dict[str, object]:
        """Everything that changes the output, JSON-serialisable, without loading the model.

        Weights by sha256, preprocessing, thresholds, precision and `SEMANTICS`; never batch
        size, device or actor count. Raises `ConfigError` where the model cannot be found.
        """
        ...

    def smallest_side(self) -> int | None:
        """Pixels that the shorter side of a picture may be scaled down to before it is handed
        over; None where only whole pictures will do, as for whoever tells places in them."""
        ...

    def weights_bytes(self) -> int:
        """Size of the files that `setup` will load."""
        ...

    def setup(self, device: str) -> None:
        """Load the model onto `device` ("cpu" or "cuda") and put it in inference mode."""
        ...

    def facts(self) -> ModelFacts:
        """What `setup` has loaded."""
        ...

    def analyze(self, frames: FrameBatch) -> pa.Table:
        """Analyze consecutive frames of one size (batched inside as the analyzer sees fit).

        Returns a table with an int64 column `local` (0 .. len(frames) - 1, ascending) and the
        columns of its table: for `detections` x1, y1, x2, y2, score (float32, absolute pixels of
        the displayed frame), class_id (int32), class_name (string), mask and keypoints (null
        where there is none), best score first within a frame; for `embeddings` `embedding`
        (list of float32), exactly one row a frame. `pipeline.ledger.schema.DATA_COLUMNS` holds
        the types.
        """
        ...


def facts_of(model: Any, classes: tuple[str, ...] = ()) -> ModelFacts:
    """The facts of a torch module."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelFacts(type(model).__name__, parameters, classes)
