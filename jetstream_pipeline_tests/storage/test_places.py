"""Where a lake may lie, and what of the environment leads there."""

from pathlib import Path

import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.storage.places import check_place, parse_place, shown


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert parse_place("some/where") == Path("some/where")
    assert shown(tmp_path / "lake") == str(tmp_path / "lake")


def test_an_address_is_shown_as_it_was_given() -> None:
    pytest.importorskip("s3fs")
    place = parse_place("s3://bucket/a/prefix/")
    assert not isinstance(place, Path)
    assert shown(place / "network" / "date=2026-07-04") == "s3://bucket/a/prefix/network/date=2026-07-04"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("ftp://host/lake", "no object store that is known"),
        ("s3://", "write s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/lake", "credentials come from the environment"),
        ("s3://bucket/day=1", "letters, digits and"),
        ("s3://bucket/*", "letters, digits and"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(given: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refusal:
        check_place(given)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("variables", "region", "endpoint"),
    [
        ({"AWS_REGION": "eu-north-1"}, "eu-north-1", "https://s3.eu-north-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "eu-north-1", "https://s3.eu-north-1.amazonaws.com"),
        ({"AWS_REGION": "eu-north-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "eu-north-1", "http://127.0.0.1:1"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2"},
            "us-east-1",
            "http://127.0.0.1:2",
        ),
    ],
)
def test_regions_and_endpoints_of_the_environment_are_honoured(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str, endpoint: str
) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    place = parse_place("s3://bucket/lake")
    assert not isinstance(place, Path)
    place.fs.connect()
    assert (place.fs.s3.meta.region_name, place.fs.s3.meta.endpoint_url) == (region, endpoint)
    s3fs.S3FileSystem.clear_instance_cache()
