"""A tracker's state as text, so that another process goes on to the bit where one has stopped.

JSON with numbers as Python writes them, which float64 survives exactly, compressed and in base64:
it is kept in a row of `shards`. Nothing of it is ever run. Which attributes of the package's
objects make up its state is written down here and nowhere else; whatever is not named here follows
from the configuration.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

_FILTER = ("state", "state_covariance", "transition_mtx", "process_noise")
"""What of a Kalman filter changes; `observation_mtx` and `measurement_noise` are constants."""
_COUNTS = (
    "age",
    "tracker_id",
    "time_since_update",
    "time_since_update_seconds",
    "number_of_successful_consecutive_updates",
)
_OBSERVED = ("last_observation", "previous_to_last_observation", "velocity")
"""Of OC-SORT alone: boxes and a direction."""


def pack(value: dict[str, Any]) -> str:
    """JSON as compressed text."""
    text = json.dumps(value, separators=(",", ":"))
    return base64.b85encode(zlib.compress(text.encode(), 6)).decode()


def unpack(text: str) -> dict[str, Any]:
    """What was packed."""
    return dict(json.loads(zlib.decompress(base64.b85decode(text))))


def tracklet_state(tracklet: Any) -> dict[str, Any]:
    """One track of the package."""
    estimator = tracklet.state_estimator
    found: dict[str, Any] = {name: getattr(tracklet, name) for name in _COUNTS}
    found["filter"] = _numbers({name: getattr(estimator.kf, name) for name in _FILTER})
    # A step that is as long as the one before takes the matrices made for that.
    found["step"] = estimator.motion.cached_step
    found["noise"] = _plain(estimator.motion._cached_process_noise)
    if hasattr(tracklet, "observations"):
        found |= {name: _plain(getattr(tracklet, name)) for name in _OBSERVED}
        found["observations"] = [[at, _plain(box)] for at, box in tracklet.observations.items()]
        frozen = tracklet._frozen_state
        found["frozen"] = None if frozen is None else _numbers({n: frozen[n] for n in _FILTER})
        found["observed"] = tracklet._observed
    return found


def restore_tracklet(tracklet: Any, found: dict[str, Any]) -> None:
    """Make a track that was made anew, of whatever box, the one that was saved."""
    from trackers.utils.motion_models import constant_velocity_transition_matrix

    for name in _COUNTS:
        setattr(tracklet, name, found[name])
    estimator = tracklet.state_estimator
    for name in _FILTER:
        setattr(estimator.kf, name, _array(found["filter"][name]))
    motion = estimator.motion
    motion.cached_step = found["step"]
    motion._cached_process_noise = _array(found["noise"])
    if found["step"] is not None:
        motion._cached_transition_mtx = constant_velocity_transition_matrix(
            motion.dim_x, motion.pos_idx, motion.vel_idx, found["step"]
        )
    if "observations" in found:
        for name in _OBSERVED:
            setattr(tracklet, name, _array(found[name]))
        tracklet.observations = {at: _array(box) for at, box in found["observations"]}
        tracklet._observed = found["observed"]
        frozen = found["frozen"]
        if frozen is not None:
            frozen = estimator.get_state() | {name: _array(frozen[name]) for name in _FILTER}
        tracklet._frozen_state = frozen


def _numbers(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: _plain(array) for name, array in arrays.items()}


def _plain(array: np.ndarray | None) -> Any:
    return None if array is None else array.tolist()


def _array(numbers: Any) -> Any:
    return None if numbers is None else np.array(numbers, np.float64)
