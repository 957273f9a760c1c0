"""What an output must hold when its round is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.ledger.reader import Ledger
from pipeline.ledger.schema import TABLES
from pipeline.ledger.store import Store
from pipeline.ledger.verify import verify

VARYING = ("run_id", "recorded_at")
"""Columns that differ from run to run."""
KEYS = {
    "indexes": ("video_id",),
    "frames": ("analysis", "video_id", "frame_index"),
    "detections": ("analysis", "video_id", "frame_index", "detection_index"),
    "embeddings": ("analysis", "video_id", "frame_index"),
    "shards": ("analysis", "video_id", "shard_index"),
    "videos": ("uri",),
}


@dataclass
class Tables:
    """All rows of an output, contents only, and of each uri its latest row of `videos`."""

    output: Path
    _read: dict[str, pa.Table] = field(default_factory=dict)

    def rows(self, table: str) -> pa.Table:
        if table not in self._read:
            self._read[table] = self._rows(table)
        return self._read[table]

    def _rows(self, table: str) -> pa.Table:
        ledger = Ledger(self.output)
        found = ledger.videos() if table == "videos" else ledger.table(table, current=False)
        found = found.drop_columns([name for name in VARYING if name in found.column_names])
        keys = KEYS.get(table, ())
        return found.sort_by([(key, "ascending") for key in keys]) if keys else found

    @property
    def failures(self) -> list[dict[str, object]]:
        return self.rows("failures").to_pylist()


@dataclass(frozen=True)
class GivenUp:
    """Clips, shards, and whole videos that never got an index, that `failures` speaks of."""

    clips: frozenset[tuple[str, int, int]] = frozenset()
    """(video_id, first frame, last frame)"""
    shards: frozenset[tuple[str, int]] = frozenset()
    """(video_id, shard_index)"""
    uris: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clips) + len(self.shards) + len(self.uris)


def given_up(tables: Tables) -> GivenUp:
    """What the output says it has given up."""
    clips, shards, uris = set(), set(), set()
    for row in tables.failures:
        if row["video_id"] is None:
            uris.add(str(row["uri"]))
        elif row["shard_index"] is None:
            first, last = (int(str(row[name])) for name in ("first_frame", "last_frame"))
            clips.add((str(row["video_id"]), first, last))
        else:
            shards.add((str(row["video_id"]), int(str(row["shard_index"]))))
    return GivenUp(frozenset(clips), frozenset(shards), frozenset(uris))


def check_tables(output: Path, truth: Tables, lost: GivenUp) -> list[str]:
    """Violations: rows twice, lost or changed against the fault-free tables without `lost`."""
    found = Tables(output)
    wrong = [str(finding) for finding in verify(str(output)).findings]
    for table in KEYS:
        right, rows = _without_clips(table, truth, lost), found.rows(table)
        gone = _lost_rows(table, right, truth, lost)
        if table == "videos":
            wrong += _status(right.filter(gone), rows)
            same = pc.is_in(rows.column("uri"), right.filter(gone).column("uri"))
            rows = rows.filter(pc.invert(same))
        wrong += _differences(table, right.filter(pc.invert(gone)), rows)
    for row in found.failures:
        if not (row["uri"] and row["stage"] and row["reason"]):
            wrong.append(f"failures: a row without file, stage or reason: {row}")
    return wrong


def _without_clips(table: str, truth: Tables, lost: GivenUp) -> pa.Table:
    """The fault-free rows as they are where clips were quarantined: their frames are marked as
    failed and have no other rows, which `shards` counts."""
    right = truth.rows(table)
    if not lost.clips or not {"frame_index", "rows"} & set(right.column_names):
        return right
    video = np.array(right.column("video_id").to_pylist())
    frame = right.column("first_frame" if table == "shards" else "frame_index").to_numpy()
    if table == "shards":
        rows, last = right.column("rows").to_numpy().copy(), right.column("last_frame").to_numpy()
        frames = truth.rows("frames").column("analysis")[0].as_py()
        data = np.array(right.column("analysis").to_pylist()) != frames
        for video_id, first, stop in lost.clips:
            here = (video == video_id) & (frame <= first) & (first <= last)
            rows[here & data] -= stop - first + 1
        return right.set_column(right.schema.get_field_index("rows"), "rows", pa.array(rows))
    gone = np.zeros(len(right), bool)
    for video_id, first, stop in lost.clips:
        gone |= (video == video_id) & (first <= frame) & (frame <= stop)
    if table != "frames":
        return right.filter(pa.array(~gone))
    status = pc.if_else(pa.array(gone), "failed", right.column("status"))
    return right.set_column(right.schema.get_field_index("status"), "status", status)


def _lost_rows(table: str, right: pa.Table, truth: Tables, lost: GivenUp) -> pa.Array:
    """bool per row of the fault-free table: whether it may be missing (`videos`: be not ok)."""
    videos = truth.rows("videos")
    ids = dict(zip(videos["uri"].to_pylist(), videos["video_id"].to_pylist(), strict=True))
    whole = {ids[uri] for uri in lost.uris}
    mask = np.isin(right.column("video_id").to_pylist(), list(whole))
    if table == "videos":
        mask |= np.isin(right.column("video_id").to_pylist(), [clip[0] for clip in lost.clips])
    shards = truth.rows("shards").to_pylist()
    for row in shards:
        if (row["video_id"], row["shard_index"]) not in lost.shards:
            continue
        mine = np.array(right.column("video_id").to_pylist()) == row["video_id"]
        if table == "shards":
            mine &= right.column("shard_index").to_numpy() == row["shard_index"]
        elif "frame_index" in right.column_names:
            frame = right.column("frame_index").to_numpy()
            mine &= (row["first_frame"] <= frame) & (frame <= row["last_frame"])
        elif table == "indexes":
            continue
        mask |= mine
    return pa.array(mask, pa.bool_())


def _status(right: pa.Table, rows: pa.Table) -> list[str]:
    """Files of which something was given up say so."""
    by_uri = {row["uri"]: row for row in rows.to_pylist()}
    wrong = []
    for uri in right.column("uri").to_pylist():
        row = by_uri.get(uri)
        if row is None or row["status"] == "ok" or not row["reason"]:
            wrong.append(f"videos: {uri} lacks rows, and its row is {row}")
    return wrong


def _differences(table: str, right: pa.Table, rows: pa.Table) -> list[str]:
    if rows.equals(right):
        return []
    keys = KEYS[table]
    found, wanted = (
        list(zip(*(t.column(key).to_pylist() for key in keys), strict=True)) for t in (rows, right)
    )
    twice = len(found) - len(set(found))
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if twice or missing or extra:
        first = (missing or extra or [None])[0]
        return [
            f"{table}: {twice} rows twice, {len(missing)} lost, {len(extra)} that should not be "
            f"there, the first {first}"
        ]
    for one, other in zip(rows.to_pylist(), right.to_pylist(), strict=True):
        if one != other:
            return [f"{table}: contents differ, first {one} instead of {other}"]
    return [f"{table}: the types of the columns differ"]


def stray_files(output: Path) -> list[str]:
    """Files on disk that no live version of a table names."""
    store, stray = Store(str(output)), []
    for table in TABLES:
        live = {Path(uri).resolve() for uri in store.open(table).file_uris()}
        for path in (output / table).rglob("*"):
            if path.is_file() and "_delta_log" not in path.parts and path.resolve() not in live:
                stray.append(f"{path.relative_to(output)} is on disk and in no table")
    known = set(TABLES)
    stray += [f"{path.name} is no table" for path in output.iterdir() if path.name not in known]
    return stray
