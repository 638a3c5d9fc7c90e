"""The dashboard and the rules ask for what the exporters have and for nothing else; every figure is shown."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric

from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.metrics.connector import ConnectorCollector
from jetstream_pipeline.metrics.families import LakeCollector
from jetstream_pipeline.metrics.lake import LakeReadings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline_tests.metrics.test_lake import declared, hours_ago
from jetstream_pipeline_tests.quality.summaries import put, summary

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "jetstream.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "jetstream_rules.yml").read_text())
SCRAPED = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
_NAME = re.compile(r"\bjetstream_[a-z_]+\b")
_LABELS = re.compile(r"(jetstream_[a-z_]+)\{([^}]*)\}")


@pytest.fixture
def exported(data: DataDirectory) -> dict[str, set[str]]:
    """The samples that the exporters have, each with its labels."""
    window = hours_ago(2)
    put(data.lake.events_path("network", window), summary(window, 100))
    Queue("jobs", create_new_queue=True, data_dir=data.root).add("1")
    (data.quarantine / "network").mkdir(parents=True)
    connector = ConnectorCollector(Queue("jobs", data_dir=data.root))
    connector.show(Progress(1, 1, 0, 1.0, window.end_us))
    families: list[Metric] = [
        *LakeCollector(LakeReadings(data, [declared(data, window)])).collect(),
        *connector.collect(),
    ]
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def test_every_figure_that_is_asked_for_is_there_with_its_labels(exported: dict[str, set[str]]) -> None:
    variables = [one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    for expression in [*expressions(), *(rule["expr"] for rule in rules()), *variables]:
        names = [name for name in _NAME.findall(expression) if f'="{name}"' not in expression]
        assert [name for name in names if name not in exported] == []
        for name, matchers in _LABELS.findall(expression):
            assert set(re.findall(r"(\w+)\s*=~?", matchers)) <= exported[name]


def test_every_figure_is_shown(exported: dict[str, set[str]]) -> None:
    shown = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert set(exported) - shown == set()


def test_rates_are_of_counters_and_counters_are_asked_for_their_rates() -> None:
    for expression in [*expressions(), *(rule["expr"] for rule in rules())]:
        asked = re.findall(r"\b(?:rate|increase)\((jetstream_[a-z_]+)", expression)
        assert all(name.endswith("_total") for name in asked)
        assert expression.count("_total") == len(asked)


def test_panels_stand_beside_each_other() -> None:
    places = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_rule_says_what_to_do() -> None:
    jobs = {job["job_name"] for job in SCRAPED["scrape_configs"]}
    assert SCRAPED["rule_files"] == ["jetstream_rules.yml"]
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert set(re.findall(r'job="([^"]+)"', rule["expr"])) <= jobs
        assert rule["expr"].count("(") == rule["expr"].count(")")
