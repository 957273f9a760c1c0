"""The schedules: systemd and cron on one machine, and what KubeRay is told to run."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.commands import check_command

CLUSTER = Path(__file__).parents[2] / "cluster"
FOLDER = CLUSTER / "schedule"
KNOWN = {
    "Unit": {"Description", "Wants", "After"},
    "Service": {
        *("Type", "User", "ExecStart", "EnvironmentFile", "Environment", "StateDirectory"),
        *("StateDirectoryMode", "CacheDirectory", "KillMode", "TimeoutStopSec", "LimitNOFILE"),
        *("Nice", "ProtectSystem", "ReadWritePaths", "ProtectHome", "PrivateTmp"),
        *("NoNewPrivileges", "CapabilityBoundingSet", "ProtectKernelTunables"),
        *("ProtectKernelModules", "ProtectControlGroups", "RestrictSUIDSGID"),
    },
    "Timer": {"OnCalendar", "Persistent", "RandomizedDelaySec"},
    "Install": {"WantedBy"},
}
"""Of systemd.unit, systemd.exec, systemd.service, systemd.kill and systemd.timer."""


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    text = (FOLDER / name).read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    parser.read_string(text.replace("\\\n", " "))
    return {section: dict(parser[section]) for section in parser.sections()}


def entrypoints() -> dict[str, list[str]]:
    """The commands of the schedules, word by word, by file."""
    found = {
        "frameledger.service": shlex.split(unit("frameledger.service")["Service"]["ExecStart"])
    }
    (line,) = [x for x in (FOLDER / "frameledger.cron").read_text().splitlines() if " * " in x]
    found["frameledger.cron"] = shlex.split(line)[6:]
    job = yaml.safe_load((CLUSTER / "kuberay" / "rayjob.yaml").read_text())
    found["rayjob.yaml"] = shlex.split(job["spec"]["entrypoint"])
    return found


@pytest.mark.parametrize("name", ["frameledger.service", "frameledger.timer"])
def test_directives_are_those_of_systemd(name):
    for section, told in unit(name).items():
        assert told.keys() <= KNOWN[section]


def test_systemd_finds_nothing_wrong(tmp_path):
    """By its own word where it is installed; by the directives, above, where it is not."""
    for name in ("frameledger.service", "frameledger.timer"):
        text = (FOLDER / name).read_text()
        # The one thing that is to be missing here.
        (tmp_path / name).write_text(text.replace("/opt/frameledger/bin/frameledger", "/bin/true"))
    analyze = shutil.which("systemd-analyze")
    assert "/bin/true" in (tmp_path / "frameledger.service").read_text()
    if analyze is not None:
        done = subprocess.run(
            [analyze, "verify", str(tmp_path / "frameledger.timer")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["frameledger.service", "frameledger.cron", "rayjob.yaml"])
def test_the_command_exists(name):
    words = entrypoints()[name]
    check_command(words)
    assert words[1] == "run"
    for option in ("--budget", "--priority", "--overlap"):
        assert option in words


def test_all_have_the_same_terms():
    terms = ["--budget", "6h", "--priority", "newest", "--overlap", "leave"]
    for words in entrypoints().values():
        assert [word for word in words if word in terms] == terms


def test_the_service_runs_as_nobody_special():
    service = unit("frameledger.service")["Service"]
    assert service["User"] not in ("", "root")
    assert service["NoNewPrivileges"] == service["ProtectHome"] == "true"
    assert service["CapabilityBoundingSet"] == ""
    assert service["StateDirectoryMode"] == "0700"
    output = shlex.split(service["ExecStart"])
    assert output[output.index("--output") + 1].startswith(service["ReadWritePaths"])


def test_the_cron_line_has_a_user_and_no_percent_sign():
    (job,) = re.findall(r"^\d.*$", (FOLDER / "frameledger.cron").read_text(), re.MULTILINE)
    minute, hour, *days, user, command = job.split()[:7]
    assert (minute, hour, days) == ("0", "22", ["*", "*", "*"])
    assert user == unit("frameledger.service")["Service"]["User"]
    assert command.startswith("/")
    assert "%" not in job  # cron reads it as the end of the command.
