from __future__ import annotations

import time
import urllib.request

import pytest

from pipeline.engine.metrics import RunMetrics
from pipeline.engine.tracker import Ack, RunStats


def test_what_prometheus_reads(ray_here):
    metrics = RunMetrics("run-7")
    stats = RunStats(host_bytes=5 * 2**20)
    stats.failures = 2
    ack = Ack("task", 1, clips=1, frames=32, decode_s=0.5, steps_s={"detector.forward": 1.5})
    metrics.saw(ack, stats)
    metrics.saw(ack, stats)
    node = ray_here.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 60
    text = ""
    while "frameledger_frames_total" not in text:
        if time.monotonic() > deadline:
            pytest.fail(f"no figures at {address}: {text[:300]}")
        time.sleep(1)
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                text = page.read().decode()
        except OSError:
            continue
    lines = [line for line in text.splitlines() if "frameledger" in line and "run-7" in line]

    def value(*words: str) -> float:
        (line,) = [line for line in lines if all(word in line for word in words)]
        return float(line.split()[-1])

    assert value("frames_total") == 64
    assert value("step_seconds", 'step="detector.forward"') == 3.0
    assert value("step_seconds", 'step="decode"') == 1.0
    assert value("failures") == 2
    assert value("memory", 'where="host"') == 5 * 2**20
