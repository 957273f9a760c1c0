"""The image cannot be built without registries; what it is made of can be looked at."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"


def instructions() -> list[tuple[str, str]]:
    """Of the container file: (FROM, ...), with continued lines put together."""
    lines = (CLUSTER / "Containerfile").read_text().splitlines()
    kept = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = kept.replace("\\\n", " ")
    return [
        (line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line
    ]


def project() -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def pins() -> dict[str, str]:
    """Distribution to version, of constraints.txt."""
    text = (CLUSTER / "constraints.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.lower().split("==") for line in lines)


def test_bases_are_named_with_their_version():
    bases = [words.split()[0] for name, words in instructions() if name == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert re.search(r":[\w.-]*\d[\w.-]*$", base), base


def test_it_runs_as_an_ordinary_user_and_holds_no_token():
    last = [words for name, words in instructions() if name == "USER"][-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last)
    text = (CLUSTER / "Containerfile").read_text()
    assert "RAY_AUTH_TOKEN" not in text
    names = [name for name, _ in instructions()]
    assert names.index("USER") > names.index("COPY")
    assert "EXPOSE" not in names


def test_the_environment_is_what_ray_and_its_launcher_look_for():
    (words,) = [words for name, words in instructions() if name == "ENV" and "HOME=" in words]
    told = dict(word.split("=", 1) for word in shlex.split(words))
    assert told["RAY_AUTH_MODE"] == "token"
    assert told["HOME"] == "/home/ray"
    (apt,) = [words for name, words in instructions() if name == "RUN" and "apt-get" in words]
    assert {"libgl1", "libglib2.0-0", "libxcb1", "openssh-client", "rsync"} <= set(apt.split())


def test_what_is_copied_is_there_and_let_through():
    """Containerfile.dockerignore lets nothing through but what it names."""
    ignored, *rules = [
        line
        for line in (CLUSTER / "Containerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    let_through = {rule[1:] for rule in rules if rule.startswith("!")}
    copies = [words for name, words in instructions() if name == "COPY" and "--from" not in words]
    assert len(copies) == 5
    for words in copies:
        for source in words.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in let_through


def test_every_dependency_is_pinned_within_its_range():
    found = pins()
    for line in project()["dependencies"]:
        needed = Requirement(line)
        if needed.name == "torch":  # conda-forge's, or named in local.yaml.
            continue
        assert needed.specifier.contains(found[needed.name.lower()]), line


def test_conda_packages_are_pinned():
    told = yaml.safe_load((CLUSTER / "environment.yaml").read_text())
    assert told["channels"] == ["conda-forge", "nodefaults"]
    packages = dict(line.partition("=")[::2] for line in told["dependencies"])
    assert packages.keys() == {"python", "detectron2", "ray-default", "pip"}
    assert all(version for name, version in packages.items() if name != "pip")
    assert Requirement(f"python{project()['requires-python']}").specifier.contains(
        packages["python"]
    )


@pytest.fixture
def texts() -> dict[str, str]:
    """The files that name versions."""
    return {
        str(path.relative_to(CLUSTER)): path.read_text()
        for path in CLUSTER.rglob("*")
        if path.suffix in (".yaml", ".txt") or path.name == "Containerfile"
    }


def test_every_file_names_the_same_ray(texts):
    """Nodes with another Ray are turned away by the head."""
    pattern = re.compile(r"^(?:ray==|  - ray-default=| +rayVersion: )([\d.]+)", re.MULTILINE)
    told = {name: pattern.findall(text) for name, text in texts.items() if pattern.search(text)}
    assert told.keys() == {
        "constraints.txt",
        "environment.yaml",
        "kuberay/raycluster.yaml",
        "kuberay/rayjob.yaml",
    }
    assert {version for versions in told.values() for version in versions} == {pins()["ray"]}


def test_every_file_names_the_image_of_this_version(texts):
    tags = {tag for text in texts.values() for tag in re.findall(r"frameledger:(\d[\w.]*)", text)}
    assert tags == {project()["version"]}
