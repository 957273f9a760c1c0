"""What the comparison of two commits is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.overhead import sampled, since, unpacked

BUSY = "import subprocess, sys, time\nend = time.process_time() + 1.5\n"
BUSY += "child = subprocess.Popen([sys.executable, '-c', 'import time\\ntime.sleep(9)'])\n"
BUSY += "while time.process_time() < end: pass\nchild.kill()\n"


@pytest.mark.parametrize(("start_s", "expected"), [(0.0, 5.0), (1.0, 4.0), (1.9, 4.0), (9.0, 0.0)])
def test_cpu_counts_from_a_moment_on(start_s, expected):
    assert since([(0.5, 0.25), (1.0, 1.0), (2.0, 3.0), (3.0, 5.0)], start_s) == expected


def test_a_process_is_looked_at_with_all_below_it():
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    samples = sampled(process)
    assert process.returncode == 0
    assert len(samples) == 2
    # At most what is used between two looks is missed.
    assert 0.5 < since(samples[process.pid], 0.0) < 2.0


def test_a_commit_is_unpacked(tmp_path: Path):
    if not Path(".git").exists():
        pytest.skip("not a git checkout")
    (tmp_path / "of_another.py").touch()
    tree = unpacked("HEAD", tmp_path)
    assert not (tree / "of_another.py").exists()
    assert (tree / "pipeline" / "__main__.py").exists()
    assert (tree / "configs" / "probe.yaml").exists()


def test_a_commit_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(SystemExit, match="cannot read commit no-such-commit"):
        unpacked("no-such-commit", tmp_path)
