"""metrics/: the scrape and the dashboard, against what a real node of Ray exports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec import Struct

from tests.cluster.heads import Head
from tests.cluster.strict import check

FOLDER = Path(__file__).parents[2] / "cluster" / "metrics"
ON_GPUS = {"ray_node_gpus_utilization"}
"""Exported by nodes with GPUs alone."""
RUN = """
import sys, ray
from pipeline.engine.metrics import RunMetrics
from pipeline.engine.stats import Ack, RunStats
ray.init(sys.argv[1], log_to_driver=False)
ack = Ack("task", 1, clips=1, frames=32, decode_s=0.5, steps_s={"detector.forward": 1.5})
metrics = RunMetrics("run-7")
metrics.saw(ack, RunStats(host_bytes=5 * 2**20))
metrics.push()
print("there", flush=True)
sys.stdin.read()
"""


class FileSd(Struct):
    files: list[str]


class Ec2Filter(Struct):
    name: str
    values: list[str]


class Ec2Sd(Struct):
    region: str
    port: int
    filters: list[Ec2Filter]


class Names(Struct):
    names: list[str]


class Selector(Struct):
    role: str
    label: str


class KubernetesSd(Struct):
    role: str
    namespaces: Names | None = None
    selectors: list[Selector] | None = None


class Relabel(Struct):
    source_labels: list[str]
    regex: str
    action: str


class ScrapeConfig(Struct):
    job_name: str
    file_sd_configs: list[FileSd] | None = None
    ec2_sd_configs: list[Ec2Sd] | None = None
    kubernetes_sd_configs: list[KubernetesSd] | None = None
    relabel_configs: list[Relabel] | None = None


class GlobalConfig(Struct):
    scrape_interval: str


class Prometheus(Struct):
    """The fields of Prometheus' configuration that are used."""

    globals: GlobalConfig
    scrape_configs: list[ScrapeConfig]


def prometheus() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "prometheus.yml").read_text())


def test_prometheus_knows_every_field():
    told = prometheus()
    check({"globals": told.pop("global"), **told}, Prometheus, "prometheus.yml")
    names = [job["job_name"] for job in told["scrape_configs"]]
    assert len(set(names)) == len(names) == 3
    with pytest.raises(ValueError, match="no such field"):
        check(told["scrape_configs"][0] | {"file_sd_config": []}, ScrapeConfig, "job")


def test_it_looks_where_the_cluster_files_put_things():
    _, ec2, pods = prometheus()["scrape_configs"]
    launcher = (FOLDER.parent / "aws.yaml").read_text()
    (sd,) = ec2["ec2_sd_configs"]
    assert launcher.count(f"--metrics-export-port={sd['port']}") == 2
    assert f"region: {sd['region']}" in launcher
    assert f"cluster_name: {sd['filters'][0]['values'][0]}" in launcher
    (sd,) = pods["kubernetes_sd_configs"]
    base = list(yaml.safe_load_all((FOLDER.parent / "kuberay" / "base.yaml").read_text()))
    assert sd["namespaces"]["names"] == [base[0]["metadata"]["name"]]
    key, _, value = sd["selectors"][0]["label"].partition("=")
    assert base[2]["spec"]["podSelector"]["matchLabels"] == {key: value}


def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "grafana.json").read_text())


def queries() -> list[tuple[str, set[str]]]:
    """Of every query: the metric, and the labels that it and its legend take to be there."""
    found = []
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            (metric,) = re.findall(r"\bray_\w+", expression)
            labels = set(re.findall(r"[{,]\s*(\w+)=~?\"", expression))
            for group in re.findall(r"\bby \(([^)]*)\)", expression):
                labels |= {label.strip() for label in group.split(",")}
            labels |= set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            found.append((metric, labels))
    return found


def test_the_dashboard_is_whole():
    told = dashboard()
    panels = told["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    variables = {one["name"] for one in told["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert used == variables


@pytest.fixture(scope="module")
def scraped(cluster: Head):
    """What Prometheus reads: metric to its labels, of every address on Ray's own list."""
    wanted = {metric for metric, _ in queries()} - ON_GPUS
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, cluster.gcs],
        env=cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "there\n"
    found: dict[str, set[str]] = {}
    until = time.monotonic() + 450
    while not wanted <= found.keys() and time.monotonic() < until:
        time.sleep(1)
        found = scrape(cluster)
    run.communicate("")
    return found


def scrape(cluster: Head) -> dict[str, set[str]]:
    # As prometheus.yml says, where this Ray keeps its files.
    (name,) = prometheus()["scrape_configs"][0]["file_sd_configs"][0]["files"]
    path = cluster.folder / name.removeprefix("/tmp/")
    found: dict[str, set[str]] = {}
    if not path.exists():
        return found
    for group in json.loads(path.read_text()):
        for target in group["targets"]:
            try:
                with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as page:
                    lines = page.read().decode().splitlines()
            except OSError:
                continue
            for line in lines:
                match = re.match(r"(ray_\w+){(.*)} ", line)
                if match:
                    labels = set(re.findall(r'(\w+)="', match[2]))
                    found.setdefault(match[1], set()).update(labels)
    return found


@pytest.mark.parametrize(
    ("metric", "labels"),
    queries(),
    ids=[f"{m}-{'-'.join(sorted(names))}" for m, names in queries()],
)
def test_a_metric_of_the_dashboard_is_exported(metric, labels, scraped):
    if metric in ON_GPUS:  # By Ray's own list: there is none here.
        from ray.dashboard.modules.reporter import reporter_agent

        assert metric.removeprefix("ray_") in reporter_agent.METRICS_GAUGES
        assert labels <= set(reporter_agent.GPU_TAG_KEYS)
    else:
        assert metric in scraped
        assert labels <= scraped[metric]


def test_every_metric_of_a_run_is_on_the_dashboard(scraped):
    ours = {metric for metric in scraped if metric.startswith("ray_frameledger_")}
    assert ours == {metric for metric, _ in queries() if metric.startswith("ray_frameledger_")}
