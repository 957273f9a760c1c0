"""`frameledger profile`: what it concludes, and a real sweep."""

from __future__ import annotations

import pytest

from pipeline.config_file import parse_config
from pipeline.errors import UsageError
from pipeline.profiling import Profile, Trial, profile
from tests.videos import make


def trial(length: int, batch: int | None, decode: float, **analyze: float) -> Trial:
    return Trial(length, batch, decode, analyze, memory_bytes=0)


def test_models_run_after_one_another():
    assert trial(8, 4, 100, detector=30.0, embedder=60.0).models == pytest.approx(20)
    assert trial(8, None, 100).models == float("inf")


def test_what_a_run_comes_to():
    one = trial(8, 4, 100, detector=50.0)
    # Each of two workers: 10 ms of decoding and 20 ms of the model a frame.
    assert Profile("cpu", 2, fused=True).run_rate(one) == pytest.approx(2 / 0.03)
    assert Profile("cuda", 2, fused=False).run_rate(one) == pytest.approx(50)
    assert Profile("cuda", 2, fused=False).run_rate(trial(8, 4, 20, detector=50.0)) == 40
    assert Profile("cpu", 2, fused=True).run_rate(trial(8, None, 20)) == 40


def test_the_smallest_that_is_as_fast_is_recommended():
    found = Profile("cuda", 4, fused=False)
    found.trials = [
        trial(8, 8, 100, detector=50.0),
        trial(16, 8, 100, detector=97.0),
        trial(32, 8, 100, detector=98.0),
        trial(32, 16, 100, detector=100.0),
    ]
    assert (found.best.length, found.best.batch) == (16, 8)
    assert found.limit == "the models, most of it the detector: 97 frames/s"
    found.trials = [trial(8, 1, 10, detector=97.0)]
    assert found.limit == "decoding: 4 decoders together 40 frames/s"


def test_a_sweep(tmp_path):
    path = make(tmp_path / "a.mp4", 40)
    config = parse_config({"embedder": {"backend": "clip", "model": "builtin:clip"}}, where="t")
    *trials, result = profile(config, str(path))
    assert {t.length for t in trials} == {8, 16, 32, 64}
    assert {t.batch for t in trials if t.length == 8} == {1, 2, 4, 8}
    assert all(t.decode > 0 and t.analyze["embedder"] > 0 and t.memory_bytes > 0 for t in trials)
    assert result.best in trials


def test_what_is_no_video_is_an_error(tmp_path):
    (tmp_path / "a.txt.mp4").write_text("no video")
    with pytest.raises(UsageError, match="not a video"):
        list(profile(parse_config({}, where="t"), str(tmp_path / "a.txt.mp4")))
