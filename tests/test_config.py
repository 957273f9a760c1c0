"""The configuration: what is accepted, and what an error names."""

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config_file import load_config, parse_config
from pipeline.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


def test_the_reference_shows_the_defaults():
    loaded = load_config(CONFIGS / "demo.yaml")
    changed = {"detector", "embedder"}
    for name in Config.model_fields:
        if name not in changed | {"sampling"}:
            assert getattr(loaded, name) == getattr(Config(), name), name
    assert loaded.sampling.identity() == Config().sampling.identity()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_loads(path):
    load_config(path)


@pytest.mark.parametrize(
    ("data", "overrides", "expected"),
    [
        ({"detektor": 1}, (), "x.yaml: unknown key detektor"),
        ({"embedder": {"backend": "probe", "x": 1}}, (), "unknown key embedder.x"),
        ({"embedder": {"backend": "clip"}}, (), "embedder.model is missing"),
        ({"clip": {"length": 0}}, (), "clip.length = 0"),
        ({"clip": {"length": 4, "stride": 5}}, (), "stride 5 above length 4"),
        ({"sampling": {"stride": 2, "fps": 1}}, (), "give one of"),
        ({"sampling": {"fps": "fast"}}, (), "sampling.fps = 'fast'"),
        ({"memory": {"limit": "3 elephants"}}, (), "memory.limit = '3 elephants'"),
        ({"engine": {"workers": 0}}, (), "engine.workers = 0"),
        ({"cache": {"format": "jpeg"}}, (), "cache.format = 'jpeg'"),
        ({"cache": {"height": 8}}, (), "cache.height = 8"),
        ({"cache": {"budget_gb": 0}}, (), "cache.budget_gb = 0"),
        ({"cache": {}}, ("cache.budget_gb=.inf",), "cache.budget_gb = inf"),
        (
            {"engine": {"workers": 2, "max_workers": 4}},
            (),
            "max_workers is a bound of workers: auto",
        ),
        (
            {"engine": {"min_workers": 5, "max_workers": 4}},
            (),
            "min_workers 5 is above max_workers 4",
        ),
        ({"engine": {"gpus_per_analyzer": 1.5}}, (), "a part of a GPU such as 0.5"),
        ({}, ("stride",), "--set stride"),
        ({"clip": 3}, ("clip.length.x=1",), "clip is a value"),
        ([1], (), "top level"),
    ],
)
def test_errors_name_the_key_and_the_value(data, overrides, expected):
    with pytest.raises(ConfigError) as error:
        parse_config(data, where="x.yaml", overrides=overrides)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_reach_into_sections():
    config = parse_config(
        {"clip": {"length": 8}},
        where="x",
        overrides=("sampling.fps=30000/1001", "memory.limit=2GiB", "clip.stride=4"),
    )
    assert config.sampling.fps == Fraction(30000, 1001)
    assert config.memory.limit == 2 * 2**30
    assert (config.clip.length, config.clip.step) == (8, 4)


def test_yaml_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("detector: !!python/object/apply:os.system ['touch /tmp/owned']\n")
    with pytest.raises(ConfigError, match=r"evil\.yaml: not YAML"):
        load_config(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [1"])
def test_unreadable_files(tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_model_folder_beside_the_configuration(tmp_path):
    (tmp_path / "model").mkdir()
    path = tmp_path / "c.yaml"
    path.write_text("embedder: {backend: clip, model: model}\n")
    assert load_config(path).embedder.model == str(tmp_path / "model")


def test_sampling_identity_is_canonical():
    def identity(text: str) -> object:
        return parse_config({}, where="x", overrides=(text,)).sampling.identity()

    assert identity("sampling.fps=2") == identity("sampling.fps=2.0") == {"fps": "2"}
    assert identity("sampling.stride=1") == Config().sampling.identity()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"detector": {"batch": 0}}, r"detector\.backend is missing"),
        ({"embedder": {"backend": "foo"}}, r"embedder\.backend = 'foo': one of 'probe', 'clip'"),
        ({"detector": {"backend": "detectron2"}}, r"detector\.config is missing"),
        ({"detector": {"backend": "detectron2", "config": "x", "model": "y"}}, r"detector\.model"),
    ],
)
def test_backends_are_named(section, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(section, where="c.yaml")
