"""A target is there when it is whole, and what was there before stays until then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.results.export.target import new_file, new_folder


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_an_aborted_one_leaves_nothing(make, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "target"

    def write() -> None:
        with make(path) as temporary:
            (temporary if make is new_file else temporary / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_what_is_there_is_kept_or_replaced_as_a_whole(make, tmp_path: Path) -> None:
    path = tmp_path / "target"

    def write(text: str, **options: bool) -> None:
        with make(path, **options) as temporary:
            (temporary if make is new_file else temporary / text).write_text(text)
            assert not path.exists() or content() == "old"

    def content() -> str:
        return path.read_text() if path.is_file() else "".join(p.name for p in path.iterdir())

    write("old")
    with pytest.raises(UsageError, match="target: is there already; name another, or give --over"):
        write("new")
    assert content() == "old"
    write("new", overwrite=True)
    assert content() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot be written: "),
        new_folder(tmp_path / "file" / "below"),
    ):
        pass
    with pytest.raises(UsageError, match="is a folder; name a file"), new_file(tmp_path, True):
        pass
    with pytest.raises(UsageError, match="is no path of this machine"), new_file(Path("s3://b/k")):
        pass


def test_a_killed_one_does_not_look_whole(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib\n"
        "from pipeline.results.export.target import new_folder\n"
        "with new_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "target")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".target-")
    assert left.name.endswith(".part")
