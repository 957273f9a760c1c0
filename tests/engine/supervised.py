"""Runs under Ray in which a marked frame crashes, hangs or breaks whoever meets it.

supervised FOLDER       plays all cases of `CASES`, each to FOLDER/NAME, and writes FOLDER/said.json

A process of its own: the faults come into Ray's workers by the environment that it is started in
(see tests/chaos/hook), so that the package itself knows nothing of them.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import FrameledgerError
from pipeline.runner import run
from tests.engine.test_engines import probe
from tests.videos import make

FRAMES = {"marked": 300, "healthy": 100}
SEVERAL = 14
"""Healthy videos around the marked one, where one after the other is to be met."""
MARKED_FRAME = 100

CASES: dict[str, dict[str, Any]] = {
    "crash-decode-split": {"stage": "decode", "how": "crash", "placement": "split"},
    "crash-analyze-fused": {"stage": "analyze", "how": "crash", "placement": "fused"},
    "hang-decode-split": {"stage": "decode", "how": "hang", "placement": "split"},
    "hang-analyze-fused": {"stage": "analyze", "how": "hang", "placement": "fused"},
    "crash-index": {"stage": "index", "how": "crash"},
    "hang-index": {"stage": "index", "how": "hang"},
    "hang-once-split": {"stage": "analyze", "how": "hang", "times": 1, "placement": "split"},
    "illegal-once-fused": {"stage": "analyze", "how": "illegal", "times": 1},
    "illegal-once-split": {"stage": "analyze", "how": "illegal", "times": 1, "placement": "split"},
}
CASES["collector-idle"] = {
    "stage": "none",
    "how": "",
    "pace_s": 0.3,
    "kill": "collector",
    "workers": 2,
}
"""It dies while nothing is with it: clips come more slowly than it comes back."""
CASES["hang-start-once"] = {"stage": "start", "how": "hang", "times": 1, "placement": "split"}
CASES |= {
    f"{how}-start": {"stage": "start", "how": how, "placement": placement}
    for how, placement in (("hang", "fused"), ("crash", "split"), ("raise", "split"))
}
CASES["room-comes-late"] = {"stage": "none", "how": "hang", "full_s": 10.0}
"""Others have all CPUs for longer than three starts may take."""
CASES |= {
    f"late-{placement}": {
        "stage": stage,
        "how": "crash",
        "times": 1,
        "placement": placement,
        "attempts": 1,
        "collect_s": 0.4,
        "videos": "several",
        "workers": 2,
    }
    for placement, stage in (("fused", "decode"), ("split", "analyze"))
}
"""The collector, from which results are heard, is far behind; a video has one try."""
ALONE = ("collector-idle", "room-comes-late")
"""What these do to a cluster, all runs on it would feel."""
CPUS, AT_ONCE = 4, 3
LIMITS = {"clip_timeout": 3.0, "index_timeout": 3.0, "start_timeout": 3.0}


def main(folder: Path) -> None:
    import ray

    videos = {name: make(folder / "v" / f"{name}.mp4", n, gop=30) for name, n in FRAMES.items()}
    for number in range(SEVERAL):
        make(folder / "several" / f"{number:02}.mp4", 100 + number, gop=30)
    shutil.copy(videos["marked"], folder / "several" / "02 marked.mp4")
    ray.init(
        address="local",
        num_cpus=CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 * 2**20,
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        beside = {name: pool.submit(play, folder, name) for name in CASES if name not in ALONE}
    said = {name: one.result() for name, one in beside.items()}
    said |= {name: play(folder, name) for name in ALONE}
    (folder / "said.json").write_text(json.dumps(said))
    ray.shutdown()


def play(folder: Path, name: str) -> dict[str, Any]:
    """One case: what the run said of itself."""
    output, case = folder / name, CASES[name]
    corpus = folder / case.get("videos", "v")
    marked = next(corpus.glob("*marked.mp4"))
    tell(output, case, marked)
    if case.get("kill") == "collector":
        kill_collector(output)
    if case.get("full_s"):
        fill(case["full_s"])
    limits = LIMITS if case["how"] == "hang" else {}
    usual = {"placement": "auto", "workers": 1, "attempts": 3}
    engine = {name: case.get(name, value) for name, value in usual.items()} | limits
    try:
        return run(probe(engine=engine), [str(corpus)], output, engine="ray").as_dict()
    except FrameledgerError as error:
        return {"error": str(error)}


def tell(output: Path, case: dict[str, Any], video: Path) -> None:
    """What tests/chaos/hook reads."""
    from pipeline.sources.files import sha256_of

    mark = {
        "stage": case["stage"],
        "how": case["how"],
        "times": case.get("times", 0),
        "frame": MARKED_FRAME,
        "index": str(video),
        "decode": str(video),
        "analyze": sha256_of(str(video)),
        "start": "",
    }
    folder = Path(f"{output}.faults")
    folder.mkdir()
    told = {"mark": mark, **{name: case.get(name, 0.0) for name in ("pace_s", "collect_s")}}
    (folder / "faults.json").write_text(json.dumps(told))


def kill_collector(output: Path) -> None:
    """Kill it, from a thread, once it has taken something in."""

    def kill() -> None:
        while not any(path.stat().st_size > 1000 for path in output.glob("_journal/*/*.journal")):
            time.sleep(0.05)
        for process in psutil.Process().children(recursive=True):
            if "ray::CollectorActor" in " ".join(process.cmdline()):
                process.kill()

    threading.Thread(target=kill, daemon=True).start()


def fill(seconds: float) -> None:
    """Take all CPUs of the cluster for a while."""
    import ray

    class Other:
        def is_there(self) -> bool:
            return True

    other = ray.remote(num_cpus=CPUS)(Other).remote()
    ray.get(other.is_there.remote())
    threading.Timer(seconds, ray.kill, [other]).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
