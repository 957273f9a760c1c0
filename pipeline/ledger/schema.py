"""The tables of an output: columns with their meaning and unit, and how each is laid out.

Conventions: `frame_index` counts from 0 in presentation order over the whole video; ranges in
columns are inclusive (`first_frame`, `last_frame`); boxes are absolute xyxy pixels of the
displayed frame; times are in seconds, `pts` in ticks of the video's time base.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 5
"""Raised when a column changes its name, type or meaning; kept as a property of every table."""

MASK = pa.struct([pa.field("size", pa.list_(pa.int32())), pa.field("counts", pa.string())])
"""COCO run-length encoding, compressed: size is (height, width)."""

DATA_COLUMNS: dict[str, pa.Schema] = {
    "detections": pa.schema(
        [
            ("x1", pa.float32()),
            ("y1", pa.float32()),
            ("x2", pa.float32()),
            ("y2", pa.float32()),
            ("score", pa.float32()),
            ("class_id", pa.int32()),
            ("class_name", pa.string()),
            ("mask", MASK),
            ("keypoints", pa.list_(pa.float32())),
        ]
    ),
    "embeddings": pa.schema([("embedding", pa.list_(pa.float32()))]),
}
"""What an analyzer supplies for its table, besides which frame a row belongs to."""


@dataclass(frozen=True)
class TableSpec:
    """One table: its columns, and what its Parquet files look like."""

    name: str
    description: str
    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()
    """Order of rows within a commit, which is what min and max statistics live on."""
    row_group_rows: int = 8192
    skipping_columns: tuple[str, ...] = ()
    """Columns whose min and max go into the log; lists and structs have none worth having."""
    dictionary: bool = True
    """False where the bulk of the bytes are floats that never repeat."""


_TYPES = {
    "s": pa.string(),
    "i32": pa.int32(),
    "i64": pa.int64(),
    "f32": pa.float32(),
    "f64": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
    "i64s": pa.list_(pa.int64()),
}


def _schema(*columns: tuple[str, str | pa.DataType, str]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(
                name,
                _TYPES[kind] if isinstance(kind, str) else kind,
                metadata={"comment": comment},
            )
            for name, kind, comment in columns
        ]
    )


_ANALYSIS = ("analysis", "s", "fingerprint of the analysis; its identity is a table property")
_RUN = ("run_id", "s", "run that wrote the row")
_VIDEO = ("video_id", "s", "sha256 of the video file's bytes, hex")
_FRAME = ("frame_index", "i64", "index in presentation order over the whole video, from 0")
_PTS_S = ("pts_s", "f64", "presentation time in seconds")
_STAMP = ("stamp", "s", "what the file's bytes are known by without reading them: size:mtime_ns")
_RECORDED = ("recorded_at", "time", "when the row was written, UTC")
_FIRST = ("first_frame", "i64", "first sampled frame of the range, inclusive")
_LAST = ("last_frame", "i64", "last sampled frame of the range, inclusive; null: not known")
_BOX = (
    ("x1", "f32", "left edge, pixels of the displayed frame"),
    ("y1", "f32", "top edge, pixels"),
    ("x2", "f32", "right edge, pixels"),
    ("y2", "f32", "bottom edge, pixels"),
)
_CLASS_NAME = ("class_name", "s", "the model's name of the class")

VIDEOS = TableSpec(
    name="videos",
    description="How each video ended, one row per file and outcome; the latest row counts.",
    schema=_schema(
        ("video_id", "s", "sha256 of the file's bytes, hex; null where it could not be indexed"),
        ("uri", "s", "name of the file as it was found"),
        _STAMP,
        ("size_bytes", "i64", "size of the file in bytes"),
        ("container", "s", "container format, by FFmpeg's name"),
        ("codec", "s", "video codec, by FFmpeg's name"),
        ("width", "i32", "displayed width in pixels, after rotation"),
        ("height", "i32", "displayed height in pixels, after rotation"),
        ("rotation", "i32", "counter-clockwise degrees from stored to displayed picture"),
        ("stream_index", "i32", "video stream that was read"),
        ("time_base", "s", "seconds per pts tick, as a fraction such as 1/30000"),
        ("frame_count", "i64", "frames in the file, sampled or not"),
        ("duration_s", "f64", "duration in seconds"),
        ("status", "s", "ok, partial (some frames are missing) or failed"),
        ("reason", "s", "why not ok; empty where ok"),
        ("analyses", pa.list_(pa.string()), "fingerprints of the analyses that status speaks of"),
        _RUN,
        _RECORDED,
    ),
    sort_by=("uri",),
    skipping_columns=("video_id", "uri", "status", "recorded_at"),
)

INDEXES = TableSpec(
    name="indexes",
    description="The frames of each video as its packets tell them, one row per video.",
    schema=_schema(
        _VIDEO,
        ("frame_count", "i64", "length of pts"),
        ("pts", "i64s", "presentation timestamp of every frame, ascending, in time_base"),
        ("keyframes", "i64s", "frame indices at which decoding can start, ascending"),
        ("time_base", "s", "seconds per pts tick, as a fraction such as 1/30000"),
        ("stream_index", "i32", "video stream that was read"),
        ("container", "s", "container format, by FFmpeg's name"),
        ("codec", "s", "video codec, by FFmpeg's name"),
        ("pixel_format", "s", "stored pixel format, by FFmpeg's name"),
        ("width", "i32", "displayed width in pixels, after rotation"),
        ("height", "i32", "displayed height in pixels, after rotation"),
        ("rotation", "i32", "counter-clockwise degrees from stored to displayed picture"),
        ("duration_s", "f64", "duration in seconds"),
        ("exact_pts", "bool", "false where packets do not say when they are shown"),
        ("expected_frames", "i64", "frames that the header promises, 0 where it says nothing"),
        ("damage", "s", "what is wrong with the file as a whole; empty where nothing"),
        _RUN,
    ),
    sort_by=("video_id",),
    # A row can be long (8 bytes a frame before encoding), so groups are small for one lookup; more
    # of them would make footers that take longer to read than the group.
    row_group_rows=256,
    skipping_columns=("video_id", "frame_count"),
)

FRAMES = TableSpec(
    name="frames",
    description="Every sampled frame, exactly once per frames analysis.",
    schema=_schema(
        _ANALYSIS,
        _RUN,
        _VIDEO,
        _FRAME,
        ("pts", "i64", "presentation timestamp in the video's time base"),
        _PTS_S,
        ("is_keyframe", "bool", "decoding can start here"),
        ("width", "i32", "displayed width of this frame in pixels"),
        ("height", "i32", "displayed height of this frame in pixels"),
        ("clip_index", "i64", "clip that owns the frame"),
        ("status", "s", "ok, or failed: not decoded, or quarantined; it has no other rows"),
    ),
    partition_by=("analysis",),
    sort_by=("video_id", "frame_index"),
    skipping_columns=("video_id", "frame_index", "pts_s", "run_id"),
)

DETECTIONS = TableSpec(
    name="detections",
    description="Every box of every sampled frame, best score first within a frame.",
    schema=_schema(
        _ANALYSIS,
        _RUN,
        _VIDEO,
        _FRAME,
        _PTS_S,
        ("detection_index", "i32", "0, 1, 2, ... within the frame"),
        *_BOX,
        ("score", "f32", "confidence, 0 to 1"),
        ("class_id", "i32", "the model's number of the class"),
        _CLASS_NAME,
        ("mask", MASK, "COCO run-length encoding, size (height, width); null where none"),
        ("keypoints", pa.list_(pa.float32()), "x, y, score of each point; null where none"),
    ),
    partition_by=("analysis",),
    sort_by=("video_id", "frame_index", "detection_index"),
    skipping_columns=("video_id", "frame_index", "pts_s", "run_id", "score", "class_id"),
)

EMBEDDINGS = TableSpec(
    name="embeddings",
    description="One vector per sampled frame that could be decoded.",
    schema=_schema(
        _ANALYSIS,
        _RUN,
        _VIDEO,
        _FRAME,
        _PTS_S,
        ("embedding", pa.list_(pa.float32()), "float32; of unit length (L2), except the probe's"),
    ),
    partition_by=("analysis",),
    sort_by=("video_id", "frame_index"),
    # 512 floats a row: 512 rows are 1 MiB, which is what reading one frame's vector costs (2 ms;
    # 2048 rows 12 ms). All rows are read as fast, and files are larger by less than 0.1 %.
    row_group_rows=512,
    skipping_columns=("video_id", "frame_index", "pts_s", "run_id"),
    dictionary=False,
)

TRACKS = TableSpec(
    name="tracks",
    description="Every track in every sampled frame in which it is alive and in the picture.",
    schema=_schema(
        _ANALYSIS,
        _RUN,
        _VIDEO,
        _FRAME,
        _PTS_S,
        ("track_id", "i32", "1, 2, ... within the video, in order of appearance"),
        ("detection_index", "i32", "the frame's detection that it has; null where it has none"),
        *_BOX,
        ("score", "f32", "of the detection, or of the mask, 0 to 1; null where it is lost"),
        ("class_id", "i32", "of the detection; of its last one where it is lost"),
        _CLASS_NAME,
        ("state", "s", "tracked, or lost (box predicted, for a time); readers may interpolate"),
        ("mask", MASK, "COCO run-length encoding, size (height, width); null where none"),
    ),
    partition_by=("analysis",),
    sort_by=("video_id", "frame_index", "track_id"),
    skipping_columns=("video_id", "frame_index", "pts_s", "run_id", "track_id", "class_id"),
)

FAILURES = TableSpec(
    name="failures",
    description="What could not be done, one row per file, range of frames or shard.",
    schema=_schema(
        ("video_id", "s", "sha256 of the file's bytes, hex; null where it could not be read"),
        ("uri", "s", "name of the file as it was found"),
        _STAMP,
        ("analysis", "s", "analysis that lacks the rows; null where it concerns all"),
        ("shard_index", "i32", "shard that was given up; null where it is no shard"),
        _FIRST,
        _LAST,
        ("stage", "s", "discover, index, decode, analyze or collect"),
        ("reason", "s", "what went wrong"),
        ("attempts", "i32", "how often it was tried"),
        _RUN,
        _RECORDED,
    ),
    sort_by=("uri", "shard_index"),
    skipping_columns=("video_id", "uri", "stage", "recorded_at"),
)

SHARDS = TableSpec(
    name="shards",
    description="Shards that landed, one row per analysis and shard: an index of the data tables.",
    schema=_schema(
        ("shard_id", "s", "id that guards the shard's commit in its data table"),
        _VIDEO,
        _ANALYSIS,
        ("shard_index", "i32", "number of the shard within the video, from 0"),
        ("shard_count", "i32", "shards of the video in this analysis"),
        _FIRST,
        _LAST,
        ("frames", "i64", "sampled frames of the shard"),
        ("rows", "i64", "rows that the analysis wrote for it"),
        ("state", "s", "what a tracker goes on with behind the shard; null where none does"),
        _RUN,
    ),
    partition_by=("analysis",),
    sort_by=("video_id", "shard_index"),
    skipping_columns=("video_id", "shard_index", "run_id"),
)

RUNS = TableSpec(
    name="runs",
    description="Runs that had work to do: a row at the beginning, one at the end; the latest "
    "row of a run counts.",
    schema=_schema(
        _RUN,
        ("started_at", "time", "when the run began, UTC"),
        ("ended_at", "time", "when it ended, UTC; null where it has not, or could not say so"),
        ("host", "s", "host of the run's driver"),
        ("config", "s", "the configuration with all its values, JSON"),
        ("inputs", pa.list_(pa.string()), "what the run was given as inputs"),
        ("versions", "s", "versions of Python and of the packages that rows depend on, JSON"),
        ("analyses", pa.list_(pa.string()), "fingerprints of the analyses that were wanted"),
        ("worked", pa.list_(pa.string()), "those of them that any video lacked"),
        ("videos_ok", "i64", "videos that the run ended as ok"),
        ("videos_partial", "i64", "videos that the run ended as partial"),
        ("videos_failed", "i64", "videos that the run ended as failed"),
        ("videos_done_before", "i64", "videos in which nothing was due"),
        ("shards", "i64", "shards that the run made whole"),
        ("frames", "i64", "sampled frames of these shards"),
        ("retries", "i64", "attempts at shards and indexes beyond the first"),
        ("steady_s", "f64", "seconds from the first shard handed out to the last result"),
        ("total_s", "f64", "seconds from start to end"),
        ("stages", "s", "what the time went into, JSON: see ledger.runs.StageTimes"),
        ("exit_code", "i32", "exit code of the command"),
        ("error", "s", "why the run stopped before its end; empty where it did not"),
        _RECORDED,
    ),
    sort_by=("recorded_at",),
    skipping_columns=("run_id", "recorded_at"),
)

DATA_TABLES = ("frames", "detections", "embeddings", "tracks")
"""Tables whose rows belong to shards, in the order in which they are committed."""

TABLES: dict[str, TableSpec] = {
    spec.name: spec
    # videos comes last: an output is one once this table exists.
    for spec in (RUNS, INDEXES, FRAMES, DETECTIONS, EMBEDDINGS, TRACKS, SHARDS, FAILURES, VIDEOS)
}


def plain(table: str) -> pa.Schema:
    """A table's columns without comments: what rows in memory carry."""
    return pa.schema([pa.field(field.name, field.type) for field in TABLES[table].schema])
