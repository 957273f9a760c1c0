"""What inputs name: files, folders, globs and lists, each name once and with one stat."""

import os

import pytest

from pipeline.errors import UsageError
from pipeline.records import Failure, Source
from pipeline.sources.discover import discover


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
