"""The command: what it prints, and one line for every mistake."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from pipeline.cli import invoke
from pipeline.serve.server import address_of
from tests.serve.served import ROOT, command, environment, served


def refused(*arguments: object) -> str:
    """The one line that the command ends on."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    return done.stderr


def test_it_serves_on_loopback_until_it_is_stopped(corpus):
    with served(corpus.output) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address + "api/overview", timeout=120) as answer:
            assert answer.status == 200
            assert b'"frames"' in answer.read()


def test_for_others_it_prints_an_address_with_a_token(corpus):
    with served(corpus.output, "--host", "0.0.0.0") as address:
        place, token = address.split("?token=")
        port = place.rstrip("/").rsplit(":", 1)[1]
        assert len(token) >= 32
        here = f"http://127.0.0.1:{port}/"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(here, timeout=120)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(f"{here}?token={token}", timeout=120) as answer:
            assert b"<title>frameledger</title>" in answer.read()
            assert token not in answer.url


def test_mistakes_are_one_line(corpus, tmp_path):
    assert "no such folder" in refused(tmp_path / "nowhere", "--port", 0)

    def told(*arguments: object) -> str:
        """The same, within this process."""
        code, line = invoke(["serve", str(corpus.output), *map(str, arguments)])
        assert (code, line.count("\n")) == (2, 0)
        return line

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = told("--port", port)
    assert f"--port {port}: is in use by another program" in said
    assert "--host no.such.host.invalid:" in told("--host", "no.such.host.invalid")
    assert "--host 203.0.113.9:" in told("--host", "203.0.113.9", "--port", 0)


def test_without_the_extra_it_says_what_to_install(corpus):
    hidden = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from pipeline.cli import main\n"
        f"sys.argv = ['frameledger', 'serve', {str(corpus.output)!r}]\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "frameledger: serve needs uvicorn, which is not installed: "
        "pip install 'frameledger[serve]'\n"
    )


def test_the_address_is_one_that_opens():
    assert address_of("127.0.0.1", 8000, None) == "http://127.0.0.1:8000/"
    assert address_of("::1", 8000, None) == "http://[::1]:8000/"
    assert address_of("0.0.0.0", 80, "t") == f"http://{socket.gethostname()}:80/?token=t"
