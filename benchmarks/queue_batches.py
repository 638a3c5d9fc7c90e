"""How fast a queue takes records and gives them away, and whether its file stops growing.

Batches of 1,000 messages of the simulated network, the file opened and closed for each call: added plainly; added with
keys and a bookmark, as the connector does; claimed and then acknowledged. In turns with them, bare loops that open a
file of their own, insert the same batch and close it. Then a day in short: items come and go over a backlog, and the
size of the file is watched. Ends with 1 where it did not level off.

With `--postgres` the queues are in that database, on a connection that stays; so is that of its bare loop, which copies
the batch into a table and commits. There `benchmark_items`, and the queues `measured` and `day`, are replaced. A
database is swept once a minute: it levels off where the day takes several.

    python benchmarks/queue_batches.py [--short] [--passes 7] [--batches 10] [--items 2000000] [--backlog 50000]
        [--postgres postgresql://USER@HOST/DATABASE]
"""

import argparse
import os
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from jetstream_pipeline import Queue
from jetstream_pipeline.simulator import Network

START = datetime(2026, 7, 4, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 1000
SIZES_SHOWN = 10
LEVEL = 1.25
"""The file may be so much larger in the second half of the day than in the first."""


@dataclass
class Series:
    """What the passes of one thing took."""

    name: str
    bound: int | None = None
    """Items a second that are asked for."""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def run(self, call: Callable[[], None]) -> None:
        seconds, cpu_seconds = time.perf_counter(), time.process_time()
        call()
        self.seconds.append(time.perf_counter() - seconds)
        self.cpu_seconds.append(time.process_time() - cpu_seconds)


def main() -> int:
    arguments = parse_arguments()
    os.environ["JETSTREAM_QUEUES"] = arguments.postgres
    batches = simulated(arguments.batches)
    payload_bytes = sum(len(text.encode()) for batch in batches for text in batch) / len(batches) / BATCH
    print(f"{len(batches)} batches of {BATCH:,} messages, {payload_bytes:,.0f} bytes each on average")
    before = peak_memory_mb()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.postgres:
            measure_postgres(arguments.postgres, batches, arguments.passes)
        else:
            measure_speed(Path(folder), batches, arguments.passes)
    print(f"peak memory: {peak_memory_mb():,.0f} MB, before the first call {before:,.0f} MB\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        queue = fresh("day", arguments.postgres) if arguments.postgres else Queue("day", True, data_dir=folder)
        return 0 if levels_off(queue, arguments.postgres, batches, arguments.items, arguments.backlog) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--batches", type=int, default=10, help="in each pass")
    parser.add_argument("--items", type=int, default=2_000_000, help="that come and go in the day")
    parser.add_argument("--backlog", type=int, default=50_000, help="items that wait meanwhile")
    parser.add_argument("--postgres", default="", help="address of the database to measure, instead of files")
    parser.add_argument("--folder", help="on the disk that is to be measured")
    parser.add_argument("--short", action="store_true", help="a few seconds")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.passes, arguments.batches, arguments.items, arguments.backlog = 5, 3, 40_000, 10_000
    return arguments


def simulated(number: int) -> list[list[str]]:
    start_us = (START - EPOCH) // MICROSECOND
    texts = (event.message.decode() for event in Network(0, 355.0).events(start_us, start_us + 86_400_000_000))
    return [list(islice(texts, BATCH)) for _ in range(number)]


def measure_speed(folder: Path, batches: list[list[str]], passes: int) -> None:
    queue = Queue("measured", create_new_queue=True, data_dir=folder)
    duckdb_path, sqlite_path = bare_files(folder)
    add, add_keyed = Series("add", 50_000), Series("add with keys and a bookmark")
    claim, claim_keyed = Series("claim, then acknowledge", 20_000), Series("the same, of those with keys")
    bare_duckdb, bare_sqlite = Series("bare DuckDB: open, insert, close"), Series("bare SQLite: open, insert, close")
    keys = numbered_keys()
    for _ in range(passes + 1):
        add.run(lambda: each(batches, queue.batch_add_items_to_queue))
        claim.run(lambda: each(batches, lambda batch: finish(queue)))
        bare_duckdb.run(lambda: each(batches, lambda batch: insert_duckdb(duckdb_path, batch)))
        add_keyed.run(lambda: each(batches, lambda batch: add_with_keys(queue, batch, keys)))
        claim_keyed.run(lambda: each(batches, lambda batch: finish(queue)))
        bare_sqlite.run(lambda: each(batches, lambda batch: insert_sqlite(sqlite_path, batch)))
    items = len(batches) * BATCH
    print_table([add, add_keyed, claim, claim_keyed, bare_duckdb, bare_sqlite], bare_duckdb, items)


def measure_postgres(address: str, batches: list[list[str]], passes: int) -> None:
    import psycopg

    add, add_keyed = Series("add"), Series("add with keys and a bookmark")
    claim, claim_keyed = Series("claim, then acknowledge"), Series("the same, of those with keys")
    bare = Series("bare psycopg: copy, commit")
    keys = numbered_keys()
    with psycopg.connect(address) as connection:
        queue = fresh("measured", address)
        connection.execute(
            "DROP TABLE IF EXISTS benchmark_items; CREATE TABLE benchmark_items (id bigint, payload text)"
        )
        connection.commit()
        for _ in range(passes + 1):
            add.run(lambda: each(batches, queue.batch_add_items_to_queue))
            claim.run(lambda: each(batches, lambda batch: finish(queue)))
            bare.run(lambda: each(batches, lambda batch: insert_postgres(connection, batch)))
            add_keyed.run(lambda: each(batches, lambda batch: add_with_keys(queue, batch, keys)))
            claim_keyed.run(lambda: each(batches, lambda batch: finish(queue)))
        connection.execute("DROP TABLE benchmark_items")
    print_table([add, add_keyed, claim, claim_keyed, bare], bare, len(batches) * BATCH)


def fresh(name: str, address: str) -> Queue:
    """A queue that holds nothing and remembers nothing."""
    import psycopg

    Queue(name, create_new_queue=True)
    with psycopg.connect(address) as connection:
        connection.execute("DELETE FROM jetstream_queues.queues WHERE name = %s", [name])
    return Queue(name, create_new_queue=True)


def insert_postgres(connection: Any, batch: Sequence[str]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY benchmark_items FROM STDIN") as copy:
        for row in enumerate(batch):
            copy.write_row(row)
    connection.commit()


def each(batches: list[list[str]], call: Callable[[list[str]], object]) -> None:
    for batch in batches:
        call(batch)


def numbered_keys() -> Iterator[str]:
    """As long as the connector's."""
    return (f"{number:0140}" for number in range(sys.maxsize))


def add_with_keys(queue: Queue, batch: Sequence[str], keys: Iterator[str]) -> None:
    chosen = list(islice(keys, len(batch)))
    added = queue.batch_add_items_to_queue(batch, keys=chosen, bookmark=("benchmark", chosen[-1]))
    assert added == len(batch), "a new key was taken for a known one"


def finish(queue: Queue) -> None:
    items = queue.claim(BATCH)
    assert len(items) == BATCH, "the queue is short of items"
    assert not queue.ack(items), "a claimed item was somebody else's"


def bare_files(folder: Path) -> tuple[Path, Path]:
    duckdb_path, sqlite_path = folder / "bare.duckdb", folder / "bare.sqlite"
    with duckdb.connect(duckdb_path) as connection:
        connection.execute("CREATE TABLE items (id BIGINT, payload VARCHAR)")
    with closing(sqlite3.connect(sqlite_path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE items (id INTEGER, payload TEXT)")
    return duckdb_path, sqlite_path


def insert_duckdb(path: Path, batch: Sequence[str]) -> None:
    with duckdb.connect(path, config={"threads": 1}) as connection:
        connection.register("incoming", pa.table({"id": range(len(batch)), "payload": pa.array(batch, pa.string())}))
        connection.execute("INSERT INTO items SELECT * FROM incoming")


def insert_sqlite(path: Path, batch: Sequence[str]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA synchronous = FULL")
        database.executemany("INSERT INTO items VALUES (?, ?)", enumerate(batch))


def print_table(table: list[Series], bare: Series, items: int) -> None:
    """Without the first pass, which warms up."""
    print(f"\n{'':34}{'items/s':>9}{'lowest':>9}{'highest':>9}{'asked':>8}{'x bare':>8}{'CPU us/item':>13}")
    for series in table:
        seconds = series.seconds[1:]
        speed, bound = items / statistics.median(seconds), f"{series.bound:,}" if series.bound else ""
        ratio = statistics.median(other / own for other, own in zip(bare.seconds[1:], seconds, strict=True))
        cpu_us = statistics.median(series.cpu_seconds[1:]) / items * 1e6
        print(
            f"{series.name:34}{speed:9,.0f}{items / max(seconds):9,.0f}{items / min(seconds):9,.0f}"
            f"{bound:>8}{ratio:8.2f}{cpu_us:13.1f}"
        )


def size_of(queue: Queue, address: str) -> int:
    """Bytes on disk, of a database's tables with all that was deleted and not yet swept."""
    if queue.path:
        return queue.path.stat().st_size
    import psycopg

    with psycopg.connect(address) as connection:
        total = (
            "SELECT sum(pg_total_relation_size(format('%I.%I', schemaname, tablename)::regclass))::bigint "
            "FROM pg_tables WHERE schemaname = 'jetstream_queues'"
        )
        ((size,),) = connection.execute(total).fetchall()
        return int(size)


def levels_off(queue: Queue, address: str, batches: list[list[str]], items: int, backlog: int) -> bool:
    """Whether the file is about as large in the second half as in the first."""
    keys = numbered_keys()
    for number in range(backlog // BATCH):
        add_with_keys(queue, batches[number % len(batches)], keys)
    size = size_of(queue, address)
    print(f"{backlog:,} items wait in {size / 1e6:,.1f} MB, {size / backlog:,.0f} bytes each; others come and go\n")
    print(f"{'items':>12}{'largest file':>15}{'items/s':>9}")
    rounds = items // BATCH
    shown = max(1, rounds // SIZES_SHOWN)
    sizes: list[int] = []
    before = time.perf_counter()
    for number in range(1, rounds + 1):
        add_with_keys(queue, batches[number % len(batches)], keys)
        finish(queue)
        sizes.append(size_of(queue, address))
        if number % shown == 0:
            now = time.perf_counter()
            print(f"{number * BATCH:12,}{max(sizes[-shown:]) / 1e6:12,.1f} MB{shown * BATCH / (now - before):9,.0f}")
            before = now
    middle = rounds // 2
    level = max(sizes[middle:]) <= max(sizes[:middle]) * LEVEL
    print(f"the file {'levels off' if level else 'grows'}: {len(queue):,} items wait in {sizes[-1] / 1e6:,.1f} MB")
    return level


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
