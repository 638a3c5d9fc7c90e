"""Replays at the same time begin with different hosts, and share them evenly where there are more."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.replay.leading import leading
from jetstream_pipeline.storage.errors import StorageError

A, B, C = HOSTS = tuple(map(Host.parse, ("us-east-1", "ws://[::1]:6008", "us-west-1")))

_LEADING = """
import sys
from pathlib import Path
from jetstream_pipeline.jetstream.hosts import Host
from jetstream_pipeline.replay.leading import leading
hosts = [Host.parse(text) for text in sys.argv[2:]]
with leading(hosts, Path(sys.argv[1])) as ordered:
    print(*(host.address for host in ordered), flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that leads for as long as its input stays open."""
    command = [sys.executable, "-c", _LEADING, str(folder), *(host.address for host in HOSTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def told(*hosts: Host) -> str:
    return " ".join(host.address for host in hosts)


def test_each_process_begins_with_another_host_and_the_fourth_shares_the_first(
    tmp_path: Path, stack: ExitStack
) -> None:
    first, second, third = (stack.enter_context(another(tmp_path / "hosts")) for _ in range(3))
    orders = {line(process): process for process in (first, second, third)}
    assert orders.keys() == {told(A, B, C), told(B, A, C), told(C, A, B)}
    assert line(stack.enter_context(another(tmp_path / "hosts"))) == told(A, B, C)
    leader = orders[told(B, A, C)]
    leader.kill()
    leader.wait()
    assert line(stack.enter_context(another(tmp_path / "hosts"))) == told(B, A, C)


def test_a_dead_process_leads_nothing(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        assert line(process) == told(A, B, C)
        with leading(HOSTS, tmp_path) as hosts:
            assert hosts == (B, A, C)
        process.kill()
        process.wait()
        with leading(HOSTS, tmp_path) as hosts:
            assert hosts == HOSTS


def test_what_was_led_is_free_again_whatever_ended_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), leading(HOSTS, tmp_path):
        raise ZeroDivisionError
    with leading(HOSTS, tmp_path) as hosts:
        assert hosts == HOSTS
    assert len(list(tmp_path.iterdir())) == 1


def test_a_host_that_was_named_twice_is_led_once(tmp_path: Path) -> None:
    with leading([A, A, B], tmp_path) as first, leading([A, A, B], tmp_path) as second:
        assert (first, second) == ((A, A, B), (B, A, A))


def test_threads_share_the_hosts_evenly(tmp_path: Path) -> None:
    begun: Counter[Host] = Counter()
    within = threading.Barrier(6)

    def work() -> None:
        with leading([A, B], tmp_path) as hosts:
            begun[hosts[0]] += 1
            within.wait()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == {A: 3, B: 3}


@pytest.mark.parametrize("name", ["../../etc/passwd", ".", "ü.example:80", "a" * 1000, "\0", "A/b"])
def test_a_name_stays_in_the_folder_whatever_it_is(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    with leading([Host(name, "ws://a")], folder):
        assert len(list(folder.iterdir())) == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_no_hosts_and_no_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name at least one host"), leading([], tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot create .*file"), leading(HOSTS, tmp_path / "file"):
        pass
