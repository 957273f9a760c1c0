"""The README's examples of reading, SQL and exporting run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from pipeline import Ledger, Where
from pipeline.cli import invoke
from tests.results.reading import over_videos

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder in which `demo-output/tables` is an output over two videos."""
    output = over_videos(tmp_path / "demo-output")
    Path(output).rename(tmp_path / "demo-output" / "tables")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(section: str, language: str) -> list[str]:
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_reading(here: Path) -> None:
    (code,) = blocks("Reading in Python", "python")
    names: dict[str, object] = {}
    exec(code, names)
    assert names["boxes"].num_rows > 0  # type: ignore[attr-defined]
    assert names["sample"].frame_index == names["one"].frame_index  # type: ignore[attr-defined]


def test_sql(here: Path, capsys) -> None:
    (session,) = blocks("SQL", "")
    command = session.splitlines()[0].removeprefix("$ frameledger ")
    assert invoke(shlex.split(command)) == (0, "")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == session.splitlines()[1].split()
    wanted = Ledger("demo-output/tables").select("detections", Where(classes=("red circle",)))
    assert printed[2].split() == ["red", "circle", str(wanted.num_rows)]


def test_exporting(here: Path) -> None:
    (commands,) = blocks("Exporting", "sh")
    for command in commands.splitlines():
        assert invoke(shlex.split(command)[1:]) == (0, "")
    assert np.load(here / "embeddings" / "embeddings.npy", mmap_mode="r").shape == (65, 8)
    assert len(list((here / "coco" / "images").rglob("*.png"))) > 10
