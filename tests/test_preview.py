"""What `frameledger plan` says of an output in which a run has died."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.ledger.commit import LedgerWriter
from pipeline.preview import plan
from pipeline.report import print_plan
from pipeline.runner import make_job, open_corpus, run
from pipeline.sources.index import index_video
from tests.ledger.corpus import feed
from tests.videos import make

CONFIG = Config.model_validate({"engine": {"name": "local"}})
EMBEDDING = Config.model_validate({"engine": {"name": "local"}, "embedder": {"backend": "probe"}})


@pytest.fixture
def died(tmp_path: Path) -> tuple[list[str], str]:
    """Three videos, and an output in whose journal a run that died has two of them whole."""
    output = str(tmp_path / "out")
    inputs = [str(make(tmp_path / f"{frames}.mp4", frames)) for frames in (20, 30, 40)]
    job = make_job(CONFIG, output)
    corpus = open_corpus(job, inputs)
    writer = LedgerWriter(output, "dead", job.by_fingerprint())
    for candidate in list(corpus.candidates())[:2]:
        index = index_video(candidate.source, CONFIG.decode)
        writer.add_index(index)
        for task in corpus.tasks(candidate.source, index):
            assert feed(writer, task) is not None
    return inputs, output


def test_shards_that_a_dead_run_left_whole_are_told(died, capsys) -> None:
    inputs, output = died
    before = sorted(Path(output).rglob("*"))
    preview = plan(CONFIG, inputs, output)
    assert (preview.shards, preview.journaled) == (3, {"dead": 2})
    assert sorted(Path(output).rglob("*")) == before
    print_plan(preview)
    said = "2 of the shards are whole in the journal of run dead, which died"
    assert said in capsys.readouterr().out
    summary = run(CONFIG, inputs, output)
    assert (summary.videos_ok, summary.shards) == (3, 1)
    again = plan(CONFIG, inputs, output)
    assert (again.shards, again.journaled) == (0, {})


def test_an_analysis_that_the_dead_run_did_not_do_makes_the_shard_due_as_a_whole(died) -> None:
    inputs, output = died
    preview = plan(EMBEDDING, inputs, output)
    assert (preview.shards, preview.journaled) == (3, {})
