"""What inputs name: files, folders, globs and lists, each name once and with one stat."""

import os

import pytest

from pipeline.errors import UsageError
from pipeline.records import Failure, Source
from pipeline.sources.discover import Discovery, discover


@pytest.fixture
def corpus(tmp_path):
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "sub/deep/d.avi", "notes.md", "sub/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path


def names(found, root) -> list[str]:
    return [os.path.relpath(item.uri, root) for item in found]


def test_folder_is_searched_recursively_in_order(corpus):
    assert names(discover([str(corpus)]), corpus) == [
        "a.MKV",
        "b.mp4",
        "sub/c.webm",
        "sub/deep/d.avi",
    ]


def test_a_named_file_is_taken_whatever_it_is_called(corpus):
    assert names(discover([str(corpus / "notes.md")]), corpus) == ["notes.md"]


def test_globs(corpus):
    assert names(discover([f"{corpus}/*.mp4"]), corpus) == ["b.mp4"]
    found = names(discover([f"{corpus}/**/*.avi"]), corpus)
    assert found == ["sub/deep/d.avi"]


def test_list_file_with_comments_and_relative_names(corpus):
    (corpus / "list.txt").write_text("# mine\nb.mp4\n\nsub\n")
    expected = ["b.mp4", "sub/c.webm", "sub/deep/d.avi"]
    assert names(discover([str(corpus / "list.txt")]), corpus) == expected
    assert names(discover([f"@{corpus}/list.txt"]), corpus) == expected


def test_a_missing_line_of_a_list_is_a_failure_of_that_line(corpus):
    (corpus / "list.txt").write_text("gone.mp4\nb.mp4\n")
    gone, present = discover([str(corpus / "list.txt")])
    assert isinstance(gone, Failure)
    assert gone.uri.endswith("gone.mp4")
    assert isinstance(present, Source)


def test_a_list_that_names_itself_is_refused(corpus):
    (corpus / "list.txt").write_text("list.txt\n")
    with pytest.raises(UsageError, match="names itself"):
        list(discover([str(corpus / "list.txt")]))


@pytest.mark.parametrize("name", ["nothing.mp4", "none/*.mp4"])
def test_an_input_that_names_nothing_is_refused(corpus, name):
    with pytest.raises(UsageError, match=r"nothing\.mp4|no file"):
        list(discover([str(corpus / name)]))


def test_odd_names(corpus):
    for name in ("with space.mp4", "новое.mp4", "new\nline.mp4", "[x].mp4"):
        (corpus / name).write_bytes(b"1")
        assert names(discover([str(corpus / name)]), corpus) == [name]


def test_a_name_that_is_not_utf8_is_a_failure(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"1")
    (found,) = discover([str(tmp_path)])
    assert isinstance(found, Failure)
    assert "UTF-8" in found.reason
    found.uri.encode()


def test_links(corpus):
    (corpus / "loop").symlink_to(corpus)
    (corpus / "broken.mp4").symlink_to(corpus / "nowhere")
    found = list(discover([str(corpus)]))
    assert names(found, corpus)[:2] == ["a.MKV", "b.mp4"]
    assert [f.reason for f in found if isinstance(f, Failure)] == ["No such file or directory"]
    assert len(found) == 5


def test_streams_one_name_at_a_time(tmp_path):
    """Nothing after the first name is looked at before it is asked for."""
    (tmp_path / "a.mp4").write_bytes(b"1")
    found = discover([str(tmp_path / "a.mp4"), str(tmp_path / "missing.mp4")])
    assert next(found).uri.endswith("a.mp4")
    with pytest.raises(UsageError):
        next(found)


def test_stamp_follows_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"1")
    (before,) = discover([str(path)])
    path.write_bytes(b"22")
    (after,) = discover([str(path)])
    assert before.stamp != after.stamp
    assert after.size_bytes == 2


def test_links_that_lead_out_are_refused_unless_allowed(corpus, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "deep").mkdir()
    for name in ("far.mp4", "deep/further.mp4"):
        (outside / name).write_bytes(b"far")
    (corpus / "file.mp4").symlink_to(outside / "far.mp4")
    (corpus / "folder").symlink_to(outside / "deep")
    (corpus / "inner.mp4").symlink_to(corpus / "b.mp4")
    (corpus / "itself.mp4").symlink_to("itself.mp4")
    for pattern in (str(corpus), f"{corpus}/**/*.mp4"):
        found = list(discover([pattern]))
        reasons = {os.path.basename(f.uri): f.reason for f in found if isinstance(f, Failure)}
        assert "leads out of" in reasons.pop("file.mp4")
        assert reasons.pop("itself.mp4") == "Too many levels of symbolic links"
        assert ("leads out of" in reasons.pop("folder")) if pattern == str(corpus) else True
        assert not reasons
        taken = names((s for s in found if isinstance(s, Source)), corpus)
        assert {"b.mp4", "inner.mp4"} <= set(taken)
        assert not any("far" in name or "further" in name for name in taken)
        everything = names(discover([pattern], Discovery("anywhere")), corpus)
        assert {"file.mp4", "folder/further.mp4", "inner.mp4"} <= set(everything)


@pytest.mark.parametrize("links", ["inside", "anywhere"])
def test_loops_are_gone_through_once(corpus, links):
    (corpus / "sub" / "up").symlink_to(corpus)
    (corpus / "sub" / "again").symlink_to(corpus / "sub")
    (corpus / "round").symlink_to(corpus / "sub")
    for pattern in (str(corpus), f"{corpus}/**/*", f"{corpus}/**"):
        found = [os.path.realpath(f.uri) for f in discover([pattern], Discovery(links))]
        assert len(found) == len(set(found))
        assert {os.path.basename(path) for path in found} >= {"a.MKV", "b.mp4", "c.webm", "d.avi"}


def test_globs_of_every_kind(corpus):
    def matched(pattern: str) -> list[str]:
        return names(discover([f"{corpus}/{pattern}"]), corpus)

    assert matched("**") == matched("**/*")
    assert matched("[ab].*") == ["a.MKV", "b.mp4"]
    assert matched("s?b/*") == ["sub/c.webm", "sub/e.jpg"]
    assert matched("*/deep/d.avi") == ["sub/deep/d.avi"]
    assert matched("**/deep/**/*.avi") == ["sub/deep/d.avi"]


def test_what_is_hidden_is_passed_over_and_what_is_left_out_is_counted(corpus):
    for name in (".hidden.mp4", "._b.mp4", ".trash/c.mp4", "x.wmv", "sub/y.WMV", "z.gif"):
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_bytes(b"1")
    discovery = Discovery()
    found = names(discover([str(corpus)], discovery), corpus)
    assert found == ["a.MKV", "b.mp4", "sub/c.webm", "sub/deep/d.avi"]
    assert discovery.left_out == {".wmv": 2, ".gif": 1}
    assert "1 .gif, 2 .wmv" in str(discovery.note())
    assert names(discover([str(corpus / ".hidden.mp4")]), corpus) == [".hidden.mp4"]


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path):
    """Whoever runs the tests may be allowed to read everything: a name that is too long."""
    deep = tmp_path
    while len(str(deep)) < 3900:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(deep)
    try:
        os.mkdir("e" * 250)
        os.chdir("e" * 250)
        with open("a.mp4", "wb") as file:
            file.write(b"1")
    finally:
        os.chdir(here)
    (found,) = discover([str(tmp_path)])
    assert isinstance(found, Failure)
    assert "File name too long" in found.reason
