"""A way into this machine by ssh: an sshd on loopback with keys and a home of its own, for a test.

The home stands for that of the user on a cluster's head: `.profile` puts the Python that has Ray
first on the PATH of a login shell, as a user there has to. Nothing outside of the folder is
written; an SSH configuration of its own leads to the port, which the launcher's schema cannot name.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.heads import BIN, free_port

HOST = "127.0.0.1"
"""Ray looks a host up before it calls ssh, so an alias that is no name will not do."""
PACKAGES = ("openssh-server", "openssh-client", "rsync")
_SBIN = ":/usr/sbin:/usr/local/sbin"


def find(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + _SBIN)


def why_not() -> str:
    """Why this machine cannot be entered by ssh; "" where it can. Installs what is missing in a
    container of which we are root, where nothing is started or opened by that."""
    lacking = _lacking()
    in_container = not os.path.isdir("/run/systemd/system")
    if lacking and os.getuid() == 0 and in_container and find("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, env=environment, capture_output=True, check=False, timeout=900)
        lacking = _lacking()
    if lacking:
        return f"needs {', '.join(lacking)}: apt-get install {' '.join(PACKAGES)}"
    return ""


def _lacking() -> list[str]:
    return [name for name in ("sshd", "ssh", "ssh-keygen", "rsync") if find(name) is None]


@dataclass(frozen=True)
class Door:
    """An sshd that lets in who has the key."""

    home: Path
    key: Path
    bin: Path
    """A folder with an `ssh` that knows the port; to be first on the PATH."""


@contextmanager
def sshd(folder: Path, profile: dict[str, str]) -> Iterator[Door]:
    """Let the owner of this process in at `HOST`.

    Args:
        profile: variables of a login shell, beside PATH.
    """
    home, bin_folder, port = folder / "home", folder / "bin", free_port()
    for made in (home, bin_folder):
        made.mkdir(parents=True)
    lines = [f'export PATH="{BIN}:$PATH"', *(f'export {k}="{v}"' for k, v in profile.items())]
    (home / ".profile").write_text("\n".join(lines) + "\n")
    (home / ".bashrc").write_text("")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\n"
        f"HostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/sshd.pid\n"
        f"SetEnv HOME={home}\n"
        "AuthenticationMethods publickey\n"
        "PermitRootLogin prohibit-password\n"
        "StrictModes no\n"
        "UsePAM no\n"
        "PrintMotd no\n"
    )
    (folder / "ssh_config").write_text(
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  LogLevel ERROR\n"
    )
    ssh = bin_folder / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {find("ssh")} -F {folder}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    if os.getuid() == 0:  # Where sshd keeps unprivileged halves of itself.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with open(folder / "sshd.log", "wb") as log:
        process = subprocess.Popen(
            [str(find("sshd")), "-D", "-e", "-f", f"{folder}/sshd_config"], stderr=log
        )
    try:
        _wait_for(port, process, folder / "sshd.log")
        yield Door(home, folder / "user", bin_folder)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1000):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"no sshd: {log.read_text()}")


def user() -> str:
    return getpass.getuser()
