"""Whether a frame made again is the one in the tables: within what tolerance, and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.records import VideoIndex

COSINE = 0.9999
LENGTH = 1e-3
"""Relative difference of an embedding's length."""
BOX_PX = 0.5
SCORE = 1e-3
"""Tolerances: what frameledger promises between devices, batch sizes and the models' own code."""


def differences(there: VideoIndex, again: VideoIndex) -> Iterator[str]:
    """Names of what two indices of the same bytes do not agree in."""
    for name in ("pts", "keyframes"):
        if not np.array_equal(getattr(there, name), getattr(again, name)):
            yield name
    for name in ("time_base", "width", "height", "rotation", "stream_index"):
        if getattr(there, name) != getattr(again, name):
            yield name


def compare_embeddings(there: list[dict[str, Any]], again: list[dict[str, Any]]) -> str:
    """What differs between a frame's embedding and the one made again; empty where nothing."""
    if len(there) != len(again):
        return f"{len(there)} embeddings, made again {len(again)}"
    for one, two in zip(there, again, strict=True):
        a, b = (np.asarray(row["embedding"], np.float64) for row in (one, two))
        if a.shape != b.shape:
            return f"{len(a)} dimensions, made again {len(b)}"
        lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        if not np.isfinite(lengths).all() or abs(lengths[0] - lengths[1]) > LENGTH * lengths[1]:
            return f"of length {lengths[0]:.6g}, made again {lengths[1]:.6g}"
        cosine = float(a @ b) / (lengths[0] * lengths[1]) if all(lengths) else 1.0
        if cosine < COSINE:
            return f"cosine {cosine:.6f} to the one made again, at least {COSINE} is expected"
    return ""


def compare_boxes(
    there: list[dict[str, Any]], again: list[dict[str, Any]], threshold: float
) -> str:
    """What differs between a frame's boxes and those made again; empty where nothing.

    A box whose score is at the threshold may be there or not.
    """
    left = list(again)
    for box in there:
        match = next((other for other in left if _same_box(box, other)), None)
        if match is not None:
            left.remove(match)
        elif box["score"] > threshold + SCORE:
            return f"box {_box_text(box)} is not among the {len(again)} made again"
    for box in left:
        if box["score"] > threshold + SCORE:
            return f"box {_box_text(box)}, made again, is not among the {len(there)} there"
    return ""


def _same_box(one: dict[str, Any], two: dict[str, Any]) -> bool:
    sides = (abs(one[name] - two[name]) <= BOX_PX for name in ("x1", "y1", "x2", "y2"))
    same = one["class_id"] == two["class_id"] and abs(one["score"] - two["score"]) <= SCORE
    return same and all(sides)


def _box_text(box: dict[str, Any]) -> str:
    corners = ", ".join(f"{box[name]:.1f}" for name in ("x1", "y1", "x2", "y2"))
    return f"{box['class_name']} ({corners}) of score {box['score']:.3f}"
