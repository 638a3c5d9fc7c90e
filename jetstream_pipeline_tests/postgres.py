"""A PostgreSQL server on loopback for tests, which may be stopped, killed and started again. What uses it is elsewhere.

`postgres` is one server for all tests of a process (with pytest-xdist: one for each worker), `postgres_url` a database
of a test's own in it. Whoever stops a server starts it again.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_USER = "tester"
_PASSWORD = "a-secret-of-tests"
_UNPRIVILEGED = ("postgres", "nobody")
"""Who runs the server in root's stead, which it refuses."""
_START_SEC = 60
_OPTIONS = {"listen_addresses": "127.0.0.1", "max_connections": "100", "shared_buffers": "32MB", "timezone": "UTC"}
_HASTY = {"fsync": "off", "full_page_writes": "off"}
"""What was committed outlives the server's own end, not the machine's."""


def binaries() -> Path | None:
    """The folder of the newest server's programs; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).resolve().parent
    return found[-1].parent if found else None


class Postgres:
    """A server in a folder of its own, which its user owns. The password is asked for."""

    def __init__(self, folder: Path, programs: Path, *, durable: bool = False, **options: str) -> None:
        """`durable`: every commit reaches the disk. `options`: of its configuration."""
        self.folder = folder
        self.port = _free_port()
        self.log = folder / "server.log"
        self._programs = programs
        self._options = _OPTIONS | ({} if durable else _HASTY) | options
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = _unprivileged(folder)

    def create(self) -> None:
        """Make what the server stands on."""
        password = self.folder / "password"
        password.write_text(_PASSWORD)
        if self._as_user:
            os.chown(password, self._as_user["user"], self._as_user["group"])
        command = [self._programs / "initdb", "-D", self.folder / "data", "-U", _USER, f"--pwfile={password}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user)

    def start(self) -> None:
        """Returns when it answers. After a kill it waits for the dead one's children to end."""
        deadline = time.monotonic() + _START_SEC
        while True:
            self._process = self._launch()
            while self._process.poll() is None:
                if self._answers():
                    return
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and then the server in order, SIGQUIT at once, and SIGKILL as a crash would."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(_START_SEC)

    def restart(self, how: signal.Signals = signal.SIGQUIT) -> None:
        self.stop(how)
        self.start()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def url(self, database: str = "postgres", *, user: str = _USER, password: str = _PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside of any transaction; its rows, where it has some."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of an empty database, which is gone at the end."""
        name = f"test_{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name}")
        yield name
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _launch(self) -> subprocess.Popen[bytes]:
        options = self._options | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self._as_user)

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0


@contextmanager
def running(**options: Any) -> Iterator[Postgres]:
    """A server of one's own (see `Postgres`); the test is skipped where none is installed."""
    pytest.importorskip("psycopg", reason="psycopg, the extra `postgres`, is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's server (initdb) is not installed")
    # Not pytest's own folder: nobody else may look into that.
    with tempfile.TemporaryDirectory(prefix="jetstream-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder), programs, **options)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests."""
    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address, with its password, of an empty database."""
    with postgres.database() as name:
        yield postgres.url(name)


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Of `subprocess`: as whom to run, where we are root."""
    if os.geteuid():
        return {}
    user = next(pwd.getpwnam(name) for name in _UNPRIVILEGED if _is_user(name))
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _is_user(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
