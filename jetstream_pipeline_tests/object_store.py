"""An S3 server on loopback for tests of what lies in an object store.

A test that takes the fixture `object_store` has a bucket of its own there, and the environment that leads to it: in its
own process, and in those that it starts with `os.environ`. `object_store.url` is what JETSTREAM_LAKE may be set to,
`parse_place(object_store.url)` the same as a path; `remote_data` is a data directory whose lake lies there:

    def test_something(remote_data: DataDirectory) -> None:
        store(remote_data, [commit("{}")])
        assert remote_data.lake.has("network", HOUR)

The server (moto's) takes any credentials; `object_store.refusing()` has it look at them for as long as a `with` lasts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.places import parse_place

ACCESS_KEY, SECRET_KEY = "test-access-key", "test-secret-key"
_ANY = "1000000000"


@dataclass(frozen=True)
class ObjectStore:
    """One bucket of a server, and where that listens."""

    endpoint: str
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/lake"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a process that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def keys(self, prefix: str = "") -> dict[str, bytes]:
        """Every object of the bucket below a prefix, and what it holds."""
        from moto.backends import get_backend

        (backend,) = (backend["global"] for account, backend in get_backend("s3").items())
        objects = backend.buckets[self.bucket].keys.items()
        return {name: bytes(key.value) for name, key in objects if name.startswith(prefix)}

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """The server knows nobody."""
        self._look_at_credentials("0")
        try:
            yield
        finally:
            self._look_at_credentials(_ANY)

    def _look_at_credentials(self, after_requests: str) -> None:
        plain = {"Content-Type": "text/plain"}
        address = f"{self.endpoint}/moto-api/reset-auth"
        urlopen(Request(address, after_requests.encode(), plain, method="POST")).close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Where an S3 server listens."""
    server = pytest.importorskip("moto.server", reason="moto, the S3 server of tests, is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def object_store(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ObjectStore:
    """An empty bucket."""
    import s3fs

    store = ObjectStore(s3_endpoint, f"bucket-{abs(hash(request.node.nodeid)):x}")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "JETSTREAM_LAKE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(store.bucket)
    return store


@pytest.fixture
def remote_data(object_store: ObjectStore, tmp_path: Path) -> DataDirectory:
    """An empty data directory, and an empty lake in an object store."""
    return DataDirectory(tmp_path, parse_place(object_store.url))
