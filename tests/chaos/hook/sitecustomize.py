"""Python imports this in every process of a disturbed run, since its folder is on PYTHONPATH.

It puts the round's faults where the run's own code meets them: a marked frame crashes or hangs
whoever indexes, decodes or analyzes it, a marked start whoever loads models, and files grow no
further than they may. Which, is read from `OUTPUT.faults/faults.json`; how often a mark was met is
kept beside it.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import json
import os
import sys
import time
from types import ModuleType
from typing import Any

_device_lost = False
"""A kernel has read where it may not: whatever this process computes from now on fails as well."""


class Faults:
    """The faults of one output."""

    def __init__(self, output: str) -> None:
        self._folder = output + ".faults"
        self._told: dict[str, Any] = {}
        try:
            with open(os.path.join(self._folder, "faults.json")) as file:
                self._told = json.load(file)
        except FileNotFoundError:
            pass

    def pace(self) -> None:
        """Until the file `hurry` is there."""
        if not os.path.exists(os.path.join(self._folder, "hurry")):
            time.sleep(self._told.get("pace_s", 0.0))

    def collect_slowly(self) -> None:
        time.sleep(self._told.get("collect_s", 0.0))

    def limit_files(self) -> None:
        if self._told.get("file_bytes"):
            import resource

            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._told["file_bytes"], hard))

    def meet(self, stage: str, video: str, start: int = 0, stop: int = 0) -> None:
        """Somebody is at frames [start, stop) of a video, named by its path or its id."""
        mark = self._told.get("mark")
        if not mark or mark["stage"] != stage or mark[stage] != video:
            return
        if stage in ("decode", "analyze") and not start <= mark["frame"] < stop:
            return
        if mark["times"] and self._met() > mark["times"]:
            return
        if mark["how"] == "crash":
            os._exit(13)
        if mark["how"] == "illegal":
            global _device_lost
            _device_lost = True
            return
        if mark["how"] == "raise":
            raise RuntimeError("marked to be raised")
        while True:
            time.sleep(3600)

    def _met(self) -> int:
        """Counts this meeting in, and returns the meetings so far."""
        with open(os.path.join(self._folder, "met"), "ab") as file:
            file.write(b".")
            file.flush()
            return file.tell()


def patch_worker(module: ModuleType) -> None:
    decoder, group = module.Decoder, module.AnalyzerGroup
    _remember_job(decoder)
    _remember_job(group)
    index, decode, analyze = decoder.index, decoder.decode, group.analyze
    setup = group.setup

    @functools.wraps(setup)
    def marked_setup(self):  # type: ignore[no-untyped-def]
        self.faults.meet("start", "")
        setup(self)

    @functools.wraps(index)
    def marked_index(self, source):  # type: ignore[no-untyped-def]
        self.faults.meet("index", source.uri)
        return index(self, source)

    @functools.wraps(decode)
    def marked_decode(self, task, *args, **kwargs):  # type: ignore[no-untyped-def]
        for item in decode(self, task, *args, **kwargs):
            if isinstance(item, module.ClipPixels):
                self.faults.pace()
                self.faults.meet("decode", task.source.uri, *_frames(item))
            yield item

    @functools.wraps(analyze)
    def marked_analyze(self, clip, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.faults.meet("analyze", clip.task_key.split("/")[0], *_frames(clip))
        return analyze(self, clip, *args, **kwargs)

    decoder.index, decoder.decode, group.analyze = marked_index, marked_decode, marked_analyze
    group.setup = marked_setup
    run = group._run
    group._run = staticmethod(lambda member, frames: run(_on_device(member), frames))


def _on_device(member: Any) -> Any:
    if not _device_lost:
        return member

    class Lost:
        name = member.name

        def analyze(self, frames):  # type: ignore[no-untyped-def]
            import torch  # noqa: F401

            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return Lost()


def patch_collect(module: ModuleType) -> None:
    create, add = module.Collector.__init__, module.Collector.add

    @functools.wraps(create)
    def limited(self, job, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.faults = Faults(job.output)
        self.faults.limit_files()
        create(self, job, *args, **kwargs)

    @functools.wraps(add)
    def slow(self, parcel):  # type: ignore[no-untyped-def]
        self.faults.collect_slowly()
        return add(self, parcel)

    module.Collector.__init__, module.Collector.add = limited, slow


def _remember_job(kind: Any) -> None:
    create = kind.__init__

    @functools.wraps(create)
    def remembering(self, job, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.faults = Faults(job.output)
        create(self, job, *args, **kwargs)

    kind.__init__ = remembering


def _frames(clip: Any) -> tuple[int, int]:
    """The frames that a clip owns; every frame is sampled, so positions are frame indices. None
    where it was quarantined: nobody looks at them."""
    return (clip.clip.own_start, clip.clip.own_stop) if len(clip.positions) else (0, 0)


PATCHES = {"pipeline.engine.worker": patch_worker, "pipeline.engine.collect": patch_collect}


class Finder(importlib.abc.MetaPathFinder):
    """Patches the modules of `PATCHES` as they are imported, and imports nothing by itself."""

    def find_spec(self, name, path, target=None):  # type: ignore[no-untyped-def]
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def patched(module: ModuleType) -> None:
                run(module)
                PATCHES[name](module)

            spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
