"""What most tests begin with."""

import gc
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from jetstream_pipeline.jetstream import transport
from jetstream_pipeline.jetstream.transport import Transport
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.object_store import object_store, remote_data, s3_endpoint
from jetstream_pipeline_tests.postgres import postgres, postgres_url
from jetstream_pipeline_tests.queue_places import _queues_database, queue_place

__all__ = [
    "_queues_database",
    "object_store",
    "postgres",
    "postgres_url",
    "queue_place",
    "remote_data",
    "s3_endpoint",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--transport", choices=list(Transport), help="what reads the hosts' websockets in every test")


settings.register_profile("without deadlines", settings.default, deadline=None)
settings.load_profile("without deadlines")


def pytest_configure(config: pytest.Config) -> None:
    if chosen := config.getoption("--transport"):
        transport.DEFAULT = Transport(chosen)
        os.environ["JETSTREAM_TRANSPORT"] = chosen


def pytest_collection_finish() -> None:
    """What was imported stays: the collector of garbage need not look at all of it again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """An empty data directory."""
    return DataDirectory(tmp_path)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is entered here ends with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of `localhost` in one file, made by `openssl`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate of the servers here, is not installed")
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    made = subprocess.run([*command, "-keyout", "/dev/stdout"], capture_output=True, check=True)
    file.write_bytes(made.stdout)
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's, whose certificate nobody trusts yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
