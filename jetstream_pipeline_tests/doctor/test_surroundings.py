"""What the doctor says of disk, variables, versions, locks, hosts and clocks; real hosts on loopback, real locks."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from jetstream_pipeline.doctor import disk, holders, versions
from jetstream_pipeline.doctor.clock import examine_clock
from jetstream_pipeline.doctor.disk import bytes_per_hour, examine_disk
from jetstream_pipeline.doctor.examine import EXAMINATIONS, examine
from jetstream_pipeline.doctor.finding import Finding, Severity, ok
from jetstream_pipeline.doctor.hosts import examine_hosts
from jetstream_pipeline.doctor.locks import examine_locks
from jetstream_pipeline.doctor.variables import examine_variables
from jetstream_pipeline.doctor.versions import examine_versions
from jetstream_pipeline.simulator import Network, Simulator, running
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline_tests.doctor.cases import DEAD, NOW, Case, case, found, hours_before
from jetstream_pipeline_tests.windows import commit, store

_HOLD = """
import sys
from pathlib import Path
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.queue import Queue
from jetstream_pipeline.storage.staging import staged
from jetstream_pipeline.window import Window

data = DataDirectory(Path(sys.argv[1]))
with staged(data, "network", Window.from_key(sys.argv[2])), Queue("jobs", data_dir=data.root).opened():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_room_is_told_in_days_of_what_an_hour_takes(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for hours in range(3):
        store(data, [commit('{"text":"first"}')], hours_before(hours))
    hourly = bytes_per_hour(data.lake, "network")
    assert hourly == data.lake.events_path("network", hours_before(0)).stat().st_size
    usage = disk.shutil.disk_usage(data.root)
    for days, severity in ((0.5, Severity.PROBLEM), (3, Severity.WARNING), (30, Severity.OK)):
        monkeypatch.setattr(disk, "_FULL_BYTES", 0)
        free = int(days * 24 * hourly)
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert found(examine_disk, case(data))[-1][0] is severity


def test_a_data_directory_that_cannot_be_written_is_a_problem(data: DataDirectory) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    data.root.chmod(0o500)
    assert found(examine_disk, case(data))[0][0] is Severity.PROBLEM


def test_a_data_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "later" / "data")
    assert "is no data directory" in found(examine_disk, case(data))[0][1]
    assert list(tmp_path.iterdir()) == []


def test_names_that_nothing_reads_are_told_with_what_was_meant(data: DataDirectory) -> None:
    environment = {"JETSTREAM_HOST": "a", "JETSTREAM_HOSTS": "b", "PATH": "c", "JETSTREAM_SPELT": "d"}
    told = found(examine_variables, case(data, environment=environment))
    assert told == [
        (Severity.WARNING, "nothing reads the variable JETSTREAM_HOST: did you mean JETSTREAM_HOSTS?"),
        (Severity.WARNING, "nothing reads the variable JETSTREAM_SPELT: see jetstream-pipeline --help"),
    ]


def test_settings_that_contradict_each_other_are_told(data: DataDirectory) -> None:
    assert found(examine_variables, case(data))[0][0] is Severity.OK
    said = case(
        data,
        hosts="ws://jetstream.example.org",
        api_token="secret",
        first_hour="2027-01-01",
        look_back_hours=0,
        alert_recipients="a@example.org",
        zstd_dictionary=str(data.root / "none"),
    )
    told = [text for _, text in found(examine_variables, said)]
    names = ("SMTP_SERVER", "FIRST_HOUR", "LOOK_BACK_HOURS", "API_TOKEN", "ZSTD_DICTIONARY")
    assert [[name for name in names if name in text] for text in told] == [[name] for name in names]
    assert "secret" not in " ".join(told)


def test_what_is_installed_is_held_against_what_is_asked_for(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_compiled, words in ((True, "with its compiled parts"), (False, "where gcc and Python's headers are")):
        monkeypatch.setattr(versions, "IS_COMPILED", is_compiled)
        ((_, told),) = found(examine_versions, case(data))
        assert words in told
    assert [severity for severity, _ in found(examine_versions, case(data))] == [Severity.OK]
    numbers = {"duckdb": "1.3.0", "dagster-webserver": "1.13.5"}
    monkeypatch.setattr(versions, "version", lambda name: numbers.get(name) or metadata.version(name))
    told = [text for severity, text in found(examine_versions, case(data)) if severity is Severity.PROBLEM]
    assert told == [
        "duckdb 1.3.0 is installed, duckdb<3,>=2.0 is asked for: pip install 'duckdb<3,>=2.0'",
        "dagster and dagster-webserver are of different versions; install both with constraints.txt",
    ]


@contextmanager
def holding(data: DataDirectory) -> Iterator[int]:
    """Another process that holds a window and a queue; its number."""
    command = [sys.executable, "-c", _HOLD, str(data.root), hours_before(0).key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate("")


@pytest.mark.skipif(not holders.is_told(), reason="this system does not tell who holds locks")
def test_who_holds_a_window_and_a_queue_is_told(data: DataDirectory) -> None:
    Queue("jobs", create_new_queue=True, data_dir=data.root)
    assert found(examine_locks, case(data)) == [(Severity.OK, "nobody holds a lock")]
    with holding(data) as pid:
        told = found(examine_locks, case(data))
    assert [severity for severity, _ in told] == [Severity.OK] * 2
    assert told[0][1].startswith(f"network {hours_before(0)} is under way in process {pid} (")
    assert told[1][1].startswith(f"process {pid} (")
    assert told[1][1].endswith("holds the queue jobs")


def test_hosts_are_told_with_what_they_speak_and_how_far_they_are_behind(data: DataDirectory, stack: ExitStack) -> None:
    network = Network(rate=50)
    simulators = (
        Simulator(network),
        Simulator(network, v2=False, clock=lambda: time.time() - 7200),
        Simulator(network, archive_since=datetime.now(UTC) - timedelta(hours=2), api_token="right"),
    )
    addresses = [stack.enter_context(running(one)).address for one in simulators]
    hosts = ",".join([*addresses, DEAD])
    asked = case(data, now=None, hosts=hosts, api_token="wrong", declared=False, seconds=120)
    told = found(examine_hosts, asked)
    assert [severity for severity, _ in told] == [
        Severity.OK,
        Severity.PROBLEM,
        Severity.OK,
        Severity.WARNING,
        Severity.WARNING,
    ]
    assert "speaks v1 and v2, " in told[0][1]
    assert "speaks v1, and is 2.0 h behind" in told[1][1]
    assert "does not take the token" in told[3][1]
    assert "cannot reach 127.0.0.1:1" in told[4][1]
    assert "wrong" not in " ".join(text for _, text in told)


def test_a_machine_whose_hosts_are_all_gone_is_told_so(data: DataDirectory) -> None:
    told = found(examine_hosts, case(data, now=None))
    assert [severity for severity, _ in told] == [Severity.WARNING, Severity.PROBLEM]


class _Dated(BaseHTTPRequestHandler):
    date = NOW

    def do_GET(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", format_datetime(self.date, usegmt=True))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is told."""


@contextmanager
def dated(date: datetime) -> Iterator[str]:
    """A host whose answers are all of that date."""
    handler = type("Dated", (_Dated,), {"date": date})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"ws://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_this_machines_clock_is_held_against_those_of_the_hosts(data: DataDirectory, stack: ExitStack) -> None:
    hosts = ",".join(stack.enter_context(dated(NOW - timedelta(seconds=late))) for late in (0, 0, 900))
    told = found(examine_clock, case(data, hosts=hosts, declared=False))
    assert [severity for severity, _ in told] == [Severity.OK, Severity.WARNING]
    assert "clock differs by 900 s" in told[1][1]
    for ahead, way in ((120, "ahead of"), (-120, "behind")):
        now = NOW + timedelta(seconds=ahead + 0.5)
        severity, text = found(examine_clock, case(data, now=now, hosts=hosts, declared=False))[0]
        assert severity is Severity.PROBLEM
        assert f"this machine's clock is 120 s {way} " in text


def test_a_simulated_host_tells_the_time_too(data: DataDirectory, stack: ExitStack) -> None:
    address = stack.enter_context(running(Simulator(Network(rate=1)))).address
    assert found(examine_clock, case(data, now=None, hosts=address))[0][0] is Severity.OK


def test_without_an_answer_the_clock_is_not_judged(data: DataDirectory) -> None:
    ((severity, text),) = found(examine_clock, case(data, now=None))
    assert severity is Severity.OK
    assert "was not compared" in text


def test_an_examination_that_takes_too_long_is_left_with_what_it_has_found(data: DataDirectory) -> None:
    blocked = threading.Event()

    def slow(_: Case) -> Iterator[Finding]:
        yield ok("first")
        blocked.wait(30)

    def failing(_: Case) -> Iterator[Finding]:
        raise StorageError("the disk is gone")
        yield

    found = dict(examine(case(data, seconds=2), {"slow": slow, "failing": failing}))
    blocked.set()
    assert [finding.severity for finding in found["slow"]] == [Severity.OK, Severity.WARNING]
    assert [finding.text for finding in found["failing"]] == ["the disk is gone"]


def test_nothing_is_written(data: DataDirectory) -> None:
    store(data, [commit('{"text":"first"}'), b"no event"], hours_before(0))
    before = {path: path.stat().st_mtime_ns for path in data.root.rglob("*")}
    assert all(findings for _, findings in examine(case(data), EXAMINATIONS))
    assert {path: path.stat().st_mtime_ns for path in data.root.rglob("*")} == before


def test_a_data_directory_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.touch()
    ((severity, text),) = found(examine_disk, case(DataDirectory(path)))
    assert severity is Severity.PROBLEM
    assert text == f"{path} is no folder; set JETSTREAM_DATA_DIR to one"
