"""The launcher's files, by Ray's own schema and its own code, and by what botocore and moto make of
what that code asks of AWS."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ["aws.yaml", "local.yaml"]
COMMANDS = [
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
]


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / "cluster" / name).read_text())


def prepared(config: dict) -> dict:
    """As `ray up` does it, to the point where it would ask the provider."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    ready = prepare_config(config)
    validate_config(ready)
    return ready


@pytest.mark.parametrize("name", FILES)
def test_ray_takes_the_file(name):
    assert prepared(load(name))["cluster_name"] == "frameledger"


@pytest.mark.parametrize("name", FILES)
def test_ray_would_not_take_a_key_that_it_does_not_know(name):
    import jsonschema

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        prepared(load(name) | {"idle_timeout": 5})


@pytest.mark.parametrize("name", FILES)
def test_commands_are_shell(name):
    commands = [command for key in COMMANDS for command in load(name).get(key, ())]
    assert len(commands) >= 6
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def ray_starts(name: str) -> list[list[str]]:
    """The `ray start` commands of a file, head first, word by word."""
    found = []
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        for command in load(name)[key]:
            if "ray start" in command:
                found.append(shlex.split(command.split(";")[-1]))
    return found


@pytest.mark.parametrize("name", FILES)
def test_ray_start_takes_the_options(name):
    from ray.scripts.scripts import start

    for mode, ray, command, *options in ray_starts(name):
        assert (mode, ray, command) == ("RAY_AUTH_MODE=token", "ray", "start")
        start.make_context("start", options)
    head, worker = (start.make_context("start", words[3:]).params for words in ray_starts(name))
    assert head["head"]
    assert head["num_cpus"] == 0
    assert head["dashboard_host"] == "127.0.0.1"
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"
    assert worker["metrics_export_port"] == head["metrics_export_port"] == 8080


@pytest.mark.parametrize("name", FILES)
def test_the_token_is_brought_as_a_file_and_stays_out_of_the_yaml(name):
    config = load(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in config["setup_commands"])
    text = (ROOT / "cluster" / name).read_text()
    assert "RAY_AUTH_TOKEN=" not in text
    assert "runtime_env" not in text


@pytest.mark.parametrize("name", FILES)
def test_what_is_sent_is_in_the_checkout(name):
    for local in load(name)["file_mounts"].values():
        # dist is built: `pip wheel --wheel-dir dist`, as the how-to says.
        assert local.startswith("~") or local == "dist" or (ROOT / local).exists(), local


def test_machines_of_ones_own_are_all_used():
    config = load("local.yaml")
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    ready = prepared(config)
    (node_type,) = ready["available_node_types"].values()
    assert node_type["min_workers"] == len(config["provider"]["worker_ips"])


def test_aws_has_a_head_that_does_no_work_and_spot_workers_from_zero():
    types = load("aws.yaml")["available_node_types"]
    head = types.pop("head")
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for node_type in types.values():
        assert node_type["min_workers"] == 0 < node_type["max_workers"]
        assert node_type["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert [("GPU" in one["resources"]) for one in types.values()] == [False, True]


@pytest.fixture
def account(monkeypatch, tmp_path):
    """An account at AWS with a private network, as far as moto plays it."""
    boto3 = pytest.importorskip("boto3")
    from moto import mock_aws

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-east-1")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="members", Description="-", VpcId=vpc)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        for name in ("frameledger-head", "frameledger-worker"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        yield {
            "subnet-00000000000000000": subnet,
            "sg-00000000000000000": group["GroupId"],
            "ami-00000000000000000": image,
        }


def test_ray_makes_nothing_public_of_it(account):
    """Ray's own AWS code with our file: no security group and no role of its making, and nodes as
    the file says."""
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    text = (ROOT / "cluster" / "aws.yaml").read_text()
    for placeholder, real in account.items():
        text = text.replace(placeholder, real)
    ec2 = boto3.client("ec2", region_name="us-east-1")
    groups = {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]}
    config = bootstrap_aws(prepared(yaml.safe_load(text)))
    assert {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]} == groups
    assert boto3.client("iam").list_roles()["Roles"] == []

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, node_type in config["available_node_types"].items():
        provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
    reservations = ec2.describe_instances()["Reservations"]
    made = [instance for one in reservations for instance in one["Instances"]]
    assert len(made) == 3
    for instance in made:
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        assert tags["ray-cluster-name"] == "frameledger"
        head = tags["ray-user-node-type"] == "head"
        assert instance["SubnetId"] == account["subnet-00000000000000000"]
        assert "PublicIpAddress" not in instance
        found = [one["GroupId"] for one in instance["SecurityGroups"]]
        assert found == [account["sg-00000000000000000"]]
        profile = instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        assert profile == ("frameledger-head" if head else "frameledger-worker")
        assert instance.get("InstanceLifecycle") == (None if head else "spot")
        assert instance["MetadataOptions"]["HttpTokens"] == "required"
