"""Configurations, weights and names that are made to do harm: case 24."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import ConfigError, FrameledgerError, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.runner import run
from tests.bad_inputs.checking import config_of
from tests.videos import make


class Runs:
    """Unpickles by running a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


HOSTILE = {
    "yaml-tag": "!!python/object/apply:os.system ['touch MARKER']",
    "yaml-tag-inside": "embedder: !!python/object/new:os.system ['touch MARKER']",
    "unknown-key": "sampling: {stride: 1}\nexec: 'touch MARKER'",
    "unknown-key-inside": "decode: {options: {protocol_whitelist: 'file,http'}}",
    "builtin-that-leads-out": "embedder: {backend: clip, model: 'builtin:../../../etc'}",
    "hub-name-that-leads-out": "embedder: {backend: clip, model: '../../../etc'}",
    "bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]",
    "detectron2-lazy": "detector: {backend: detectron2, config: LAZY}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_24_configurations_that_would_run_something(folder, name):
    marker, lazy = folder.parent / "marker", folder.parent / "lazy.py"
    lazy.write_text(f"import os\nos.system('touch {marker}')\n")
    path = make(folder / "a.mp4", 5)
    config = folder.parent / "config.yaml"
    config.write_text(HOSTILE[name].replace("MARKER", str(marker)).replace("LAZY", str(lazy)))
    with pytest.raises(ConfigError) as error:
        run(config, [str(path)], folder.parent / "out", engine="local")
    assert "\n" not in str(error.value)
    assert not marker.exists()
    assert not (folder.parent / "out").exists()


def test_24_a_pickle_for_weights(folder):
    import torch

    from tests.analyzers.tiny import save_clip

    marker, model = folder.parent / "marker", folder.parent / "model"
    save_clip(model)
    (model / "model.safetensors").unlink()
    torch.save({"weight": Runs(marker)}, model / "pytorch_model.bin")
    path = make(folder / "a.mp4", 5)
    config = config_of(embedder={"backend": "clip", "model": str(model)})
    with pytest.raises(ConfigError, match="safetensors"):
        run(config, [str(path)], folder.parent / "out", engine="local")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a/../../../x", "\0"])
def test_24_ids_that_lead_out(folder, name):
    """What a user or a table calls a video is looked up in columns, and makes no path."""
    path = make(folder / "a.mp4", 5)
    output = folder.parent / "out"
    run(config_of(), [str(path)], output, engine="local")
    before = everything_in(folder.parent)
    ledger = Ledger(output)
    with pytest.raises(FrameledgerError):
        ledger.frame(name, 0)
    for arguments in (["verify", str(output)], ["status", str(output)]):
        from pipeline.cli import app

        assert CliRunner().invoke(app, arguments).exit_code == 0
    with pytest.raises((UsageError, ValueError)):
        run(config_of(), [f"{folder}/{name}/nothing.mp4"], output, engine="local")
    assert everything_in(folder.parent) == before


def everything_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_24_a_name_that_leads_out_is_written_nowhere(folder):
    (folder / "sub").mkdir()
    make(folder / "a.mp4", 5)
    output = folder.parent / "deep" / "out"
    run(config_of(), [f"{folder}/sub/../../videos/a.mp4"], output, engine="local")
    assert [r["uri"] for r in Ledger(output).videos().to_pylist()] == [str(folder / "a.mp4")]
    assert {p.name for p in output.parent.iterdir()} == {"out"}
