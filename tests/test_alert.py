"""A real server is told how runs end; one that is not there changes nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipeline import alert as alerting
from pipeline.alert import alert
from pipeline.config import AlertConfig
from pipeline.config_file import load_config, parse_config
from pipeline.errors import ConfigError, RunAborted
from pipeline.runner import run
from tests.engine.test_engines import probe
from tests.test_cli import frameledger
from tests.videos import make

SECRET = "/services/T0/s3cr3t?token=hush"
VARIABLE = "TEST_WEBHOOK"


@dataclass
class Hook:
    """Answers POSTs as it is told to, and keeps what came."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 when they are used up."""
    came: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    wait_s: float = 0.0


@pytest.fixture
def hook(monkeypatch) -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(found.wait_s)
            found.came.append(json.loads(body))
            found.paths.append(self.path)
            status = found.answers.pop(0) if found.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}{SECRET}"
    monkeypatch.setenv(VARIABLE, found.url)
    monkeypatch.setattr(alerting, "PAUSE_S", 0.01)
    yield found
    server.shutdown()
    server.server_close()


FAILED, FINE = {"exit_code": 3, "text": "x"}, {"exit_code": 0, "text": "y"}
ON_FAILURE = AlertConfig(webhook_env=VARIABLE)
ALWAYS = AlertConfig(webhook_env=VARIABLE, on="always")


def test_who_wants_to_hear_of_failures_hears_of_no_other_run(hook):
    assert alert(ON_FAILURE, FINE) == alert(ON_FAILURE, FAILED) == alert(ALWAYS, FINE) == ""
    assert hook.came == [FAILED, FINE]
    assert set(hook.paths) == {SECRET}


def test_what_may_pass_is_tried_again(hook):
    hook.answers = [503, 429]
    assert alert(ALWAYS, FINE) == ""
    assert len(hook.came) == 3


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (403, 1), (404, 1), (302, 1)])
def test_what_does_not_pass_is_said_without_the_secret(hook, status, tries):
    hook.answers = [status] * 5
    assert alert(ALWAYS, FINE) == f"alert: http://127.0.0.1 was not told: HTTP status {status}"
    assert len(hook.came) == tries


def test_one_that_does_not_answer_is_left(hook, monkeypatch):
    monkeypatch.setattr(alerting, "TIMEOUT_S", 0.1)
    hook.wait_s = 0.5
    began = time.monotonic()
    assert alert(ALWAYS, FINE) == "alert: http://127.0.0.1 was not told: TimeoutError"
    assert time.monotonic() - began < 2


def test_one_that_is_not_there_is_a_note(monkeypatch):
    monkeypatch.setattr(alerting, "PAUSE_S", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{port}{SECRET}")
    problem = alert(ALWAYS, FINE)
    assert problem == "alert: http://127.0.0.1 was not told: Connection refused"


@pytest.mark.parametrize("url", ["", "ftp://x/y", "hush", "http://", "http://[hush", "file:///e"])
def test_what_is_no_url_is_said_by_its_name_alone(monkeypatch, url):
    monkeypatch.setenv(VARIABLE, url)
    problem = alert(ALWAYS, FINE)
    assert problem.startswith(f"alert.webhook_env: {VARIABLE} ")
    assert "hush" not in problem


def test_a_line_break_in_the_url_is_no_traceback(monkeypatch):
    monkeypatch.setattr(alerting, "PAUSE_S", 0.01)
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1/a b\thush")
    problem = alert(ALWAYS, FINE)
    assert "hush" not in problem
    assert problem.startswith("alert: http://127.0.0.1 was not told: ")


# -- from a run ----------------------------------------------------------------------------


def test_a_run_tells_what_its_report_says(hook, tmp_path):
    make(tmp_path / "v" / "a.mp4", 12, width=64, height=48)
    settings = probe(alert={"webhook_env": VARIABLE, "on": "always"})
    inputs = [str(tmp_path / "v")]
    run(settings, inputs, tmp_path / "o", engine="local", report=tmp_path / "r")
    (came,) = hook.came
    assert came == json.loads((tmp_path / "r" / "run.json").read_text())
    assert came["text"].startswith(f"frameledger {tmp_path / 'o'}: exit code 0: videos 1 ok")


def test_a_run_that_aborts_tells_too(hook, tmp_path):
    make(tmp_path / "v" / "a.mp4", 12, width=64, height=48)
    settings = probe(alert={"webhook_env": VARIABLE})
    run(settings, [str(tmp_path / "v")], tmp_path / "o", engine="local")
    assert hook.came == []
    (tmp_path / "o" / "_runs").write_text("in the way")
    with pytest.raises(RunAborted):
        run(settings, [str(tmp_path / "v")], tmp_path / "o", engine="local")
    assert [came["exit_code"] for came in hook.came] == [1]


def test_the_exit_code_is_the_run_s_whatever_becomes_of_the_alert(hook, tmp_path):
    make(tmp_path / "v" / "a.mp4", 12, width=64, height=48)
    hook.answers = [404]
    sets = ["--set", f"alert.webhook_env={VARIABLE}", "--set", "alert.on=always"]
    where = ["-o", tmp_path / "o", "--engine", "local"]
    done = frameledger("run", "configs/probe.yaml", tmp_path / "v", *where, *sets)
    assert done.returncode == 0, done.stderr
    assert "note     alert: http://127.0.0.1 was not told: HTTP status 404" in done.stdout
    (tmp_path / "o" / "_runs").write_text("in the way")
    hook.answers = [404]
    done = frameledger("run", "configs/probe.yaml", tmp_path / "v", *where, *sets)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert "frameledger: alert: http://127.0.0.1 was not told: HTTP status 404" in said
    assert "s3cr3t" not in done.stdout + done.stderr


def test_the_key_on_means_what_it_says_in_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("alert:\n  webhook_env: HOOK\n  on: always\n")
    config = load_config(tmp_path / "c.yaml")
    assert config.alert is not None
    assert config.alert.on == "always"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("webhook_env", "must be the name of an environment variable"),
        ("webhook", "Extra inputs are not permitted"),
    ],
)
def test_a_url_in_the_file_is_refused_without_being_said(key, reason):
    data = {"alert": {"webhook_env": VARIABLE, key: "https://h/hush"}}
    with pytest.raises(ConfigError) as error:
        parse_config(data, where="c.yaml")
    assert str(error.value).startswith("c.yaml: alert")
    assert reason in str(error.value)
    assert "hush" not in str(error.value)
