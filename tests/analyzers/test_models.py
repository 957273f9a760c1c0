from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.analyzers.models import load_pretrained, model_identity, resolve_model
from pipeline.errors import ConfigError
from tests.analyzers import tiny


def test_a_folder_is_itself(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model(str(clip_folder)) == clip_folder
    monkeypatch.chdir(clip_folder.parent)
    assert resolve_model(clip_folder.name) == Path(clip_folder.name)
    assert resolve_model(f"./{clip_folder.name}") == Path(clip_folder.name)


@pytest.mark.parametrize(
    "name",
    ["/no/such/model", "./model", "../model", "~/no-such-model", "model", "a/b/c", "a b/c", ""],
)
def test_paths_never_go_to_the_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"no such folder|config\.json is missing"):
        resolve_model(name)
    assert "huggingface_hub" not in sys.modules


def test_a_slip_in_a_path_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="models/detecter: no such folder"):
        resolve_model("models/detecter")


def test_hub_name_offline(tmp_path: Path) -> None:
    """Another process, since the hub client reads its environment when it is imported."""
    code = (
        "from pipeline.analyzers.models import resolve_model\n"
        "from pipeline.errors import ConfigError\n"
        "try:\n"
        "    resolve_model('openai/clip-vit-base-patch32', 'main')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert done.stdout == (
        "model openai/clip-vit-base-patch32 at revision main: no such folder, and it is not in "
        "the local cache, and HF_HUB_OFFLINE forbids to download it; give a folder that holds it\n"
    )
    assert done.stderr == ""


def test_hub_name_offline_from_the_cache(clip_folder: Path, tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--org--name"
    shutil.copytree(clip_folder, repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    code = "from pipeline.analyzers.models import *; print(resolve_model('org/name'))"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )
    assert done.stdout.strip() == str(repo / "snapshots" / ("0" * 40)), done.stderr


def test_builtin_names() -> None:
    with pytest.raises(ConfigError, match="builtin:clip and builtin:detector are shipped"):
        resolve_model("builtin:yolo")
    assert resolve_model("builtin:detector").name == "detector"


def test_revision_of_a_folder(clip_folder: Path) -> None:
    with pytest.raises(ConfigError, match="revision = 'main' applies to hub names only"):
        resolve_model(str(clip_folder), "main")


def test_missing_files_are_named(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        resolve_model(str(tmp_path))
    shutil.copy(clip_folder / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match=r"model\.safetensors is missing"):
        resolve_model(str(tmp_path))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model-2\.safetensors is missing"):
        resolve_model(str(tmp_path))


def test_identity_of_shards(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPModel, CLIPVisionModelWithProjection

    CLIPModel.from_pretrained(clip_folder).save_pretrained(tmp_path, max_shard_size="50KB")
    tiny.save_processor(tmp_path, tiny.CLIP_PROCESSOR)
    folder = resolve_model(str(tmp_path))
    assert len(list(folder.glob("*.safetensors"))) > 1
    before = model_identity(folder)
    assert load_pretrained(CLIPVisionModelWithProjection, folder).training is False
    last = sorted(folder.glob("*.safetensors"))[-1]
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    after = model_identity(folder)
    assert after["weights_sha256"] != before["weights_sha256"]
    assert after["config_sha256"] == before["config_sha256"]


def test_layout_of_the_processor_file_does_not_count(clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    processor = json.dumps(dict(reversed(tiny.CLIP_PROCESSOR.items())), indent=4)
    (folder / "preprocessor_config.json").write_text(processor)
    assert model_identity(folder) == model_identity(clip_folder)


def test_identity_needs_neither_torch_nor_transformers(clip_folder: Path) -> None:
    code = (
        "import sys\n"
        "from pipeline.config import Config\n"
        "from pipeline.analyzers.registry import build_analyzers\n"
        f"section = {{'backend': 'clip', 'model': {str(clip_folder)!r}}}\n"
        "member, = build_analyzers(Config(embedder=section))\n"
        "member.identity()\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_that_are_not_all_there(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import CLIPVisionModelWithProjection

    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 tensors .* visual_projection\.weight first"):
        load_pretrained(CLIPVisionModelWithProjection, folder)


def test_broken_weights(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_pretrained(CLIPVisionModelWithProjection, folder)


def test_code_of_a_checkpoint_is_not_run(clip_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = tmp_path / "copy"
    shutil.copytree(clip_folder, folder)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_pretrained(AutoModel, folder)
    assert not (tmp_path / "ran").exists()
