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


def weights_bytes(config: Config) -> int:
    """Size of all files of weights that a process with these analyzers loads."""
    return sum(member.weights_bytes() for member in build_analyzers(config))
