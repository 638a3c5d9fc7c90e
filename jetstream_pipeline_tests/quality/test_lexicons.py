"""What we say of the network's lexicons agrees with them, as another project's models have them."""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from jetstream_pipeline.quality.lexicons import COLLECTIONS, RECORDS
from jetstream_pipeline.settings import MAIN_COLLECTIONS
from jetstream_pipeline.sql import literal
from jetstream_pipeline.tables.definitions import TABLES

_TYPE = "$type"


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return pytest.importorskip("atproto_client.models", reason="the SDK's models are not installed (extra `dev`)")


@pytest.mark.parametrize("collection", RECORDS)
def test_fields_and_required_fields_are_the_lexicons(models: ModuleType, collection: str) -> None:
    module = import_module(f"{models.__name__}.{collection}")
    alias = models.base.ModelBase.model_config["alias_generator"]
    fields = {field.alias or alias(name): field for name, field in module.Record.model_fields.items()}
    fields.pop(_TYPE)
    assert set(RECORDS[collection].fields) == set(fields)
    assert {name for name, _ in RECORDS[collection].required} == {
        name for name, field in fields.items() if field.is_required()
    }


def test_the_networks_collections_are_all_there(models: ModuleType) -> None:
    root = Path(models.__path__[0])
    found = {
        match[1]
        for namespace in ("app/bsky", "chat/bsky")
        for path in (root / namespace).rglob("*.py")
        for match in re.finditer(r"default=\'([\w.]+)\', alias=\'\$type\'", path.read_text())
        if "class Record(" in path.read_text() and "#" not in match[1]
    }
    assert found == COLLECTIONS


def test_they_are_the_tables_collections_and_the_default_streams() -> None:
    assert tuple(RECORDS) == MAIN_COLLECTIONS
    for collection in RECORDS:
        assert any(literal(collection) in table.condition for table in TABLES)
