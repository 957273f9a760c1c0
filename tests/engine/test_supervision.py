"""What crashes or hangs every time is quarantined; all that is healthy completes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from tests.engine.supervised import CASES, FRAMES, MARKED_FRAME, SEVERAL, tell
from tests.videos import make

HOOK = Path(__file__).parents[1] / "chaos" / "hook"
CLIP = (96, 103)
"""First and last frame of the clip of eight that holds the marked one."""

ALWAYS = [n for n, c in CASES.items() if not c.get("times") and c["stage"] in ("decode", "analyze")]
LATE = [n for n, c in CASES.items() if "collect_s" in c]
ONCE = [n for n, c in CASES.items() if c.get("times") and c["stage"] != "start" and n not in LATE]
INDEX = [n for n, c in CASES.items() if c["stage"] == "index"]


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder of all cases, and what each run said."""
    folder = tmp_path_factory.mktemp("supervised")
    ended = with_faults(["-m", "tests.engine.supervised", str(folder)], timeout=1500)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder, json.loads((folder / "said.json").read_text())


def with_faults(arguments: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run Python where the hook is."""
    short = tempfile.mkdtemp(prefix="fl-", dir="/tmp")
    paths = [str(HOOK), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "RAY_TMPDIR": short}
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
    finally:
        shutil.rmtree(short, ignore_errors=True)


def rows_of(output: Path, name: str) -> list[dict[str, object]]:
    ledger = Ledger(output)
    (video_id,) = (
        row["video_id"] for row in ledger.videos().to_pylist() if row["uri"].endswith(f"{name}.mp4")
    )
    return [row for row in ledger.table("frames").to_pylist() if row["video_id"] == video_id]


def assert_healthy_whole(output: Path) -> None:
    assert [str(finding) for finding in verify(str(output)).findings] == []
    frames = rows_of(output, "healthy")
    assert [row["frame_index"] for row in frames] == list(range(FRAMES["healthy"]))
    assert {row["status"] for row in frames} == {"ok"}


@pytest.mark.parametrize("name", ALWAYS)
def test_19_a_clip_that_crashes_or_hangs_every_time_is_quarantined(played, name):
    folder, said = played
    output = folder / name
    assert (said[name]["exit_code"], said[name]["videos_partial"]) == (3, 1)
    assert_healthy_whole(output)
    frames = rows_of(output, "marked")
    assert [row["frame_index"] for row in frames] == list(range(FRAMES["marked"]))
    failed = [row["frame_index"] for row in frames if row["status"] == "failed"]
    assert failed == list(range(CLIP[0], CLIP[1] + 1))
    assert CLIP[0] <= MARKED_FRAME <= CLIP[1]
    ledger = Ledger(output)
    vectors = ledger.table("embeddings", ["frame_index"]).num_rows
    assert vectors == sum(FRAMES.values()) - len(failed)
    (failure,) = ledger.table("failures").to_pylist()
    assert (failure["first_frame"], failure["last_frame"], failure["attempts"]) == (*CLIP, 3)
    how = "stuck: no result for 3 s (engine.clip_timeout)" if "hang" in name else "died"
    assert failure["reason"].startswith("quarantined: ")
    assert how in failure["reason"]


@pytest.mark.parametrize("name", ONCE)
def test_17_18_what_ends_or_breaks_a_process_once_costs_no_row(played, name):
    folder, said = played
    assert (said[name]["exit_code"], said[name]["videos_ok"]) == (0, 2)
    assert said[name]["retries"] >= 1
    assert_healthy_whole(folder / name)
    assert len(rows_of(folder / name, "marked")) == FRAMES["marked"]
    assert Ledger(folder / name).table("failures").num_rows == 0


@pytest.mark.parametrize("name", LATE)
def test_a_death_that_is_heard_of_late_costs_what_was_worked_on_alone(played, name):
    """What was queued behind it, or was given to the dead process meanwhile, is not to blame."""
    folder, said = played
    assert said[name].get("error") is None
    assert (said[name]["videos_ok"], said[name]["videos_failed"]) == (SEVERAL, 1), said[name]
    failures = Ledger(folder / name).table("failures").to_pylist()
    assert {Path(row["uri"]).name for row in failures} == {"02 marked.mp4"}
    assert {row["reason"] for row in failures} == {"the process that worked on it died"}
    assert {row["attempts"] for row in failures} == {1}


def test_a_collector_that_dies_with_nothing_in_hand_is_missed(played):
    folder, said = played
    name = "collector-idle"
    assert (said[name].get("exit_code"), said[name].get("videos_ok")) == (0, 2), said[name]
    assert_healthy_whole(folder / name)
    assert len(rows_of(folder / name, "marked")) == FRAMES["marked"]
    assert any("the collector died" in note for note in said[name]["notes"])


@pytest.mark.parametrize("name", INDEX)
def test_19_a_file_whose_reading_crashes_or_hangs_fails_alone(played, name):
    folder, said = played
    assert (said[name]["exit_code"], said[name]["videos_failed"]) == (3, 1)
    assert_healthy_whole(folder / name)
    (failure,) = Ledger(folder / name).table("failures").to_pylist()
    assert (failure["stage"], failure["attempts"]) == ("index", 3)
    assert ("engine.index_timeout" if "hang" in name else "died") in failure["reason"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("hang-start", "models not loaded after 3 s (engine.start_timeout)"),
        ("crash-start", "its process died while it loaded its models"),
        ("raise-start", "RuntimeError: marked to be raised"),
    ],
)
def test_workers_that_never_start_end_the_run_with_one_message(played, name, why):
    folder, said = played
    error = said[name].get("error", "")
    assert error.startswith("a worker could not start, 3 times in a row: "), said[name]
    assert why in error
    assert "\n" not in error
    assert Ledger(folder / name).table("frames").num_rows == 0


def test_a_worker_that_hangs_once_as_it_starts_is_replaced(played):
    folder, said = played
    name = "hang-start-once"
    assert (said[name].get("exit_code"), said[name].get("videos_ok")) == (0, 2), said[name]
    assert_healthy_whole(folder / name)
    assert len((folder / f"{name}.faults" / "met").read_bytes()) == 2


def test_what_ray_says_of_a_death_is_kept_from_the_terminal(tmp_path):
    video = make(tmp_path / "v" / "marked.mp4", FRAMES["marked"], gop=30)
    output = tmp_path / "out"
    tell(output, {"stage": "analyze", "how": "crash", "times": 1}, video)
    command = ["-m", "pipeline", "run", "configs/probe.yaml", str(video), "-o", str(output)]
    ended = with_faults([*command, "--engine", "ray"], timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "retries  1 pieces of work were tried again" in ended.stdout
    assert "raylet" not in ended.stdout + ended.stderr


def test_waiting_for_room_is_no_slow_start(played):
    folder, said = played
    name = "room-comes-late"
    assert (said[name].get("exit_code"), said[name].get("videos_ok")) == (0, 2), said[name]
    assert said[name]["total_s"] > CASES[name]["full_s"]
    assert_healthy_whole(folder / name)
