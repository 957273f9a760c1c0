"""What a collector was told is not lost with it."""

from __future__ import annotations

from pipeline.ledger.reader import Ledger
from tests.engine.test_supervision import with_faults


def test_a_call_that_fails_only_after_the_successor_has_answered_is_made_again(tmp_path):
    ended = with_faults(["-m", "tests.engine.unheard", str(tmp_path)], timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "back True heard False" in ended.stdout  # So it was as the name of this test says.
    assert Ledger(tmp_path / "out").table("indexes").num_rows == 1
