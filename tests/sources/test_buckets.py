"""What inputs name in a store: objects, prefixes, patterns and lists, as with local files."""

import pytest

from pipeline.errors import RunAborted, UsageError
from pipeline.records import Failure, Source
from pipeline.sources.discover import Discovery, check_inputs, discover, look
from pipeline.storage import clients

NAMES = (
    *("b.mp4", "a.MKV", "sub/c.webm", "sub/deep/d.avi", "notes.md", "sub/e.jpg", "old.wmv"),
    *(".hidden.mp4", ".trash/f.mp4", "sub/.g.mp4", "sub/.old/h.wmv", "x[1].mp4", "ba/r.mp4"),
)


@pytest.fixture(scope="module")
def _filled(_server):
    for name in NAMES:
        _server.put("corpus", f"found/{name}", b"x" * len(name))
    _server.put("corpus", "found2/z.mp4", b"x")


@pytest.fixture
def root(store, _filled) -> str:
    return "s3://corpus/found"


@pytest.fixture
def folder(tmp_path):
    """The same names in a local folder."""
    for name in NAMES:
        path = tmp_path / "found" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "found"


def names(found, root) -> list[str]:
    items = [*found]
    assert all(isinstance(item, Source) for item in items)
    return sorted(item.uri.removeprefix(f"{root}/") for item in items)


def test_a_prefix_is_searched_as_a_folder_is(root, folder, store):
    here, there = Discovery(), Discovery()
    found = names(discover([str(folder)], here), folder)
    assert names(discover([root], there), root) == found
    assert names(discover([f"{root}/"]), root) == found
    assert found == ["a.MKV", "b.mp4", "ba/r.mp4", "sub/c.webm", "sub/deep/d.avi", "x[1].mp4"]
    assert there.left_out == here.left_out == {".wmv": 1}
    assert "corpus GET" not in store.figures()


@pytest.mark.parametrize(
    "pattern",
    ["*.mp4", "**/*.avi", "**", "s*/*", "sub/**/*", "**/deep/*.avi", "b?/r.mp4", "*", "[ab].*"],
)
def test_patterns_match_what_they_match_locally(root, folder, pattern):
    found = names(discover([f"{folder}/{pattern}"]), folder)
    assert found
    assert names(discover([f"{root}/{pattern}"]), root) == found


def test_a_pattern_lists_from_its_longest_plain_prefix(root, store):
    for i in range(30):
        store.put("corpus", f"plain/other/{i}.mp4", b"")
    store.put("corpus", "plain/this/a.mp4", b"")
    store.tell()
    (found,) = discover(["s3://corpus/plain/this/*.mp4"])
    assert found.uri == "s3://corpus/plain/this/a.mp4"
    assert store.figures()["corpus LIST"]["bytes"] < 1000


def test_an_object_named_outright_is_taken_whatever_it_is_called(root):
    assert names(discover([f"{root}/notes.md", f"{root}/x[1].mp4"]), root) == [
        "notes.md",
        "x[1].mp4",
    ]
    (source,) = discover(["s3a://corpus/found/b.mp4"])
    assert source == look(source.uri)
    assert (source.uri, source.size_bytes) == (f"{root}/b.mp4", 5)
    (listed,) = discover([f"{root}/b*.mp4"])
    assert listed == source, "the same by a listing and by itself"


def test_a_list_in_a_store_and_a_local_one(root, store, tmp_path):
    lines = "# mine\nb.mp4\n\nsub\nx[1].mp4\n*.MKV\n"
    store.put("corpus", "found/list.txt", lines.encode())
    expected = ["a.MKV", "b.mp4", "sub/c.webm", "sub/deep/d.avi", "x[1].mp4"]
    assert names(discover([f"{root}/list.txt"]), root) == expected
    assert names(discover([f"@{root}/list.txt"]), root) == expected
    absolute = [f"{root}/{line}" for line in lines.split()[2:]]
    (tmp_path / "list.txt").write_text("\n".join(absolute))
    assert names(discover([str(tmp_path / "list.txt")]), root) == expected
    store.delete("corpus", "found/list.txt")


def test_objects_of_a_list_keep_its_order_and_each_bad_line_is_its_own_failure(root, tmp_path):
    lines = [f"{root}/b.mp4", f"{root}/gone.mp4", "s3://nobody/a.mp4", "http://h/a.mp4", "s3://"]
    lines += [f"{root}/a.MKV", "s3://nobody/x/*.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = [*discover([str(tmp_path / "list.txt")])]
    assert [item.uri for item in found] == lines
    reasons = [item.reason for item in found if isinstance(item, Failure)]
    nothing = "no such object, and nothing below it"
    assert reasons[:2] == [nothing, "no such bucket"]
    assert reasons[2] == "http:// is not known: s3://, gs://, az:// and local files are"
    assert reasons[3] == "names no bucket; write SCHEME://BUCKET/KEY"
    assert [item.systemic for item in found if isinstance(item, Failure)] == [
        *(False, True, False, False, True)
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("s3://corpus/nothing.mp4", "no such object, and nothing below it"),
        ("s3://corpus/nothing/", "no such object, and nothing below it"),
        ("s3://corpus/found/*.mpg", "matches no file"),
        ("s3://nobody/x.mp4", "no such bucket"),
        ("s3://nobody", "no such bucket"),
        ("s3://nobody/x/*.mp4", "no such bucket"),
        ("@s3://corpus/nothing.txt", "no such object"),
        ("s3://", "names no bucket"),
        ("http://h/a.mp4", "http:// is not known"),
        ("file:///a.mp4", "file:// is not known"),
    ],
)
def test_an_input_that_names_nothing_is_refused(root, name, reason):
    with pytest.raises(UsageError) as raised:
        list(discover([name]))
    told = str(raised.value)
    assert reason in told
    assert name.removeprefix("@") in told
    assert "\n" not in told
    if "*.mpg" not in name:
        with pytest.raises(UsageError, match=reason):
            check_inputs([name])


def test_refused_credentials_are_one_line(root, store):
    store.tell(refuse=1.0)
    for ask in (lambda: list(discover([root])), lambda: check_inputs([root])):
        with pytest.raises(UsageError) as raised:
            ask()
        assert str(raised.value) == f"input {root}: access refused: 403 Forbidden"


def test_a_store_that_is_away_stops_the_run(root, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(clients, "RETRIES", 1)
    with pytest.raises(RunAborted, match=f"input {root}: cannot be reached"):
        check_inputs([root])


def test_a_key_that_the_client_cannot_list_is_named(store):
    store.put("corpus", "odd//a.mp4", b"x")
    with pytest.raises(RunAborted, match=r'a key that cannot be listed: Path "odd//a.mp4"'):
        list(discover(["s3://corpus/odd"]))
    store.delete("corpus", "odd//a.mp4")


def test_what_is_there_passes(root, tmp_path):
    check_inputs([root, f"{root}/b.mp4", f"{root}/*.none", "s3://corpus", str(tmp_path)])


def test_another_content_has_another_stamp(root, store):
    (before,) = discover([f"{root}2/z.mp4"])
    store.put("corpus", "found2/z.mp4", b"y")
    (after,) = discover([f"{root}2/z.mp4"])
    assert before.stamp != after.stamp
    store.put("corpus", "found2/z.mp4", b"x")
    (again,) = discover([f"{root}2/z.mp4"])
    assert again.stamp == before.stamp
