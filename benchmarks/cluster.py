"""A cluster of Celery's workers on this machine, each with a disk of its own, over PostgreSQL, Redis and an S3 server.

`proof`: a backfill in the course of which one worker is killed for good, another one is killed and started again, and
PostgreSQL is restarted. All windows must be whole and there once; the views, and the catalogue's snapshots, must agree
with what the network enumerates. Exit code 1 where anything does not.

`throughput`: the same windows by one worker, by two, … against hosts that send so many events a second each, and what
limits it.

    python benchmarks/cluster.py proof [--windows 200] [--workers 4] [--rate 1] [--local]
    python benchmarks/cluster.py throughput [--windows 12] [--workers 4] [--hosts 4] [--rate 20] [--local]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pyarrow.parquet as pq
import s3fs

sys.path.insert(0, str(Path(__file__).parents[1]))

from jetstream_pipeline.orchestration.events import pool
from jetstream_pipeline.settings import MAIN_COLLECTIONS
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests import postgres, redis
from jetstream_pipeline_tests.orchestration.cluster import Cluster, cluster_variables
from jetstream_pipeline_tests.orchestration.deployment import EVENTS, kill
from jetstream_pipeline_tests.postgres import Postgres

PROGRAMS = Path(sys.executable).parent
LONGEST_SEC = 3 * 3600.0
BUSY = 0.85
"""Share of the processors' time from which on they are what limits."""
BUCKET = "lake"


@dataclass(frozen=True)
class Services:
    """What the cluster's machines share."""

    database: Postgres
    variables: Mapping[str, str]
    hosts: Sequence[str]


def main() -> None:
    options = parse_arguments()
    # However it is ended, its servers end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    wrong = {"proof": proof, "throughput": throughput}[options.what](options)
    for text in wrong:
        print(f"WRONG: {text}")
    sys.exit(1 if wrong else 0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--workers", type=int, default=4)
    common.add_argument("--events-per-second", type=float, default=5000.0, help="what a host sends at most")
    common.add_argument("--local", action="store_true", help="the lake is a folder, and there is no catalogue")
    common.add_argument("--without-catalogue", action="store_true", help="no tables of Iceberg")
    modes = parser.add_subparsers(dest="what", required=True)
    proving = modes.add_parser("proof", parents=[common])
    proving.add_argument("--windows", type=int, default=200)
    proving.add_argument("--rate", type=float, default=1.0, help="events/s of the network")
    proving.add_argument("--hosts", type=int, default=2)
    measuring = modes.add_parser("throughput", parents=[common])
    measuring.add_argument("--windows", type=int, default=12)
    measuring.add_argument("--rate", type=float, default=20.0, help="events/s of the network")
    measuring.add_argument("--hosts", type=int, default=4)
    return parser.parse_args()


def proof(options: argparse.Namespace) -> list[str]:
    """What is not as it should be after workers were killed and the database restarted."""
    windows = latest(options.windows)
    with ExitStack() as stack:
        services = stack.enter_context(serving(options, stack))
        cluster = stack.enter_context(deployed(options, services, windows, {"tables": ["posts"]}))
        workers = [stack.enter_context(cluster.worker(number)) for number in range(1, options.workers + 1)]
        began = time.monotonic()

        def at(share: float, what: str, do: Callable[[], object]) -> None:
            wait(cluster, lambda: len(set(cluster.materialized())) >= share * len(windows))
            do()
            done = len(set(cluster.materialized()))
            print(f"\r{time.monotonic() - began:6.0f} s  {done} windows are there: {what}", flush=True)

        def start_again() -> None:
            kill(workers[1])
            stack.enter_context(cluster.worker(2))

        at(0.25, "worker 1 is killed for good", lambda: kill(workers[0]))
        at(0.50, "worker 2 is killed and started again", start_again)
        at(0.75, "PostgreSQL is restarted", lambda: services.database.restart(signal.SIGINT))
        wait(cluster, lambda: len(set(cluster.materialized())) >= len(windows) and at_rest(cluster))
        seconds = time.monotonic() - began
        states = Counter(run.status.value for run in cluster.runs())
        print(f"\r{len(windows)} windows in {seconds:.0f} s; runs: {dict(states)}")
        return list(differences(cluster, Network(0, options.rate), windows))


def throughput(options: argparse.Namespace) -> list[str]:
    """Windows a cluster of one worker, two, … could not replay; prints how many events a second they did."""
    windows = latest(options.windows)
    limit = options.hosts * options.events_per_second
    print(f"{options.windows} windows of {options.rate * 3600:,.0f} events, {options.hosts} hosts, ", end="")
    print(f"{options.events_per_second:,.0f} events/s each; {os.cpu_count()} processors for hosts, workers and servers")
    wrong = []
    for number in range(1, options.workers + 1):
        with ExitStack() as stack:
            services = stack.enter_context(serving(options, stack))
            cluster = stack.enter_context(deployed(options, services, windows, {"tables": []}))
            for one in range(1, number + 1):
                stack.enter_context(cluster.worker(one))
            wait(cluster, lambda cluster=cluster: bool(cluster.runs(dg.DagsterRunStatus.STARTED)))
            busy = busy_seconds()
            wait(cluster, lambda cluster=cluster: len(set(cluster.materialized())) >= len(windows) and at_rest(cluster))
            busy = busy_seconds() - busy
            seconds, events = spans(cluster)
            used = busy / (seconds * (os.cpu_count() or 1))
            speed, most = events / seconds, min(number, options.hosts) * options.events_per_second
            print(
                f"\r{number} workers  {seconds:6.1f} s  {speed:8,.0f} events/s, {speed / most:.0%} of what {number} "
                f"hosts send; processors {min(used, 1):.0%} busy: {limiting(used, speed, most, limit)}",
                flush=True,
            )
            if failed := cluster.runs(dg.DagsterRunStatus.FAILURE):
                wrong.append(f"{number} workers: {len(failed)} runs failed")
    return wrong


def limiting(used: float, speed: float, most: float, limit: float) -> str:
    if used >= BUSY:
        return "this machine's processors limit it"
    if speed >= 0.8 * limit:
        return "all hosts send what they may"
    if speed >= 0.8 * most:
        return "each worker reads what its host may send"
    return "what is not reading limits it: beginning a run, sealing a window, Dagster's queue"


@contextmanager
def serving(options: argparse.Namespace, stack: ExitStack) -> Iterator[Services]:
    """Everything that the cluster stands on, each in processes of its own."""
    database = stack.enter_context(postgres.running(durable=True))
    variables = cluster_variables(database.url(), stack.enter_context(redis.running()))
    if not options.local:
        variables |= stack.enter_context(object_store())
        variables["JETSTREAM_LAKE"] = f"s3://{BUCKET}/lake"
        if not options.without_catalogue:
            variables["JETSTREAM_ICEBERG"] = database.url().replace("postgresql:", "postgresql+psycopg:")
    hours = options.windows + 12
    hosts = [stack.enter_context(host(options, hours)) for _ in range(options.hosts)]
    with patch.dict(os.environ, variables):
        yield Services(database, variables, hosts)


@contextmanager
def deployed(
    options: argparse.Namespace, services: Services, windows: Sequence[Window], declared: Mapping[str, object]
) -> Iterator[Cluster]:
    """Dagster without workers, and a backfill that has been asked for."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        variables = dict(services.variables) | {
            "JETSTREAM_HOSTS": ",".join(services.hosts),
            "JETSTREAM_FIRST_HOUR": windows[0].key,
            "JETSTREAM_LOOK_BACK_HOURS": "0",
            # The schedule's minute is one that has just gone by.
            "JETSTREAM_SETTLE_MINUTES": str((datetime.now(UTC).minute - 1) % 60),
        }
        if options.local:
            variables["JETSTREAM_LAKE"] = str(Path(folder, "lake"))
        cluster = Cluster(
            Path(folder, "cluster"),
            variables,
            {"report": False} | dict(declared),
            options.workers,
            soon=False,
            own_disks=True,
        )
        with cluster.instance() as instance:
            instance.event_log_storage.set_concurrency_slots(
                pool(cluster.stream()), max(options.hosts, options.workers)
            )
        cluster.backfill(windows)
        with cluster.code_server(), cluster.daemon():
            yield cluster


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """An S3 server with a bucket; what leads to it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with process([PROGRAMS / "moto_server", "-H", "127.0.0.1", "-p", port], stdout=subprocess.DEVNULL):
        with patch.dict(os.environ, variables):
            for _ in range(100):
                with socket.socket() as connection:
                    if connection.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield variables


@contextmanager
def host(options: argparse.Namespace, hours: int) -> Iterator[str]:
    """A simulated host; its address."""
    arguments = ["--port", 0, "--rate", options.rate, "--lookback-hours", hours]
    arguments += ["--events-per-second", options.events_per_second]
    command = [PROGRAMS / "jetstream-pipeline", "simulate", *arguments]
    with process(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout
        yield serving.stdout.readline().split()[-1]


@contextmanager
def process(command: Sequence[object], **given: object) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, **given) as started:  # type: ignore[call-overload]
        try:
            yield started
        finally:
            started.kill()


def latest(number: int) -> list[Window]:
    last = datetime.now(UTC) - timedelta(hours=3)
    return [Window.hour(last - timedelta(hours=back)) for back in reversed(range(number))]


def wait(cluster: Cluster, until: Callable[[], bool]) -> None:
    """Wait; what the database does not answer while it restarts is asked again."""

    def asked() -> bool:
        try:
            return until()
        except Exception as error:
            print(f"\r{type(error).__name__}", end="", flush=True)
            return False

    cluster.wait(asked, LONGEST_SEC, poll=2.0)


def at_rest(cluster: Cluster) -> bool:
    return all(run.is_finished for run in cluster.runs())


def spans(cluster: Cluster) -> tuple[float, int]:
    """Seconds from the first replay's start to the last one's end, and how many events there were."""
    with cluster.instance() as instance:
        records = instance.get_run_records()
        events = instance.fetch_materializations(EVENTS, limit=5000).records
    replays = [record for record in records if record.dagster_run.asset_selection == {EVENTS} and record.end_time]
    rows = [one.asset_materialization.metadata["dagster/partition_row_count"].value for one in events]  # type: ignore[union-attr]
    begun, ended = (record.start_time for record in replays), (record.end_time for record in replays)
    return max(ended) - min(begun), sum(rows)  # type: ignore[arg-type, type-var, operator]


def busy_seconds() -> float:
    """How long all processors have worked, together."""
    user, nice, system = (int(text) for text in Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def differences(cluster: Cluster, network: Network, windows: Sequence[Window]) -> Iterator[str]:
    """Where lake, Dagster, views and catalogue are not what the network enumerates."""
    told = Counter(cluster.materialized())
    # A run that fails after it has told of its window is done again, and finds the window there.
    again, failed = told.total() - len(told), len(cluster.runs(dg.DagsterRunStatus.FAILURE))
    if again > failed:
        yield f"{again} windows were materialized again, and {failed} runs failed"
    lake, total = cluster.stream().data.lake, 0
    for window in windows:
        expected = [
            event.seq
            for event in network.events(window.start_us, window.end_us)
            if event.collection is None or event.collection in MAIN_COLLECTIONS
        ]
        total += len(expected)
        path = lake.events_path("network", window)
        if not path.exists():
            yield f"{window} is not in the lake"
            continue
        with path.open("rb") as file:
            found = pq.read_table(file, columns=["position", "seq"]).sort_by("position")["seq"].to_pylist()
        if found != expected:
            yield f"{window} has {len(found):,} events that are not the {len(expected):,} expected ones"
    counted = said(cluster, "sql", "--format", "json", "SELECT count(*) AS n, count(DISTINCT seq) AS d FROM events")
    if (counted[0]["n"], counted[0]["d"]) != (total, total):
        yield f"the views show {counted[0]} of {total:,} events"
    states = said(cluster, "sql", "--format", "json", "SELECT state, count(*) AS n FROM windows GROUP BY state")
    if states != [{"state": "complete", "n": len(windows)}]:
        yield f"the view of windows says {states}"
    print(f"{total:,} events enumerated, {counted[0]['n']:,} in the views, {len(told)} windows known to Dagster")
    if "JETSTREAM_ICEBERG" in cluster.variables:
        tables = said(cluster, "iceberg", "list", "--json")
        (events,) = [table for table in tables if table["table"].endswith(".events")]
        rows = snapshot_rows(cluster, events["metadata"])
        print(f"the catalogue's snapshot: {rows:,} events in {events['files']} files, {events['snapshots']} snapshots")
        if (rows, events["files"]) != (total, len(windows)):
            yield f"the catalogue shows {rows:,} events in {events['files']} files, of {total:,} in {len(windows)}"


def snapshot_rows(cluster: Cluster, metadata: str) -> int:
    """The rows that another engine reads of a snapshot."""
    from pyiceberg.table import StaticTable

    places = {"endpoint": "AWS_ENDPOINT_URL", "access-key-id": "AWS_ACCESS_KEY_ID"}
    places |= {"secret-access-key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}
    properties = {f"s3.{name}": cluster.variables[variable] for name, variable in places.items()}
    return StaticTable.from_metadata(metadata, properties).scan(selected_fields=("seq",)).to_arrow().num_rows


def said(cluster: Cluster, *arguments: str) -> list[dict]:
    """What the command line answers in JSON, on a machine of the cluster."""
    command = [str(PROGRAMS / "jetstream-pipeline"), *arguments]
    printed = subprocess.run(command, env=cluster.environment, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed) if printed.lstrip().startswith("[") else list(map(json.loads, printed.splitlines()))
    return list(found)


if __name__ == "__main__":
    main()
