"""What Prometheus is told of a stream while it runs."""

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from jetstream_pipeline.connector.connector import JetstreamConnector
from jetstream_pipeline.connector.statistics import Progress
from jetstream_pipeline.metrics.connector import ConnectorCollector
from jetstream_pipeline.metrics.serving import serving
from jetstream_pipeline.simulator import Faults, Network, Simulator, running
from jetstream_pipeline.simulator.faults import Cut, Garbage
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.metrics.scraping import samples, scrape
from jetstream_pipeline_tests.metrics.test_lake import ADDRESS, check_conventions


def test_a_run_is_told_while_it_goes_on(data: DataDirectory, stack: ExitStack) -> None:
    faults = Faults(script=(Garbage(50, b"no event"), Cut(20)))
    network = Network(rate=200)
    address = stack.enter_context(running(Simulator(network, faults=faults, v2=False))).address
    connector = JetstreamConnector("live", 10, data_dir=data.root)
    collector = ConnectorCollector(connector.queue)
    port = stack.enter_context(serving(ADDRESS, [collector]))
    told: list[dict[str, float]] = []

    def on_progress(progress: Progress) -> None:
        collector.show(progress)
        if not told or progress.records >= 150:
            told.append(samples(scrape(port)))

    cursor = datetime.now(UTC) - timedelta(seconds=30)
    run = connector.listen_until_count(address, (), 150, 120, cursor, on_progress=on_progress)
    statistics = asyncio.run(run)
    last = told[-1]
    kinds = {name: value for name, value in last.items() if name.startswith("jetstream_connector_events_total")}
    assert sum(kinds.values()) == statistics.records_stored == 150
    assert kinds['jetstream_connector_events_total{kind="other"}'] == 0
    assert last["jetstream_connector_messages_total"] == statistics.messages_received
    assert last["jetstream_connector_received_bytes_total"] == statistics.bytes_received > 0
    assert last["jetstream_connector_rejected_messages_total"] == statistics.quarantined == 1
    assert last["jetstream_connector_reconnections_total"] == statistics.reconnections
    assert 0 <= last["jetstream_connector_lag_seconds"] < 600
    assert 0 <= last["jetstream_connector_queue_items"] <= 150


def test_before_anything_came_there_is_no_lag(data: DataDirectory) -> None:
    with serving(ADDRESS, [ConnectorCollector()]) as port:
        text = scrape(port)
    told = samples(text)
    assert "jetstream_connector_lag_seconds" not in told
    assert "jetstream_connector_queue_items" not in told
    assert told['jetstream_connector_events_total{kind="commit"}'] == 0
    for family in text_string_to_metric_families(text):
        if family.name.startswith("jetstream_"):
            check_conventions(family.name, family.type, {name for one in family.samples for name in one.labels})


def test_kinds_of_strangers_make_no_label(data: DataDirectory) -> None:
    collector = ConnectorCollector()
    collector.show(Progress(6, 0, 0, 1.0, 0, kinds={"commit": 3, "did:plc:a": 2, "x": 1}))
    with serving(ADDRESS, [collector]) as port:
        told = samples(scrape(port))
    assert told['jetstream_connector_events_total{kind="other"}'] == 3
    assert not any("did:" in name for name in told)
