"""The benchmark of reading, on a minute of video: it finds every frame, in little memory."""

from __future__ import annotations

from benchmarks.reading import BOXES, RATE, URI, make, report
from pipeline import Ledger


def test_reading_is_measured(tmp_path, capsys) -> None:
    frames = 60 * RATE
    make(tmp_path / "o", frames)
    ledger = Ledger(str(tmp_path / "o"))
    assert ledger.table("detections").num_rows == BOXES * frames
    frame = ledger.frame(URI, 1234)
    assert frame.embedding is not None
    assert (frame.embedding[0], frame.detections.num_rows) == (1234, BOXES)
    report("as committed", tmp_path / "o", frames)
    printed = capsys.readouterr().out
    assert "1,800 frames, as committed" in printed
    streamed = [line for line in printed.splitlines() if line.startswith(("| emb", "| fr"))]
    peaks = [int(line.split("|")[3]) for line in streamed]
    assert len(peaks) == 2
    assert max(peaks) < 300
