"""A text or a picture as a vector, by the very model that wrote the embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import ClipEmbedderConfig
from pipeline.errors import UsageError
from pipeline.ledger.analyses import newest_analyses

if TYPE_CHECKING:
    from pipeline.ledger.analyses import RecordedAnalysis
    from pipeline.ledger.reader import Ledger

_SHOWN = 12
"""Digits of a sha256 in a message."""


def embeddings_analysis(ledger: Ledger, asked: str | None = None) -> RecordedAnalysis:
    """The newest analysis that wrote embeddings, or the one asked for by (the beginning of) its
    fingerprint. Raises UsageError where there is none."""
    known = [a for a in ledger.analyses() if a.table == "embeddings" and not a.leaving]
    if asked is not None:
        found = [a for a in known if a.fingerprint.startswith(asked)]
        if len(found) != 1:
            there = ", ".join(a.fingerprint for a in known) or "none"
            what = "more than one" if found else "no"
            raise UsageError(f"{ledger.output}: {what} analysis {asked}; embeddings: {there}")
        return found[0]
    newest = list(newest_analyses(known).values())
    if not newest:
        raise UsageError(
            f"{ledger.output}: no embeddings to search; run with an embedder, as configs/demo.yaml "
            "does"
        )
    return newest[-1]


def query_vector(
    ledger: Ledger,
    analysis: RecordedAnalysis,
    text: str | None = None,
    image: str | Path | None = None,
    model: str | None = None,
) -> np.ndarray:
    """float32 (dimensions,) of unit length: what the text or the picture would be as a frame.

    Args:
        image: a picture file. With a text too: what is like both, the sum of the two.
        model: where the model is now; by default what the run that wrote the rows named.

    Raises UsageError or ConfigError where the model that wrote the embeddings is not there,
    is another, or embeds no text; where neither text nor picture is given, or it cannot be read.
    """
    if not (text and text.strip()) and image is None:
        raise UsageError("nothing to search for: give a text, or a picture with --image")
    pixels = read_picture(image) if image is not None else None
    parts = []
    if analysis.identity.get("backend") == "probe":
        if text:
            raise UsageError(
                f"{ledger.output}: its embeddings are the probe's, which knows no text; search "
                "with --image, or run with the clip embedder"
            )
        parts.append(_probe_vector(pixels))
    else:
        config = _config(ledger, analysis, model)
        _check_same(ledger, analysis, config)
        if text:
            parts.append(_text_vector(config, text))
        if pixels is not None:
            parts.append(_image_vector(config, pixels))
    total = np.sum([part / max(np.linalg.norm(part), 1e-30) for part in parts], axis=0)
    length = float(np.linalg.norm(total))
    if not length:
        raise UsageError("what to search for has no direction: its vector is zero")
    return (total / length).astype(np.float32)


def read_picture(file: str | Path) -> np.ndarray:
    """uint8 RGB (height, width, 3), turned as its EXIF data say. Raises UsageError."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "not a picture that can be read"
        raise UsageError(f"--image {file}: {reason}") from None
    return np.asarray(upright, np.uint8)


def _config(ledger: Ledger, analysis: RecordedAnalysis, model: str | None) -> ClipEmbedderConfig:
    """The embedder of the last run that wanted these embeddings, with the model where it is."""
    precision = analysis.identity.get("precision", "fp32")
    given: dict[str, Any] = {"backend": "clip", "precision": precision}
    if model is not None:
        return ClipEmbedderConfig.model_validate({**given, "model": model})
    rows = ledger.table("runs", ["analyses", "config", "recorded_at"]).to_pylist()
    for row in sorted(rows, key=lambda row: row["recorded_at"], reverse=True):
        if analysis.fingerprint in (row["analyses"] or ()):
            embedder = json.loads(row["config"]).get("embedder") or {}
            named = {key: embedder[key] for key in ("model", "revision") if embedder.get(key)}
            if named.get("model"):
                return ClipEmbedderConfig.model_validate({**given, **named})
    raise UsageError(
        f"{ledger.output}: no run says where the model of embeddings {analysis.fingerprint} is; "
        "name it with --model"
    )


def _check_same(ledger: Ledger, analysis: RecordedAnalysis, config: ClipEmbedderConfig) -> None:
    """Raise UsageError where the model is not the one that wrote the embeddings."""
    from pipeline.analyzers.models import model_identity, resolve_model
    from pipeline.errors import ConfigError

    try:
        here = model_identity(resolve_model(config.model, config.revision))
    except ConfigError as error:
        raise UsageError(
            f"the model that wrote the embeddings of {ledger.output} is needed: {error}; say "
            "where it is with --model"
        ) from None
    there: Any = analysis.identity.get("model")
    for key, value in here.items():
        recorded = there.get(key) if isinstance(there, dict) else None
        if recorded != value:
            raise UsageError(
                f"model {config.model} did not write the embeddings of {ledger.output}: {key} is "
                f"{value!s:.{_SHOWN}} here, {recorded!s:.{_SHOWN}} there; name that model "
                "with --model"
            )


def _text_vector(config: ClipEmbedderConfig, text: str) -> np.ndarray:
    from pipeline.analyzers.models import resolve_model
    from pipeline.analyzers.text import text_embeddings

    found: np.ndarray = text_embeddings(resolve_model(config.model, config.revision), [text])[0]
    return found


def _image_vector(config: ClipEmbedderConfig, rgb: np.ndarray) -> np.ndarray:
    from pipeline.analyzers.clip import ClipEmbedder

    embedder = ClipEmbedder(config)
    embedder.setup("cpu")
    return _first(embedder, rgb)


def _probe_vector(rgb: np.ndarray | None) -> np.ndarray:
    from pipeline.analyzers.probe import ProbeEmbedder

    assert rgb is not None
    return _first(ProbeEmbedder(), rgb)


def _first(embedder: Any, rgb: np.ndarray) -> np.ndarray:
    from pipeline.analyzers.frames import FrameBatch
    from pipeline.clip_pixels import Pixels

    height, width = rgb.shape[:2]
    rows = embedder.analyze(FrameBatch(Pixels(rgb[None], "rgb24", width, height)))
    found: np.ndarray = rows.column("embedding")[0].values.to_numpy().astype(np.float32)
    return found
