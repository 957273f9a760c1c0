"""Runs over videos in a store: what they write, what they read, and what becomes of trouble."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.deep_verify import deep_verify
from pipeline.engine.worker import Decoder
from pipeline.errors import RunAborted, UsageError
from pipeline.ledger.reader import Ledger
from pipeline.ledger.verify import verify
from pipeline.preview import plan
from pipeline.runner import run
from pipeline.storage import clients
from tests.object_store import object_store
from tests.videos import make, make_large

OF_THE_PLACE = ("uri", "stamp", "run_id", "recorded_at")
TABLES = ("frames", "embeddings", "indexes", "shards", "videos", "failures")


def config_of(folder: Path, **settings: object) -> Config:
    data = {"embedder": {"backend": "probe"}, "clip": {"length": 8}, **settings}
    data["decode"] = {"cache_folder": str(folder), **dict(data.get("decode", {}))}
    return parse_config(data, where="test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Videos of several MB, the mp4 with its header at its end, and a file that is none."""
    folder = tmp_path_factory.mktemp("corpus")
    for name in ("a.mp4", "sub/b.mkv", "sub/c.ts"):
        make_large(folder / name, 60, width=640, height=360, gop=12)
    data = (folder / "a.mp4").read_bytes()
    assert data.find(b"moov") > len(data) // 2 > 3 * 2**20
    (folder / "none.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def expected(corpus, tmp_path_factory) -> dict[str, pa.Table]:
    output = tmp_path_factory.mktemp("expected")
    summary = run(config_of(output), [str(corpus)], output, engine="local")
    assert summary.exit_code == 3
    return rows(output)


@pytest.fixture
def videos(store, corpus) -> str:
    """The corpus in the store."""
    for path in corpus.rglob("*.*"):
        store.put("corpus", f"videos/{path.relative_to(corpus)}", path)
    store.tell()
    return "s3://corpus/videos"


def rows(output: Path) -> dict[str, pa.Table]:
    """Every row of every table but for where its video lies, in an order of its own."""
    found = {}
    for name in TABLES:
        table = Ledger(output).table(name)
        names = [n for n in table.column_names if n not in OF_THE_PLACE]
        plain = [n for n in names if not pa.types.is_nested(table.schema.field(n).type)]
        table = table.select(names).sort_by([(n, "ascending") for n in plain])
        found[name] = table.replace_schema_metadata()
    return found


def assert_same(output: Path, expected: dict[str, pa.Table]) -> None:
    found = rows(output)
    for name, table in expected.items():
        assert found[name].equals(table), name
    assert [str(finding) for finding in verify(str(output)).findings] == []


def size_of(corpus: Path) -> int:
    return sum(path.stat().st_size for path in corpus.rglob("*.*"))


def test_tables_are_those_of_local_files_and_bytes_are_read_once(
    store, videos, corpus, expected, tmp_path
):
    output = tmp_path / "out"
    summary = run(config_of(tmp_path), [videos], output, engine="local")
    assert summary.exit_code == 3
    assert_same(output, expected)
    uris = {row["uri"] for row in Ledger(output).videos().to_pylist()}
    assert uris == {f"{videos}/{p.relative_to(corpus)}" for p in corpus.rglob("*.*")}
    share = store.bytes_read("corpus") / size_of(corpus)
    print(f"{size_of(corpus):,} bytes of videos; read {share:.4f} of them")
    assert share <= 1.001

    store.tell()
    again = run(config_of(tmp_path), [videos], output, engine="local")
    figures = store.figures()
    assert (again.videos_done_before, again.frames) == (3, 0)
    assert "corpus GET" not in figures
    assert figures["corpus HEAD"]["requests"] <= 2
    assert sum(one["bytes"] for one in figures.values()) < 0.01 * size_of(corpus)


def test_what_has_changed_is_taken_anew_and_nothing_else(store, videos, corpus, tmp_path):
    output, config = tmp_path / "out", config_of(tmp_path)
    run(config, [videos], output, engine="local")
    other = make_large(tmp_path / "other.mp4", 20)
    store.put("corpus", "videos/a.mp4", other)
    store.tell()
    assert plan(config, [videos], str(output)).videos == {"changed": 1, "done": 2, "failed": 1}
    assert store.bytes_read("corpus") == other.stat().st_size
    run(config, [videos], output, engine="local")
    assert store.bytes_read("corpus") == other.stat().st_size, "plan had it fetched"
    now = {row["uri"]: row for row in Ledger(output).videos().to_pylist()}
    assert now[f"{videos}/a.mp4"]["frame_count"] == 20
    assert Ledger(output).table("frames").num_rows == 140


@pytest.mark.parametrize(
    "trouble",
    [{"fail": 0.1}, {"slow": 0.3, "seconds": 0.3}, {"lose": 0.1}],
    ids=["503", "slow", "lost replies"],
)
def test_a_store_in_trouble_changes_nothing(store, videos, expected, tmp_path, trouble):
    store.tell(**trouble)
    run(config_of(tmp_path), [videos], tmp_path / "out", engine="local")
    assert_same(tmp_path / "out", expected)


def test_a_cache_smaller_than_the_corpus(store, videos, corpus, expected, tmp_path):
    room = int(1.5 * max(path.stat().st_size for path in corpus.rglob("*.*")))
    config = config_of(tmp_path, decode={"cache": room})
    run(config, [videos], tmp_path / "out", engine="local")
    assert_same(tmp_path / "out", expected)
    kept = sum(path.stat().st_size for path in tmp_path.glob("frameledger-*/*/*/video*"))
    assert 0 < kept <= room
    assert store.bytes_read("corpus") <= 1.001 * size_of(corpus)


def test_videos_larger_than_the_cache(store, videos, corpus, expected, tmp_path):
    run(config_of(tmp_path, decode={"cache": "1MiB"}), [videos], tmp_path / "out", engine="local")
    assert_same(tmp_path / "out", expected)
    kept = [path.stat().st_size for path in tmp_path.glob("frameledger-*/*/*/video*")]
    assert kept == [8]
    share = store.bytes_read("corpus") / size_of(corpus)
    print(f"read {share:.2f} times the videos' size, without a cache")
    # Once to be indexed and hashed, once to be decoded, and the ends of the mp4 again.
    assert share < 3


def test_deep_verify_and_plan(store, videos, tmp_path):
    config = config_of(tmp_path)
    assert plan(config, [videos], str(tmp_path / "out")).frames == 180
    run(config, [videos], tmp_path / "out", engine="local")
    report = deep_verify(str(tmp_path / "out"), config, sample=12)
    assert (report.findings, report.passed_over) == ([], {})
    assert report.frames > 0
    store.put("corpus", "videos/a.mp4", make(tmp_path / "small.mp4", 9))
    report = deep_verify(str(tmp_path / "out"), config, sample=64)
    assert report.passed_over == {f"{videos}/a.mp4": "the file has other bytes now"}


def many(store, tmp_path: Path, count: int) -> str:
    data = make(tmp_path / "one.mp4", 9).read_bytes()
    for i in range(count):
        # A box that players pass over makes each another video.
        store.put("corpus", f"many/{i:02}.mp4", data + b"\0\0\0\x0cfree%04d" % i)
    return "s3://corpus/many"


@pytest.mark.parametrize("trouble", ["refused", "away"])
def test_a_store_that_goes_during_a_run_stops_it(tmp_path, monkeypatch, trouble):
    """With its reason in one line, and without a failure for what nobody could read."""
    monkeypatch.setattr(clients, "RETRIES", 2)
    with object_store() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        inputs = many(store, tmp_path, 20)
        original, seen = Decoder.index, []

        def index(self, source):
            seen.append(source)
            if len(seen) == 3:
                store.tell(refuse=1.0) if trouble == "refused" else store.process.kill()
            return original(self, source)

        monkeypatch.setattr(Decoder, "index", index)
        with pytest.raises(RunAborted) as raised:
            run(config_of(tmp_path), [inputs], tmp_path / "out", engine="local")
    told = str(raised.value)
    assert "access refused" if trouble == "refused" else "cannot be reached" in told
    assert "10 videos in a row" in told
    assert "\n" not in told
    assert len(seen) == 12
    assert Ledger(tmp_path / "out").videos().num_rows == 2


def test_refused_from_the_start(store, videos, tmp_path):
    store.tell(refuse=1.0)
    with pytest.raises(UsageError, match=r"^input s3://corpus/videos: access refused: [^\n]*$"):
        run(config_of(tmp_path), [videos], tmp_path / "out", engine="local")


COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def test_with_ray_workers_share_the_cache(store, videos, corpus, expected, tmp_path):
    """As a user starts it: workers have the environment of the command."""
    (tmp_path / "config.yaml").write_text(
        f"embedder: {{backend: probe}}\nclip: {{length: 8}}\n"
        f"decode: {{cache_folder: {tmp_path}}}\nengine: {{workers: 2}}\n"
        "memory: {limit: 2GiB}\n"
    )
    output = tmp_path / "out"
    store.tell(fail=0.05)
    with tempfile.TemporaryDirectory(prefix="fl-ray-", dir="/tmp") as short:
        ended = subprocess.run(
            [*COMMAND, "run", str(tmp_path / "config.yaml"), videos, "--output", str(output)],
            env=os.environ | {"RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert ended.returncode == 3, ended.stderr
    assert_same(output, expected)
    assert store.bytes_read("corpus") <= 1.001 * size_of(corpus)


def test_two_runs_at_once_read_each_video_once(store, videos, corpus, expected, tmp_path):
    """On one machine, into one output: they share the work, and the cache."""
    (tmp_path / "config.yaml").write_text(
        f"embedder: {{backend: probe}}\nclip: {{length: 8}}\ndecode: {{cache_folder: {tmp_path}}}\n"
    )
    command = [*COMMAND, "run", str(tmp_path / "config.yaml"), videos, "--engine", "local"]
    store.tell(slow=1.0, seconds=0.05)
    outputs = [tmp_path / "out", tmp_path / "other"]
    runs = [
        subprocess.Popen([*command, "--output", str(output)], stderr=subprocess.PIPE, text=True)
        for output in (outputs[0], outputs[0], outputs[1])
    ]
    codes = {process.wait(timeout=600) for process in runs}
    for process in runs:
        process.stderr.close()
    assert codes == {3}
    for output in outputs:
        assert_same(output, expected)
    assert store.bytes_read("corpus") <= 1.001 * size_of(corpus)


def test_no_credentials_are_said_in_time(store, videos, tmp_path):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    clean |= {"AWS_METADATA_ENDPOINT": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    (tmp_path / "config.yaml").write_text("embedder: {backend: probe}\n")
    started = time.monotonic()
    ended = subprocess.run(
        [*COMMAND, "run", str(tmp_path / "config.yaml"), videos, "-o", str(tmp_path / "out")],
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("frameledger: s3://corpus: no credentials on ")
    assert "AWS_ACCESS_KEY_ID" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert time.monotonic() - started < 20
