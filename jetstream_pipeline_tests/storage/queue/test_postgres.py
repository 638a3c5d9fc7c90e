"""A queue in a PostgreSQL database that restarts, breaks connections, refuses, or is shared by claimers at once."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jetstream_pipeline import Queue
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.metrics.lake import LakeReadings
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.queue.patience import QueueBusy
from jetstream_pipeline.storage.queue.queue import BookmarkMoved, location, queues
from jetstream_pipeline_tests.postgres import Postgres
from jetstream_pipeline_tests.queue_places import execute, in_postgres

PASSWORD = "a-secret-of-tests"


@pytest.fixture(autouse=True)
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where this module's queues are."""
    address = in_postgres(request)
    monkeypatch.setenv("JETSTREAM_QUEUES", address)
    return address


@pytest.fixture
def queue(database: str) -> Queue:
    return Queue("work", create_new_queue=True)


def numbers(items: list[Any]) -> list[int]:
    return [item.json()["n"] for item in items]


def fill(queue: Queue, number: int) -> None:
    queue.batch_add_items_to_queue([{"n": n} for n in range(number)])


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL])
def test_a_server_that_starts_again_is_waited_for(queue: Queue, postgres: Postgres, how: signal.Signals) -> None:
    fill(queue, 10)
    items = queue.claim(5)
    postgres.stop(how)
    starting = threading.Timer(0.5, postgres.start)
    starting.start()
    try:
        assert queue.ack(items) == []
        assert numbers(queue.claim()) == [5, 6, 7, 8, 9]
        assert queue.stats().acknowledged == 5
    finally:
        # A session of the dead one may have answered: then it is too early for who comes next.
        starting.join()


def test_a_connection_that_is_ended_is_made_again(queue: Queue) -> None:
    fill(queue, 3)
    for _ in range(3):
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jetstream_pipeline'")
        assert len(queue.claim(1)) == 1


def test_who_waited_in_vain_to_begin_can_begin_later(queue: Queue, database: str) -> None:
    import psycopg

    execute("INSERT INTO jetstream_queues.receipts VALUES (gen_random_uuid(), 0, now() - interval '8 days')")
    late = Queue("work", patience=0.2)
    with psycopg.connect(database) as sweeping:
        sweeping.execute("DELETE FROM jetstream_queues.receipts WHERE at < now() - interval '7 days'")
        with pytest.raises(QueueBusy):
            late.add({"n": 1})
    assert late.add({"n": 1}) == 1


class Broken:
    """Stands between a queue and its server. The next commit is answered to nobody: it arrives, or does not."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.breaks: str | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                pair = [client, socket.create_connection(("127.0.0.1", self._server))]
                unanswered = threading.Event()
                threading.Thread(target=self._to_server, args=(*pair, unanswered), daemon=True).start()
                threading.Thread(target=self._to_client, args=(*pair, unanswered), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, unanswered: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self.breaks and b"COMMIT\0" in data:
                    when, self.breaks = self.breaks, None
                    if when == "before":
                        break
                    unanswered.set()
                server.sendall(data)
        end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, unanswered: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(1 << 16)) and not unanswered.is_set():
                client.sendall(data)
        end(client, server)

    def close(self) -> None:
        end(self._listener)
        self._listener.close()


def end(*ends: socket.socket) -> None:
    for one in ends:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def broken(database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broken]:
    between = Broken(postgres.port)
    monkeypatch.setenv("JETSTREAM_QUEUES", database.replace(f":{postgres.port}/", f":{between.port}/"))
    yield between
    between.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_commit_without_an_answer_did_is_found_out(broken: Broken, when: str) -> None:
    queue = Queue("work", create_new_queue=True)
    fill(queue, 3)

    def breaking(call: Callable[[], Any]) -> Any:
        broken.breaks = when
        result = call()
        assert broken.breaks is None, "nothing broke"
        return result

    assert breaking(lambda: queue.add({"n": 3})) == 4
    assert breaking(lambda: queue.batch_add_items_to_queue([{"n": 4}], idempotency_key="once")) == 1
    assert (
        breaking(
            lambda: queue.batch_add_items_to_queue([{"n": 5}], keys=["a"], if_bookmark=("b", None), bookmark=("b", "1"))
        )
        == 1
    )
    first = breaking(lambda: queue.claim(2))
    second = breaking(lambda: queue.claim(2))
    assert (numbers(first), numbers(second)) == ([0, 1], [2, 3])
    assert {item.attempts for item in first + second} == {1}
    assert breaking(lambda: queue.ack(first)) == []
    assert breaking(lambda: queue.fail(second[:1], "not now")) == []
    assert breaking(lambda: queue.release(second[1:])) == []
    assert numbers(breaking(lambda: queue.batch_remove_items_from_queue(1))) == [2]
    assert breaking(queue.purge) == 3
    stats = queue.stats()
    assert (stats.added, stats.acknowledged, stats.purged, stats.pending, stats.claimed) == (6, 3, 3, 0, 0)


def test_whoever_cannot_find_out_says_so(broken: Broken) -> None:
    queue = Queue("work", create_new_queue=True, patience=0.5)
    queue.add({})
    broken.breaks = "after"
    broken.close()
    with pytest.raises(StorageError, match="whether the last call was done is not known") as told:
        queue.add({})
    assert told.value.passing


def test_with_the_connection_a_lock_is_lost_and_so_is_the_way_to_add(queue: Queue) -> None:
    busy = QueueBusy("another one has it")
    companion, other = queue.companion("a/file"), Queue("work").companion("a/file")

    def use() -> None:
        with companion.alone(busy):
            with pytest.raises(QueueBusy), other.alone(busy):
                pass
            queue.add({"n": 0})
            execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory'")
            with other.alone(busy):
                pass
            queue.add({"n": 1})

    with pytest.raises(StorageError, match="its lock is lost; begin again") as told:
        use()
    assert told.value.passing
    assert numbers(queue.peek()) == [0]
    with companion.alone(busy):
        queue.add({"n": 2})


def test_a_companion_is_a_file_wherever_the_queue_is_opened(queue: Queue) -> None:
    with queue.companion("a/file").fetched() as path:
        assert path is None
    for content in (b"first", bytes(range(256)) * 10_000):
        with queue.companion("a/file").replaced() as path:
            path.write_bytes(content)
        with Queue("work").companion("a/file").fetched() as found:
            assert found
            assert found.read_bytes() == content


def test_claimers_at_once_get_each_item_once_and_wait_for_nobody(queue: Queue, database: str) -> None:
    import psycopg

    fill(queue, 2_000)
    claimed: list[list[int]] = [[] for _ in range(4)]

    def claim(place: int) -> None:
        mine = Queue("work", patience=60)
        while items := mine.claim(37):
            claimed[place] += [item.id for item in items]
            assert mine.ack(items[::2]) == []

    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM jetstream_queues.items WHERE id = 1 FOR UPDATE")
        threads = [threading.Thread(target=claim, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(number for one in claimed for number in one) == list(range(2, 2_001))
    assert [item.id for item in queue.claim()] == [1]


def test_a_deadlock_is_got_over(queue: Queue, database: str) -> None:
    import psycopg

    fill(queue, 2)
    items = queue.claim()
    lock = "SELECT FROM jetstream_queues.items WHERE id = %s FOR UPDATE"
    with psycopg.connect(database) as connection:
        connection.execute("SET deadlock_timeout = '60s'")
        connection.execute(lock, [2])
        lost: list[Any] = []
        thread = threading.Thread(target=lambda: lost.append(queue.ack(items)))
        thread.start()
        while not execute("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            time.sleep(0.01)
        connection.execute(lock, [1])
    thread.join()
    assert lost == [[]]
    assert queue.stats().acknowledged == 2


def test_whoever_waits_for_too_long_says_so(queue: Queue, database: str) -> None:
    import psycopg

    impatient = Queue("work", patience=0.3)
    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM jetstream_queues.queues FOR UPDATE")
        with pytest.raises(QueueBusy, match=r"holds the queue work for more than 0\.3 s"):
            impatient.add({})
        assert impatient.claim() == []
    assert impatient.add({}) == 1


def test_the_time_is_the_server_s(queue: Queue) -> None:
    script = """
import datetime, sys
from jetstream_pipeline import Queue
class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) - datetime.timedelta(days=9)
import jetstream_pipeline.storage.queue.postgres.store as module
module.datetime = Wrong
queue = Queue("work")
queue.add({})
print(queue.claim(lease=100)[0].lease_until.timestamp())
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    ((now,),) = execute("SELECT extract(epoch FROM now())::float")
    assert 0 < float(said) - float(str(now)) < 100
    assert queue.claim() == []


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_claim_passes_over_no_items_of_others_and_no_dead_ones(queue: Queue, database: str, analyzed: bool) -> None:
    import psycopg

    from jetstream_pipeline.storage.queue.postgres import rows

    fill(queue, 3_000)
    queue.claim(2_900)
    if analyzed:
        execute("ANALYZE jetstream_queues.items")
    with psycopg.connect(database) as connection:
        connection.execute("SET search_path = jetstream_queues; SET enable_sort = off")
        ((number,),) = connection.execute("SELECT id FROM queues").fetchall()
        values = {"queue": number, "now": datetime.now(UTC).replace(tzinfo=None), "limit": 10}
        plan = connection.execute(f"EXPLAIN {rows._first(rows._FREE)}", values).fetchall()
    assert "Index Scan using items_pending" in str(plan)


def test_a_process_that_was_forked_has_a_connection_of_its_own(queue: Queue) -> None:
    queue.add({})
    child = os.fork()
    if not child:
        try:
            os._exit(0 if queue.add({}) == 2 and len(queue.claim(1)) == 1 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert (queue.add({}), len(queue)) == (3, 2)


def test_a_bookmark_that_moved_meanwhile_lets_nothing_in(queue: Queue) -> None:
    queue.batch_add_items_to_queue([], bookmark=("b", "1"))
    for thought in (None, "2"):
        with pytest.raises(BookmarkMoved, match="read it again"):
            queue.batch_add_items_to_queue([{}], bookmark=("b", "2"), if_bookmark=("b", thought))
    assert (len(queue), queue.bookmark("b")) == (0, "1")


def test_a_queue_that_is_gone_is_told_and_can_be_made_again(queue: Queue) -> None:
    queue.batch_add_items_to_queue([{}], keys=["a"], idempotency_key="b", bookmark=("c", "d"))
    execute("DELETE FROM jetstream_queues.queues WHERE name = 'work'")
    with pytest.raises(StorageError, match=r"'work', in PostgreSQL at .* is gone; make the queue again"):
        queue.add({})
    again = Queue("work", create_new_queue=True)
    assert again.unknown(["a"]) == [True]
    assert (again.bookmark("c"), again.stats().added) == (None, 0)
    assert queue.add({}) == 1


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said where a queue is opened there: one line, without the password."""
    monkeypatch.setenv("JETSTREAM_QUEUES", address)
    with pytest.raises(StorageError) as told:
        Queue("work", create_new_queue=True, patience=0.2)
    text = str(told.value)
    assert "\n" not in text
    assert PASSWORD not in text
    assert "postgresql://" not in text
    return text


def test_what_cannot_be_used_is_told_without_the_password(
    database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _, name = database.rpartition("/")
    assert "no-such-place" in refused(f"{server}/no-such-place", monkeypatch)
    assert "password authentication failed" in refused(database.replace(PASSWORD, "wrong"), monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        away = database.replace(f":{postgres.port}/", f":{nobody.getsockname()[1] + 1}/")
    assert "look whether the server runs" in refused(away, monkeypatch)
    execute_there = f"DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'"
    monkeypatch.setenv("JETSTREAM_QUEUES", database)
    execute(execute_there)
    stranger = postgres.url(name, user="stranger")
    assert "permission denied" in refused(stranger, monkeypatch)


@pytest.mark.parametrize(
    "address",
    [
        "mysql://me:hush@db/lab",
        "postgresql://me:hu/sh@db/lab",
        "postgresql://me:h@sh@db/lab",
        "postgresql://me:hu%sh@db/lab",
    ],
)
def test_an_address_that_is_none_is_told_without_a_word_of_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JETSTREAM_QUEUES", address)
    with pytest.raises(InvalidInput, match=r"JETSTREAM_QUEUES.*postgresql://USER@HOST") as told:
        Queue("work")
    assert not any(part in str(told.value) for part in ("hu", "h@sh", "sh@", "hush", "@db", "me:"))


def test_libpq_s_variables_and_files_are_respected(
    database: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    name = database.rpartition("/")[2]
    passwords = tmp_path / "passwords"
    passwords.write_text(f"127.0.0.1:{postgres.port}:{name}:tester:{PASSWORD}\n")
    passwords.chmod(0o600)
    variables = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "tester", "PGDATABASE": name}
    for variable, value in (variables | {"PGPASSFILE": str(passwords)}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("JETSTREAM_QUEUES", "postgresql://")
    assert queues() == ["work"]
    assert location("work") == f"jetstream_queues, 'work', in PostgreSQL at 127.0.0.1/{name}"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("jetstream_pipeline.storage.queue.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidInput, match=r"psycopg is not installed: pip install 'jetstream_pipeline\[postgres\]'"):
        Queue("work")


def test_a_claimer_that_is_killed_loses_its_items_with_the_lease(queue: Queue) -> None:
    fill(queue, 3)
    script = """
import time
from jetstream_pipeline import Queue
print(len(Queue("work").claim(lease=1000)), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "3\n"
    process.kill()
    process.wait()
    assert queue.claim() == []
    execute("UPDATE jetstream_queues.items SET lease_until = lease_until - interval '1000 seconds'")
    assert [item.attempts for item in queue.claim()] == [2, 2, 2]


def test_the_metrics_go_on_where_the_database_is_away(
    queue: Queue, data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add({})
    reader = LakeReadings(data)
    found = reader.read().queues["work"]
    assert found
    assert found.pending == 1
    execute("DELETE FROM jetstream_queues.queues")
    monkeypatch.setenv("JETSTREAM_QUEUES", "postgresql://nobody@127.0.0.1:1/nothing")
    assert reader.read().queues == {"work": None}
