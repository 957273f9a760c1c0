"""Whether shell commands exist: each `ray` and `frameledger` in them is parsed by its own parser.

Nothing is run. Other programs (kubectl, docker ...) are known by name, and bash looks at the rest.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

OTHERS = {
    *("aws", "base64", "docker", "echo", "export", "grep", "head", "kubectl", "pip"),
    *("prometheus", "umask", "xargs"),
}
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_ENDS = {"|", "&&", "||", ";", "(", ")", "<", ">", ">>"}


def check_script(text: str) -> list[str]:
    """Parse every command of a script; the programs that it calls, in order.

    Raises CalledProcessError for what bash does not parse, and ValueError naming the command that
    would be refused.
    """
    subprocess.run(["bash", "-n", "-c", text], check=True, capture_output=True)
    called = []
    for line in text.replace("\\\n", " ").splitlines():
        for words in _commands(line):
            called.append(words[0])
            check_command(words)
    return called


def _commands(line: str) -> list[list[str]]:
    """The simple commands of a line, word by word, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    skip = False
    for word in lexer:
        if word in _ENDS:
            skip = word in ("<", ">", ">>")
            if not skip:
                commands.append([])
        elif skip:
            skip = False
        elif commands[-1] or not _ASSIGNMENT.match(word):
            commands[-1].append(word)
    return [words for words in commands if words]


def check_command(words: list[str]) -> None:
    """Raise ValueError where its program would refuse a command."""
    program = words[0].rpartition("/")[2]
    if program == "frameledger":
        _frameledger(words[1:])
    elif words[:3] == ["python", "-m", "pipeline"]:
        _frameledger(words[3:])
    elif program == "ray":
        _ray(words[1:])
    elif program not in OTHERS:
        raise ValueError(f"{words[0]}: is not known here: {shlex.join(words)}")


def _frameledger(words: list[str]) -> None:
    import typer.main

    from pipeline.cli import app

    group: Any = typer.main.get_command(app)
    if words == ["--help"]:
        return
    if words[0] not in group.commands:
        raise ValueError(f"frameledger {words[0]}: no such command")
    _parse(group.commands[words[0]], "frameledger", words)


def _ray(words: list[str]) -> None:
    from ray.scripts.scripts import cli

    command: Any = cli
    path = ["ray"]
    while hasattr(command, "commands"):
        if words[0] not in command.commands:
            raise ValueError(f"{' '.join(path)} {words[0]}: no such command")
        command = command.commands[words[0]]
        path.append(words[0])
        words = words[1:]
    params = _parse(command, " ".join(path[:-1]), [path[-1], *words])
    if path == ["ray", "job", "submit"]:
        check_command(list(params["entrypoint"]))
    if path == ["ray", "submit"]:
        _submit_script(params["script"], list(params["script_args"]))


def _submit_script(script: str, arguments: list[str]) -> None:
    """What `ray submit` runs on the head: a run, after its own options and names."""
    from cluster.submit import _parser

    if script != "cluster/submit.py":
        raise ValueError(f"ray submit: {script} is not cluster/submit.py")
    options, others = _parser().parse_known_intermixed_args(arguments)
    if len(options.names) < 2 + (options.config_url is None):
        raise ValueError(f"submit.py: names are missing: {arguments}")
    _frameledger(["run", "config.yaml", "--output", "tables", *others])


def _parse(command: Any, prefix: str, words: list[str]) -> dict[str, Any]:
    """Let a command's own parser look at its arguments."""
    try:
        context = command.make_context(words[0], list(words[1:]))
    except Exception as problem:
        told = problem.format_message() if hasattr(problem, "format_message") else problem
        raise ValueError(f"{prefix} {shlex.join(words)}: {told}") from None
    return dict(context.params)
