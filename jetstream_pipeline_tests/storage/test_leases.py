"""Leases among machines, played by processes and threads over a real S3 server."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event

import pytest

from jetstream_pipeline.storage import leases, objects
from jetstream_pipeline.storage.leases import LeaseLost, leased
from jetstream_pipeline.storage.places import parse_place
from jetstream_pipeline.storage.swapping import swap
from jetstream_pipeline_tests.object_store import ObjectStore

_SPAWN = multiprocessing.get_context("spawn")


def _hold(url: str, held: Event) -> None:
    with leased(parse_place(url), lasts=1.0):
        held.set()
        time.sleep(60)


def test_one_holds_it_at_a_time(object_store: ObjectStore) -> None:
    path = parse_place(f"{object_store.url}/lease.json")
    inside: list[int] = []

    def work(number: int) -> int:
        with leased(path):
            inside.append(number)
            time.sleep(0.02)
            assert inside == [number]
            inside.remove(number)
        return number

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(work, range(6))) == list(range(6))


def test_one_whose_holder_was_killed_is_taken_when_it_has_run_out(object_store: ObjectStore) -> None:
    url = f"{object_store.url}/lease.json"
    held = _SPAWN.Event()
    holder = _SPAWN.Process(target=_hold, args=(url, held), daemon=True)
    holder.start()
    assert held.wait(60)
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    began = time.monotonic()
    with leased(parse_place(url), lasts=1.0):
        assert time.monotonic() - began > 1.0


def test_it_is_renewed_for_as_long_as_it_is_held(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_RENEWALS", 300)
    path = parse_place(f"{object_store.url}/lease.json")
    with ThreadPoolExecutor(1) as thread:
        with leased(path, lasts=30):
            waiting = thread.submit(leased(path).__enter__)
            contents = {objects.content(path)}
            until = time.monotonic() + 60
            while len(contents) < 4:
                assert time.monotonic() < until
                time.sleep(0.02)
                contents.add(objects.content(path))
            assert not waiting.done()
        waiting.result(30)


def test_a_holder_that_others_did_not_wait_for_is_told(object_store: ObjectStore) -> None:
    path = parse_place(f"{object_store.url}/lease.json")
    lease = leased(path)
    lease.__enter__()
    objects.delete(path)
    with leased(path), pytest.raises(LeaseLost, match=f"{object_store.url}/lease.json was taken over") as lost:
        lease.__exit__(None, None, None)
    assert lost.value.passing


def test_what_goes_wrong_inside_is_what_is_told(object_store: ObjectStore) -> None:
    path = parse_place(f"{object_store.url}/lease.json")

    def fail() -> None:
        with leased(path):
            objects.delete(path)
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_an_object_is_swapped_only_for_what_one_has_seen(object_store: ObjectStore) -> None:
    path = parse_place(f"{object_store.url}/object")
    assert swap(path, None, b"first")
    assert not swap(path, None, b"second")
    seen = objects.tag(objects.info(path) or {})
    assert swap(path, seen, b"third")
    assert not swap(path, seen, b"fourth")
    assert objects.content(path) == b"third"
    objects.delete(path)
    assert not swap(path, seen, b"fifth")
