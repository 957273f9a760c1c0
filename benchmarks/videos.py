"""Corpora for the benchmarks, made from real videos or from the demo world."""

from __future__ import annotations

from pathlib import Path


def remuxed_copies(sources: list[Path], folder: Path, copies: int) -> list[Path]:
    """`copies` files per source with the same packets and other bytes.

    A title that differs makes them different videos: identical bytes would be processed once.
    """
    import av

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for copy in range(copies):
        for source in sources:
            target = folder / f"{source.stem}-{copy:03d}.mp4"
            made.append(target)
            if target.exists():
                continue
            with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
                stream = reader.streams.video[0]
                out = writer.add_stream_from_template(stream)
                writer.metadata["title"] = f"copy {copy}"
                for packet in reader.demux(stream):
                    if packet.dts is not None:
                        packet.stream = out
                        writer.mux(packet)
    return made


def repeated(source: Path, target: Path, minutes: float) -> Path:
    """One long video: the packets of `source` again and again, with their times moved on."""
    import av

    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part.mp4")
    with av.open(str(source)) as reader:
        stream = reader.streams.video[0]
        packets = [p for p in reader.demux(stream) if p.dts is not None]
        span = max(p.pts + p.duration for p in packets) - min(p.pts for p in packets)
        wanted = minutes * 60 / float(stream.time_base)
        with av.open(str(part), "w") as writer:
            out = writer.add_stream_from_template(stream)
            times = [(p.pts, p.dts) for p in packets]
            for turn in range(max(1, round(wanted / span))):
                for packet, (pts, dts) in zip(packets, times, strict=True):
                    packet.pts, packet.dts = pts + turn * span, dts + turn * span
                    packet.stream = out
                    packet.time_base = stream.time_base
                    writer.mux(packet)
                    packet.time_base = stream.time_base
    part.rename(target)
    return target


def demo_720p(target: Path, seconds: float) -> Path:
    """A 720p video of the demo world with a keyframe every two seconds."""
    return demo_video(target, 720, int(seconds * 30))


def demo_video(target: Path, height: int, frames: int) -> Path:
    """The demo world at 16:9 and 30 frames a second, with a keyframe every two seconds."""
    from pipeline.demo.video import write_video
    from pipeline.demo.world import World

    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        world = World(seed=7, width=height * 16 // 9, height=height, frame_count=frames)
        write_video(target, world, fps=30, gop=60, b_frames=2)
    return target
