"""What was given up in one frames analysis says nothing of another."""

from __future__ import annotations

import pytest

from pipeline.config import Config
from pipeline.ledger.books import Books
from pipeline.ledger.commit import LedgerWriter
from pipeline.records import Failure
from pipeline.runner import make_job, run
from tests.engine.test_engines import probe
from tests.videos import make


def _config(clip: int) -> Config:
    return probe(engine={"name": "local"}, clip={"length": clip})


@pytest.fixture
def given_up(tmp_path):
    """A video with a clip that was given up among clips of 32 frames."""
    video, output = make(tmp_path / "a.mp4", 60), str(tmp_path / "o")
    run(_config(32), [str(video)], output)
    index = next(iter(_indexes(output)))
    frames = make_job(_config(32), output).analyses[0].fingerprint
    failure = Failure(
        str(video),
        "decode",
        "quarantined: it crashes",
        video_id=index,
        analysis=frames,
        first_frame=0,
        last_frame=31,
        attempts=3,
    )
    with LedgerWriter(output, "earlier", make_job(_config(32), output).by_fingerprint()) as writer:
        writer.add_failure(failure)
    return str(video), output


def _indexes(output: str) -> list[str]:
    from pipeline.ledger.store import Store

    store = Store(output)
    return store.dataset("indexes", store.open("indexes")).to_table().column("video_id").to_pylist()


def test_a_video_that_is_whole_with_other_clips_is_not_whole_with_these(given_up) -> None:
    video, output = given_up
    assert run(_config(8), [video], output).exit_code == 0
    again = run(_config(32), [video], output)
    assert again.exit_code == 3
    assert run(_config(8), [video], output).exit_code == 0


def test_frames_are_lacking_where_their_clip_was_given_up_alone(given_up) -> None:
    _, output = given_up
    (video_id,), books = _indexes(output), Books(output)
    given = {n: make_job(_config(n), output).analyses[0].fingerprint for n in (8, 32)}
    assert books.lacks_frames(video_id, given[32])
    assert not books.lacks_frames(video_id, given[8])
