"""A run on the head node of a running Ray: the one file that `ray submit` copies there.

    ray submit CLUSTER.yaml cluster/submit.py CONFIG OUTPUT [INPUT ...]
    ray submit CLUSTER.yaml cluster/submit.py -- --config-url URL OUTPUT [INPUT ...]

CONFIG, OUTPUT and INPUT are paths on the cluster (or URIs of an object store). `ray submit` joins
arguments with spaces and quotes none: give none with spaces, quotes or `*`. Further options are
those of `frameledger run`, each as one word: `--limit=100 --set=sampling.stride=4`.

`ray submit` turns every failure into exit code 1. So the last line of the output is the run's
record, with its own exit code: `frameledger-run: {"exit_code": 3, ...}`. The package is not in
this file; it has to be installed on every node, for the `python` that a login shell finds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from typing import Any

PREFIX = "frameledger-run: "
"""Of the line with the run's record."""
OLDEST_PYTHON = (3, 10)
EXIT_USAGE = 2


def main(arguments: list[str] | None = None) -> int:
    """Run, print the record as the last line, and return the run's exit code."""
    options, others = _parser().parse_known_intermixed_args(arguments)
    record: dict[str, Any] = {"exit_code": EXIT_USAGE, "error": missing()}
    if not record["error"]:
        record = _run(options, others)
    sys.stdout.flush()
    if record.get("error"):
        print(f"submit.py: {record['error']}", file=sys.stderr, flush=True)
    print(PREFIX + json.dumps(record), flush=True)
    return int(record["exit_code"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="submit.py",
        usage="%(prog)s CONFIG OUTPUT [INPUT ...] | --config-url URL OUTPUT [INPUT ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--config-url", help="https, s3, gs, az, file or data URL of the YAML")
    parser.add_argument("--address", default="auto", help="of the Ray to run on (default: auto)")
    parser.add_argument("--run-id", help="name of the run in the table runs")
    return parser


def missing() -> str:
    """Why frameledger cannot run on this Python, and what to do; "" where it can."""
    here = "{} (Python {}.{}.{})".format(sys.executable, *sys.version_info[:3])
    todo = (
        "install frameledger and the cluster's Ray there, or put the Python that has them first "
        "on the PATH of a login shell"
    )
    if sys.version_info[:2] < OLDEST_PYTHON:
        return f"{here} is too old: Python {'.'.join(map(str, OLDEST_PYTHON))} or later; {todo}"
    for module, package in (("ray", "Ray"), ("pipeline", "frameledger")):
        found = _find(module)
        if found:
            return f"{here}: {package} {found}; {todo}"
    return ""


def _find(module: str) -> str:
    """What is wrong with a module that is needed. Imports no Ray: its mode is not set yet."""
    import importlib.util

    spec = importlib.util.find_spec(module)
    if spec is None:
        return "is not installed"
    if module == "pipeline" and importlib.util.find_spec("pipeline.preflight") is None:
        return f"is hidden by another module called pipeline, {spec.origin}"
    return ""


def _run(options: argparse.Namespace, others: list[str]) -> dict[str, Any]:
    """Check the cluster, run, and give the record."""
    from pipeline.cli import invoke
    from pipeline.errors import EXIT_OK, FrameledgerError
    from pipeline.run_record import new_run_id, record_in

    run_id = options.run_id or new_run_id()
    record: dict[str, Any] = {"exit_code": EXIT_USAGE, "run_id": run_id}
    with tempfile.TemporaryDirectory() as folder:
        summary = os.path.join(folder, "summary.json")
        try:
            config, output, inputs = _names(options, others, folder)
            _check(options.address)
        except FrameledgerError as stopped:
            return record | {"exit_code": stopped.exit_code, "error": str(stopped)}
        command = ["run", config, *inputs, "--output", output, "--address", options.address]
        code, error = invoke([*command, "--run-id", run_id, "--json", summary, *others])
        record |= {"exit_code": code, "output": output, "error": error}
        if os.path.exists(summary):
            with open(summary, encoding="utf-8") as file:
                return record | json.load(file)
    if code != EXIT_OK:
        # What was done until it stopped.
        record = (record_in(output, run_id) or {}) | record
    return record


def _names(
    options: argparse.Namespace, others: list[str], folder: str
) -> tuple[str, str, list[str]]:
    """The configuration (fetched where a URL is given), the output and the inputs."""
    from pipeline.config_url import fetch_config
    from pipeline.errors import UsageError

    names = list(options.names)
    wanted = ["OUTPUT"] if options.config_url else ["CONFIG", "OUTPUT"]
    stray = [name for name in others if not name.startswith("-")]
    if len(names) < len(wanted) or stray:
        what = f"what is {stray[0]}" if stray else f"{wanted[len(names)]} is missing"
        raise UsageError(
            f"{what}; usage: {_parser().format_usage().removeprefix('usage: ').strip()}"
        )
    config = fetch_config(options.config_url, folder) if options.config_url else names.pop(0)
    return config, names[0], names[1:]


def _check(address: str) -> None:
    """Say what the cluster is. Raises UsageError where a node has other versions than this one."""
    from pipeline.errors import UsageError
    from pipeline.preflight import check_nodes

    for check in check_nodes(address):
        if check.state == "failed" and check.name in ("ray", "python", "frameledger", "nodes"):
            raise UsageError(f"{check.name}: {check.found}; {check.remedy}")
        print(f"{check.name:12} {check.found}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
