"""The analyzers that a configuration names."""

from __future__ import annotations

from pipeline.analyzers.base import Analyzer
from pipeline.config import Config, Detectron2Config, ProbeConfig


def build_analyzers(config: Config) -> list[Analyzer]:
    """Detector, then embedder, as far as they are configured; nothing is loaded yet.

    A run without either is allowed: it writes frames only.
    """
    members: list[Analyzer] = []
    if isinstance(config.detector, Detectron2Config):
        from pipeline.analyzers.detectron2_detector import Detectron2Detector

        members.append(Detectron2Detector(config.detector))
    elif config.detector is not None:
        from pipeline.analyzers.transformers_detector import TransformersDetector

        members.append(TransformersDetector(config.detector))
    if isinstance(config.embedder, ProbeConfig):
        from pipeline.analyzers.probe import ProbeEmbedder

        members.append(ProbeEmbedder())
    elif config.embedder is not None:
        from pipeline.analyzers.clip import ClipEmbedder

        members.append(ClipEmbedder(config.embedder))
    return members


def takes_scaled(config: Config, member: Analyzer) -> bool:
    """Whether an analyzer is given the small pictures of the frame cache; by the configuration
    alone, so that it is, whether they come from there or were decoded a moment ago.

    Raises ConfigError where its model cannot be found.
    """
    if config.cache is None:
        return False
    least = member.smallest_side()
    return least is not None and least <= config.cache.height


def cache_notes(config: Config) -> list[str]:
    """Of each analyzer that the frame cache is of no use to, why."""
    if config.cache is None:
        return []
    notes = []
    for member in build_analyzers(config):
        least = member.smallest_side()
        if least is None:
            notes.append(
                f"cache: the {member.name} takes whole frames, which are not kept: videos that it "
                "has not seen yet are decoded for it"
            )
        elif least > config.cache.height:
            notes.append(
                f"cache.height = {config.cache.height}: the {member.name} takes pictures of "
                f"{least} and more; it is given whole frames, which are not kept"
            )
    return notes


def weights_bytes(config: Config) -> int:
    """Size of all files of weights that a process with these analyzers loads."""
    return sum(member.weights_bytes() for member in build_analyzers(config))
