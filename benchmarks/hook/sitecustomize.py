"""Python imports this in every process of the scaling benchmark, since its folder is on PYTHONPATH.

Analyzers stand for GPUs: each clip takes one of them so long, and hardly any of the CPU.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import time

CLIP_S = float(os.environ.get("FRAMELEDGER_CLIP_S", "0"))


class Finder(importlib.abc.MetaPathFinder):
    """Has `pipeline.engine.worker` sleep where it would compute; imports nothing by itself."""

    def find_spec(self, name, path, target=None):  # type: ignore[no-untyped-def]
        if name != "pipeline.engine.worker" or not CLIP_S:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def patched(module):  # type: ignore[no-untyped-def]
                run(module)
                group = module.AnalyzerGroup
                analyze = group._analyze

                def sleeping(self, clip, parts, due):  # type: ignore[no-untyped-def]
                    time.sleep(CLIP_S)  # Under the lock that lets one clip on the device.
                    return analyze(self, clip, parts, due)

                group._analyze = sleeping
                group._device_bytes = lambda self: 0

            spec.loader.exec_module = patched  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Finder())
