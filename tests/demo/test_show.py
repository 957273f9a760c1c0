"""`frameledger demo` as a user runs it, and that it can fail."""

import pytest

from pipeline.demo.corpus import make_corpus
from pipeline.demo.show import attribute, demo, demo_config
from pipeline.errors import UsageError
from pipeline.ledger.reader import Ledger
from pipeline.runner import run


def test_the_demo_reaches_its_targets(tmp_path, capsys):
    assert demo(str(tmp_path / "out"), [], "local") == 0
    printed = capsys.readouterr().out
    assert "frame attribution 100%: 702 of 702" in printed
    assert "audit             sound" in printed
    assert "'two blue squares'" in printed


def test_a_frame_at_another_place_lowers_the_attribution(tmp_path):
    """The check reads pixels: tables of other videos do not satisfy it."""
    videos = make_corpus(tmp_path / "videos")[:1]
    config = demo_config().model_copy(update={"detector": None, "embedder": None})
    run(config, [str(videos[0].path)], tmp_path / "out", engine="local")
    assert attribute(videos, Ledger(tmp_path / "out"), config).right == 120
    import deltalake

    table = deltalake.DeltaTable(str(tmp_path / "out" / "frames"))
    table.update(updates={"pts": "pts + 1"}, predicate="frame_index = 5")
    assert attribute(videos, Ledger(tmp_path / "out"), config).right == 119


def test_a_folder_that_is_no_demos_is_not_cleared(tmp_path):
    (tmp_path / "out" / "tables").mkdir(parents=True)
    precious = tmp_path / "out" / "tables" / "precious.txt"
    precious.write_text("mine")
    with pytest.raises(UsageError, match="holds no tables of a demo"):
        demo(str(tmp_path / "out"), [], "local")
    assert precious.read_text() == "mine"
