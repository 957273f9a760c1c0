"""What goes wrong beside or inside a run costs no row, and ends no run without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pipeline.errors import ConfigError, RunAborted, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.engine.test_engines import assert_whole, probe
from tests.videos import make


class Killer:
    """kill -9 (or another signal) of processes that decode or analyze, so many times, while a run
    goes on."""

    TITLES = (
        "FusedActor.stream",
        "DecoderActor.stream",
        "AnalyzerActor.analyze",
    )

    def __init__(
        self, times: int, titles: tuple[str, ...] = TITLES, how: int = signal.SIGKILL
    ) -> None:
        self.times, self.titles, self.how, self.killed = times, titles, how, []

    def __enter__(self) -> Killer:
        # Those of the run before may take their time to end.
        self._others = {process.pid for process in self._found()}
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _kill(self) -> None:
        deadline = time.monotonic() + 120
        while len(self.killed) < self.times and time.monotonic() < deadline:
            found = next((one for one in self._found() if one.pid not in self._others), None)
            if found is not None:
                os.kill(found.pid, self.how)
                self.killed.append(found.pid)
                time.sleep(0.5)
            time.sleep(0.005)

    def _found(self):  # type: ignore[no-untyped-def]
        import psutil

        # Of the Ray that this process has started, no other's.
        for process in psutil.Process().children(recursive=True):
            line = _command(process)
            if line.startswith("ray::") and any(title in line for title in self.titles):
                yield process


def _command(process) -> str:  # type: ignore[no-untyped-def]
    import psutil

    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize("placement", ["fused", "split"])
def test_17_a_killed_worker_costs_no_row(ray_here, tmp_path, placement):
    for number in range(6):
        make(tmp_path / "v" / f"{number}.mp4", 300 + number, gop=30)
    config = probe(engine={"placement": placement, "attempts": 3})
    with Killer(2) as killer:
        summary = run(config, [str(tmp_path / "v")], tmp_path / "out", engine="ray")
    assert len(killer.killed) == 2
    assert summary.videos_ok == 6
    assert_whole(tmp_path / "out", sum(300 + n for n in range(6)))


def test_what_was_queued_behind_a_shard_does_not_pay_for_it(ray_here, tmp_path):
    for number in range(8):
        make(tmp_path / "v" / f"{number}.mp4", 300 + number, gop=30)
    config = probe(engine={"placement": "fused", "attempts": 1, "workers": 1})
    with Killer(1) as killer:
        summary = run(config, [str(tmp_path / "v")], tmp_path / "out", engine="ray")
    assert len(killer.killed) == 1
    assert (summary.videos_failed, summary.videos_ok) == (1, 7)
    (failure, *_) = Ledger(tmp_path / "out").table("failures").to_pylist()
    assert "died" in failure["reason"]


@pytest.mark.parametrize(
    "engine",
    [
        {"placement": "fused"},
        {"placement": "split"},
        {"placement": "fused", "analyzers_per_collector": 1},
    ],
    ids=["fused", "split", "one-of-two"],
)
def test_a_dead_collector_costs_no_row(ray_here, tmp_path, engine):
    for number in range(6):
        make(tmp_path / "v" / f"{number}.mp4", 300 + number, gop=30)
    config = probe(engine=engine)
    with Killer(2, ("CollectorActor",)) as killer:
        summary = run(config, [str(tmp_path / "v")], tmp_path / "out", engine="ray")
    assert len(killer.killed) == 2
    assert summary.videos_ok == 6
    assert_whole(tmp_path / "out", sum(300 + n for n in range(6)))
    ledger = Ledger(tmp_path / "out")
    assert ledger.table("videos", current=False).num_rows == 6
    assert ledger.table("failures").num_rows == 0


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"workers": 3}, "engine.workers = 3: there are 2 CPUs"),
        ({"device": "cuda"}, "engine.device = cuda: Ray knows of 0 GPUs"),
    ],
)
def test_actors_that_no_machine_has_room_for_are_refused(ray_here, tmp_path, engine, said):
    make(tmp_path / "a.mp4", 10)
    with pytest.raises(ConfigError, match=said):
        run(probe(engine=engine), [str(tmp_path / "a.mp4")], tmp_path / "out", engine="ray")


def test_an_address_where_nobody_listens_is_refused_at_once(tmp_path):
    make(tmp_path / "a.mp4", 10)
    # A process of its own: the tests' Ray, once started, would be used whatever the address.
    command = [sys.executable, "-m", "pipeline", "run", "configs/probe.yaml"]
    command += [str(tmp_path / "a.mp4"), "-o", str(tmp_path / "out"), "--address", "127.0.0.1:9"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert "--address 127.0.0.1:9: no Ray to be had there" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_cpu_that_another_holds_is_left_to_it(ray_here, tmp_path):
    @ray_here.remote(num_cpus=1)
    class Other:
        def there(self) -> bool:
            return True

    other = Other.remote()
    assert ray_here.get(other.there.remote())
    make(tmp_path / "a.mp4", 40)
    summary = run(probe(), [str(tmp_path / "a.mp4")], tmp_path / "out", engine="ray")
    assert (summary.decoders, summary.videos_ok) == (1, 1)
    ray_here.kill(other)


def test_an_output_that_cannot_be_written_is_said_in_one_line(ray_here, tmp_path):
    make(tmp_path / "a.mp4", 10)
    (tmp_path / "file").write_text("here")
    for engine in ("local", "ray"):
        with pytest.raises((ConfigError, RunAborted, UsageError)):
            run(probe(), [str(tmp_path / "a.mp4")], tmp_path / "file" / "out", engine=engine)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_colours_that_ffmpeg_cannot_convert_fail_their_video_alone(ray_here, tmp_path, engine):
    make(tmp_path / "v" / "a.mp4", 20, options={"x264-params": "colormatrix=YCgCo"})
    make(tmp_path / "v" / "b.mp4", 20)
    config = probe(embedder={"backend": "clip", "model": "builtin:clip"})
    summary = run(config, [str(tmp_path / "v")], tmp_path / "out", engine=engine)
    assert (summary.videos_ok, summary.videos_failed) == (1, 1)
    reasons = {row["reason"] for row in Ledger(tmp_path / "out").table("failures").to_pylist()}
    assert len(reasons) == 1
    assert "into RGB" in reasons.pop()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_file_that_was_cut_is_partial(ray_here, tmp_path, engine):
    path = make(tmp_path / "a.mkv", 60, gop=10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for _ in range(2):
        summary = run(probe(), [str(path)], tmp_path / "out", engine=engine)
        assert summary.exit_code == 3
    ledger = Ledger(tmp_path / "out")
    (video,) = ledger.videos().to_pylist()
    assert video["status"] == "partial"
    assert "before its container does" in video["reason"]
    (failure,) = ledger.table("failures").to_pylist()
    assert failure["stage"] == "index"
