"""The commands for clusters: `frameledger submit` and `frameledger preflight`."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli_options import JsonOpt, OutputOpt, SetOpt, write_json
from pipeline.errors import EXIT_ABORTED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from pipeline.config import Config

JOB_API = "http://127.0.0.1:8265"
SUBMIT_S = 60.0
"""How long a job API that is away is tried before there is a job to follow."""


def submit_command(
    config: Annotated[
        Path | None, typer.Argument(help="YAML file, here; it goes along with the job.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Paths or URIs as the cluster has them.")
    ] = None,
    output: OutputOpt = "",
    overrides: SetOpt = None,
    address: Annotated[
        str, typer.Option(help="The cluster's job API, mostly the end of an SSH tunnel.")
    ] = JOB_API,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="Send this checkout along, where frameledger is not installed there."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="Of `frameledger run`, as limit=100 or retry-failed."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow the run to its end.")] = True,
    follow: Annotated[
        str | None, typer.Option(help="Follow this job, which was submitted before.")
    ] = None,
) -> None:
    """Run on a cluster as a job, from elsewhere, and follow it to its end.

    Connections may be lost on the way; where this command itself ends, --follow goes on.

    Exit code: the run's own; 2 where the job is not taken, 1 where its end cannot be known.
    """
    from pipeline.engine.jobs import PREFIX as JOB_PREFIX
    from pipeline.engine.jobs import Away, Follower, JobApi, entrypoint_of, persist
    from pipeline.run_record import new_run_id

    if (follow is None) == (config is None):
        raise UsageError("give CONFIG to submit a run, or --follow JOB_ID alone")
    submission = _submission(config, inputs, output, overrides, options) if config else None
    if working_dir is not None and not (working_dir / "pipeline" / "__init__.py").is_file():
        raise UsageError(f"--working-dir {working_dir}: is no checkout of frameledger")
    try:
        api = JobApi(address)
        job_id = follow or f"{JOB_PREFIX}{new_run_id()}"
        if submission is not None:
            run_id = job_id.removeprefix(JOB_PREFIX)
            metadata = {"run_id": run_id, "output": output}
            folder = str(working_dir) if working_dir is not None else None
            entrypoint = entrypoint_of([*submission, "--run-id", run_id])
            persist(lambda: api.submit(entrypoint, job_id, metadata, folder), _tell, SUBMIT_S)
            _tell(f"job {job_id}: submitted")
    except Away as away:
        raise UsageError(f"--address {address}: no job API to be had there: {away}") from None
    follower = Follower(api, job_id, _tell, output)
    if not wait:
        print(job_id)
        _tell(follower.hint())
        raise typer.Exit(EXIT_OK)
    try:
        code = follower.follow()
    except KeyboardInterrupt:
        _tell(f"not followed any more; {follower.hint()}")
        code = EXIT_ABORTED
    raise typer.Exit(code)


def _submission(
    config: Path,
    inputs: list[str] | None,
    output: str,
    overrides: list[str] | None,
    options: list[str] | None,
) -> list[str]:
    """The job's command. Whatever can be told to be wrong here is not sent."""
    from pipeline.config_file import load_config

    loaded = load_config(config, tuple(overrides or ()))
    if not output:
        raise UsageError("no output given: name a folder or URI with --output")
    if not (inputs or loaded.inputs):
        raise UsageError("no input given: name files, folders, globs or lists")
    for name in (output, *(inputs or ())):
        if "://" not in name and not name.removeprefix("@").startswith(("/", "~")):
            raise UsageError(
                f"{name}: is relative; a job has a folder of its own, which goes with it: "
                "give an absolute path or a URI"
            )
    command = ["cluster.submit", "--config-url", _in_a_url(config), output, *(inputs or ())]
    return [*command, *(f"--set={o}" for o in overrides or ()), *(f"--{o}" for o in options or ())]


def _in_a_url(config: Path) -> str:
    """The file without its comments, as part of a command: nothing to upload or to find."""
    import base64

    import yaml

    text = yaml.safe_dump(yaml.safe_load(config.read_text(encoding="utf-8")) or {})
    return "data:application/yaml;base64," + base64.b64encode(text.encode()).decode()


def preflight_command(
    config: Annotated[
        str | None, typer.Argument(help="YAML file: its models are looked for on every node.")
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Looked at from every node: as those of a run.")
    ] = None,
    address: Annotated[
        str, typer.Option(help="Ray cluster (HOST:PORT, auto), or its job API (http://...).")
    ] = "auto",
    output: OutputOpt = "",
    overrides: SetOpt = None,
    free_disk: Annotated[
        str | None, typer.Option(help="Disk that has to be free on every node, as 200GiB.")
    ] = None,
    json_file: JsonOpt = None,
) -> None:
    """Look at a cluster before it is used: versions, authentication, GPUs, models, input and
    output from every node, room, clocks.

    A small file is written to OUTPUT, and removed. Run it on the cluster, or give the job API.

    Exit code: 0 all fine (there may be warnings), 3 with failures, 2 where no Ray is to be had.
    """
    from pipeline.config import parse_bytes
    from pipeline.preflight import preflight
    from pipeline.preflight.show import print_checks

    try:
        free: Any = parse_bytes(free_disk or "0")
    except ValueError as error:
        raise UsageError(f"--free-disk {free_disk}: {error}") from None
    loaded = _load(config, tuple(overrides or ())) if config is not None else None
    if address.startswith(("http://", "https://")):
        command = ["pipeline", "preflight", *([_in_a_url(Path(config))] if config else [])]
        command += [*(inputs or ()), "--output", output, "--free-disk", str(free)]
        command += [f"--set={override}" for override in overrides or ()]
        raise typer.Exit(_as_job(address, command))
    rows = preflight(address, loaded, tuple(inputs or ()), output, free)
    code = print_checks(rows)
    if json_file is not None:
        write_json(json_file, [asdict(row) for row in rows])
    raise typer.Exit(code)


def _load(config: str, overrides: tuple[str, ...]) -> Config:
    from pipeline.config_file import load_config
    from pipeline.config_url import fetch_config

    if ":" not in config or os.path.exists(config):
        return load_config(config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        return load_config(fetch_config(config, folder), overrides)


def _as_job(address: str, command: list[str]) -> int:
    """Run a command on the head, print what it prints, and give its exit code."""
    import secrets

    from pipeline.engine.jobs import Away, Follower, JobApi, entrypoint_of, persist

    job_id = f"{command[1]}-{secrets.token_hex(6)}"
    try:
        api = JobApi(address)
        persist(lambda: api.submit(entrypoint_of(command), job_id, {}, None), _tell, SUBMIT_S)
    except Away as away:
        raise UsageError(f"--address {address}: no job API to be had there: {away}") from None
    return Follower(api, job_id, print).follow()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
