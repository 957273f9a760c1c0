"""Several nodes give the tables of one; nodes that join work, and those that go cost no row."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.ledger.verify import verify
from pipeline.runner import run
from tests.engine.clustered import NODE_CPUS
from tests.engine.test_engines import assert_equal_tables, probe
from tests.videos import make

HOOK = Path(__file__).parents[1] / "chaos" / "hook"
LENGTHS = [150 + number for number in range(12)]
CLIP = 8
CASES = ("alone", "two", "four", "joins", "dies", "gpus")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder of all cases, the tables of a local run, and what each run said."""
    folder = tmp_path_factory.mktemp("clustered")
    for length in LENGTHS:
        make(folder / "v" / f"{length}.mp4", length, gop=30)
    run(probe(), [str(folder / "v")], folder / "local", engine="local")
    short = tempfile.mkdtemp(prefix="fl-", dir="/tmp")
    paths = [str(HOOK), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {"PYTHONPATH": os.pathsep.join(paths), "RAY_TMPDIR": short}
    command = [sys.executable, "-m", "tests.engine.clustered", str(folder), str(folder / "v")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1500)
    shutil.rmtree(short, ignore_errors=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder, json.loads((folder / "said.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_many_nodes_give_the_tables_of_one(played, name):
    folder, said = played
    assert (said[name]["exit_code"], said[name]["videos_ok"]) == (0, len(LENGTHS))
    assert verify(str(folder / name)).sound
    assert_equal_tables(folder / "local", folder / name)


@pytest.mark.parametrize("name", CASES[1:])
def test_the_head_is_left_alone(played, name):
    _, said = played
    assert said[name]["head"] == 0


def test_the_head_is_left_to_itself_when_another_node_has_joined(played):
    _, said = played
    assert said["alone"]["head"] > 0
    assert said["alone"]["left"]


def test_every_node_but_the_head_is_worked_on(played):
    _, said = played
    assert (said["two"]["decoders"], said["two"]["analyzers"]) == (NODE_CPUS, 1)
    assert (said["four"]["decoders"], said["four"]["analyzers"]) == (5, 3)


def test_a_node_that_joins_has_work_in_under_15_s(played):
    _, said = played
    assert said["joins"]["took_s"] < 15
    assert said["joins"]["decoders"] == 2 * NODE_CPUS


def test_a_node_that_dies_costs_its_work_in_hand_and_no_try(played):
    _, said = played
    clips = sum(-(-length // CLIP) for length in LENGTHS)
    in_hand = 2 * NODE_CPUS * -(-max(LENGTHS) // CLIP)
    assert said["dies"]["retries"] > 0
    assert said["dies"]["clips"] - clips <= in_hand
    assert said["dies"]["problems"] == []


def test_gpus_that_are_not_there_yet_are_waited_for(played):
    _, said = played
    assert said["gpus"]["analyzers"] == 2
    waited_for = " ".join(said["gpus"]["waited_for"])
    # What an autoscaler reads.
    assert said["gpus"]["demand"] == [{"GPU": 1.0}]
    assert "waiting for room on the cluster: 2 analyzers of 1 GPU each" in waited_for
