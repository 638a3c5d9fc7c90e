"""The small internet's certificate, and an environment that trusts no other."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jetstream_pipeline_tests.handles.world import CERTIFIED, World, building

_PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate in one file, made by `openssl`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate of the hosts here, is not installed")
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    names = ",".join(f"DNS:{name}" for name in CERTIFIED)
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hosts"]
    command += ["-addext", f"subjectAltName={names}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    made = subprocess.run([*command, "-keyout", "/dev/stdout"], capture_output=True, check=True)
    file.write_bytes(made.stdout)
    return file


@pytest.fixture
def world(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with building(certificate, tmp_path / "handles.jsonl") as world:
        yield world
