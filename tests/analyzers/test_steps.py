from __future__ import annotations

import time

from pipeline.analyzers.steps import StepTimes


def test_seconds_add_up_by_step_until_they_are_drained():
    steps = StepTimes()
    for _ in range(3):
        with steps.step("forward"):
            time.sleep(0.01)
    with steps.step("preprocess"):
        pass
    found = steps.drain()
    assert found.keys() == {"forward", "preprocess"}
    assert 0.03 <= found["forward"] < 1
    assert found["preprocess"] < found["forward"]
    assert steps.drain() == {}
