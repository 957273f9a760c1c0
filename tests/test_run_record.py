"""A run's name and record, for who follows it."""

from __future__ import annotations

import json

import pytest

from pipeline.cli import invoke
from pipeline.errors import UsageError
from pipeline.run_record import check_run_id, in_words, last_record, new_run_id, record_in
from tests.videos import make

LINE = 'frameledger-run: {"exit_code": 3, "run_id": "r"}'


def test_names_are_taken_as_folders_are():
    assert check_run_id(new_run_id())
    assert new_run_id() != new_run_id()
    for name in ("", "..", "a/b", "a b", "-a", "x" * 101, "a\n"):
        with pytest.raises(UsageError, match="letters, digits"):
            check_run_id(name)


@pytest.mark.parametrize(
    "text",
    [
        f"videos 1 ok\n{LINE}",
        f"{LINE.replace('3', '0')}\n{LINE}\nShared connection to head closed.\nError: failed\n",
        f"{LINE}\r\n",  # What a terminal over ssh makes of it.
        f'{LINE}\nframeledger-run: {{"exit_co',
    ],
)
def test_the_last_record_is_found(text):
    assert last_record(text) == {"exit_code": 3, "run_id": "r"}


@pytest.mark.parametrize("text", ["", "frameledger-run: ", "frameledger-run: 3", f" {LINE}"])
def test_what_is_no_record_is_none(text):
    assert last_record(text) is None


def test_the_row_of_a_run_is_found_by_its_name(tmp_path):
    video, bad, out = tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "out"
    make(video, 20)
    bad.write_text("no video")
    command = ["run", "configs/probe.yaml", str(video), str(bad), "--output", str(out)]
    code, error = invoke([*command, "--engine", "local", "--run-id", "mine"])
    assert (code, error) == (3, "")
    record = record_in(str(out), "mine")
    assert in_words(record) == "exit 3; 1 ok, 0 partial, 1 failed, 20 frames"
    assert json.loads(json.dumps(record))["state"] == "ended"
    assert record_in(str(out), "other") is None
    assert record_in(str(tmp_path / "nowhere"), "mine") is None
    assert "expected" in invoke([*command, "--run-id", "a/b"])[1]
