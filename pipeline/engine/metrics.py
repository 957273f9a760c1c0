"""A run's figures as Ray metrics, which Prometheus scrapes from every node."""

from __future__ import annotations

import collections

from ray.util.metrics import Counter, Gauge

from pipeline.engine.stats import Ack, RunStats


class RunMetrics:
    """What has been done since the run began, and what is under way; set by the driver."""

    def __init__(self, run_id: str) -> None:
        keys = ("run_id",)
        self._clips = _counter("clips", "Clips decoded and analyzed.", keys)
        self._frames = _counter("frames", "Frames decoded and analyzed.", keys)
        self._failures = Gauge("frameledger_failures", "Rows of failures.", keys)
        self._in_flight = Gauge("frameledger_in_flight_bytes", "Decoded pixels.", keys)
        self._seconds = _counter("step_seconds", "Seconds of work by step.", (*keys, "step"))
        self._memory = Gauge(
            "frameledger_process_memory_bytes",
            "Largest of any process that analyzes, on the host and on its device.",
            (*keys, "where"),
        )
        every = (self._clips, self._frames, self._failures, self._in_flight)
        for metric in (*every, self._seconds, self._memory):
            metric.set_default_tags({"run_id": run_id})

        self._stats: RunStats | None = None
        self._new: collections.Counter[str] = collections.Counter()
        """Seconds by step, clips and frames since the last push."""

    def saw(self, ack: Ack, stats: RunStats) -> None:
        """Note what an acknowledged parcel brought, to be pushed."""
        self._stats = stats
        self._new.update({"clips": ack.clips, "frames": ack.frames, "decode": ack.decode_s})
        self._new.update(ack.steps_s)

    def push(self) -> None:
        """Tell Ray; every single one of these calls takes its time, so it is done in bulk."""
        stats, new = self._stats, self._new
        if stats is None:
            return
        self._new = collections.Counter()
        for name, metric in (("clips", self._clips), ("frames", self._frames)):
            if count := new.pop(name, 0):
                metric.inc(count)
        self._failures.set(stats.failures)
        self._in_flight.set(stats.in_flight_bytes)
        self._memory.set(stats.host_bytes, {"where": "host"})
        self._memory.set(stats.device_bytes, {"where": "device"})
        for step, seconds in new.items():
            if seconds > 0:
                self._seconds.inc(seconds, {"step": step})


def _counter(name: str, what: str, keys: tuple[str, ...]) -> Counter:
    return Counter(f"frameledger_{name}_total", what, keys)
