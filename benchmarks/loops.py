"""Single-process loops to hold frameledger against. Each is run in a process of its own:

    python -m benchmarks.loops decode FILES...            pure PyAV decode, one thread
    python -m benchmarks.loops opencv OUT.parquet FILES...  OpenCV read, grid, write Parquet

Prints one JSON line: frames and seconds, start-up of the interpreter left out.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np


def decode(paths: list[str]) -> int:
    """Frames decoded by PyAV with one thread; nothing is done with them."""
    import av

    frames = 0
    for path in paths:
        with av.open(path) as container:
            stream = container.streams.best("video")
            stream.codec_context.thread_count = 1
            for _ in container.decode(stream):
                frames += 1
    return frames


def opencv(target: str, paths: list[str]) -> int:
    """What people write by hand: VideoCapture.read, the probe's 16x9 grid, rows to Parquet."""
    import cv2
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("video", pa.string()), ("frame", pa.int64()), ("embedding", pa.list_(pa.float32()))]
    )
    frames = 0
    with pq.ParquetWriter(target, schema) as writer:
        for path in paths:
            capture = cv2.VideoCapture(path)
            rows = []
            index = 0
            while True:
                read, bgr = capture.read()
                if not read:
                    break
                rgb = cv2.cvtColor(bgr[::8, ::8], cv2.COLOR_BGR2RGB)
                grid = cv2.resize(rgb, (16, 9), interpolation=cv2.INTER_AREA)
                embedding = (grid.astype(np.float32) / 255).ravel()
                rows.append({"video": path, "frame": index, "embedding": embedding})
                index += 1
            capture.release()
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            frames += index
    return frames


def main() -> None:
    what, *arguments = sys.argv[1:]
    started = time.perf_counter()
    frames = decode(arguments) if what == "decode" else opencv(arguments[0], arguments[1:])
    print(json.dumps({"frames": frames, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
