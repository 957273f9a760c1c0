"""The analyzers of a process: together, from two threads, and what they say of their time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.clip_pixels import ClipPixels
from pipeline.config import CacheConfig
from pipeline.config_file import parse_config
from pipeline.engine.worker import AnalyzerGroup, Decoder, warm_up
from pipeline.runner import make_job
from pipeline.sources.index import index_video
from pipeline.sources.plan import plan_video
from tests.sources.decoding import LIMITS, source_of
from tests.videos import make


@pytest.fixture
def job(tmp_path):
    config = {
        "clip": {"length": 5},
        "detector": {"backend": "transformers", "model": "builtin:detector"},
        "embedder": {"backend": "clip", "model": "builtin:clip"},
    }
    return make_job(parse_config(config, where="test"), str(tmp_path / "out"))


def clips_of(job, path) -> list[ClipPixels]:
    source = source_of(path)
    (task,) = plan_video(source, index_video(source, LIMITS), job.grid)
    found = Decoder(job, "cpu").decode(task, 1)
    return [item for item in found if isinstance(item, ClipPixels)]


def test_two_threads_get_what_one_gets(job, tmp_path):
    group = AnalyzerGroup(job, "cpu", 1)
    group.setup()
    clips = clips_of(job, make(tmp_path / "a.mp4", 20))
    due = tuple(job.by_fingerprint())
    one = [group.analyze(clip, due) for clip in clips]
    with ThreadPoolExecutor(2) as pool:
        two = list(pool.map(lambda clip: group.analyze(clip, due), clips))
    for alone, beside in zip(one, two, strict=True):
        assert alone.rows.keys() == beside.rows.keys()
        assert alone.clip == beside.clip
        for name, rows in alone.rows.items():
            assert rows.equals(beside.rows[name])


def test_a_result_says_where_its_time_went(job, tmp_path):
    group = AnalyzerGroup(job, "cpu", 1)
    group.setup()
    (clip, *_) = clips_of(job, make(tmp_path / "a.mp4", 5))
    result = group.analyze(clip, tuple(job.by_fingerprint()))
    steps = ("preprocess", "forward", "postprocess")
    assert set(result.steps_s) == {f"{n}.{s}" for n in ("detector", "embedder") for s in steps}
    for name, spent in result.analyze_s.items():
        inside = sum(s for step, s in result.steps_s.items() if step.startswith(name))
        assert 0.5 * spent < inside <= spent
    assert result.host_bytes > 2**26
    assert result.device_bytes == 0


def test_warming_up_leaves_no_trace(job):
    from pipeline.analyzers.registry import build_analyzers

    for member in build_analyzers(job.config):
        member.setup("cpu")
        warm_up(member)
        assert member.steps.drain() == {}
        assert member.notes == []
        assert member.batcher.size(360, 640) == 8


def test_a_job_tells_who_is_given_whole_pictures(job, tmp_path):
    frames, detector, embedder = job.by_fingerprint()
    assert job.takes_whole((frames,))  # Without a cache nobody is given others.
    cache = CacheConfig(height=96, folder=str(tmp_path))
    config = job.config.model_copy(update={"cache": cache})
    cached = make_job(config, str(tmp_path / "out"))
    assert list(cached.by_fingerprint())[:2] == [frames, detector]
    small = cached.analyses[2].fingerprint
    assert small != embedder
    assert cached.takes_whole((frames, detector, small))
    assert not cached.takes_whole((frames, small))
    assert not cached.takes_whole((frames,))
