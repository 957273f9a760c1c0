from __future__ import annotations

import time
import urllib.request

import pytest

from pipeline.engine.metrics import RunMetrics
from pipeline.engine.stats import Ack, RunStats

EXPECTED = {
    ("frames_total",): 64,
    ("step_seconds", 'step="detector.forward"'): 3.0,
    ("step_seconds", 'step="decode"'): 1.0,
    ("failures",): 2,
    ("memory", 'where="host"'): 5 * 2**20,
}


def test_what_prometheus_reads(ray_here):
    metrics = RunMetrics("run-7")
    stats = RunStats(host_bytes=5 * 2**20)
    stats.failures = 2
    ack = Ack("task", 1, clips=1, frames=32, decode_s=0.5, steps_s={"detector.forward": 1.5})
    metrics.saw(ack, stats)
    metrics.saw(ack, stats)
    metrics.push()
    node = ray_here.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 300
    found: dict[tuple[str, ...], float] = {}
    while found != EXPECTED:
        if time.monotonic() > deadline:
            pytest.fail(f"{address} says {found}")
        time.sleep(1)
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            continue
        mine = [line for line in lines if "frameledger" in line and "run-7" in line]
        found = {
            words: float(line.split()[-1])
            for words in EXPECTED
            for line in mine
            if all(word in line for word in words)
        }
