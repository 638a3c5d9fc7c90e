"""Whether records still are what the lexicons say. Looking into the file is `sampling`'s, the lexicons `lexicons`'."""

from __future__ import annotations

from collections.abc import Mapping

from jetstream_pipeline.quality.finding import Figures, Finding
from jetstream_pipeline.quality.sampling import Sample, sample
from jetstream_pipeline.storage.places import AnyPath

_TOLERATED = 0.05
_ENOUGH = 100
"""Records before a share of them says anything."""


def drift(path: AnyPath) -> Finding:
    """Passes unless more than a twentieth of the records that tables are made of have fields unknown to us, or more
    than a twentieth of one collection's lack what their lexicon requires. Collections that we do not know are counted.

    A bridge may give most of a rare collection's records a field of its own; so unknown fields are judged over all.
    StorageError where the window's file at `path` cannot be read.
    """
    found = sample(path)
    records = sum(share.records for share in found.shares)
    unknown = _ratio(sum(share.unknown for share in found.shares), records)
    lacking = _ratio(sum(share.lacking for share in found.shares), records)
    figures: Figures = {
        "records": records,
        "one_row_of": found.every,
        "unknown_fields_share": unknown,
        "lacking_fields_share": lacking,
        "unknown_fields": _listed(found.fields),
        "unknown_collections": found.unknown_collections,
        "unknown_collections_events": found.unknown_collections_events,
        "most_frequent": _listed(found.collections),
    }
    failures = _lacking(found)
    if records >= _ENOUGH and unknown > _TOLERATED:
        failures.append(f"{unknown:.1%} of the records have fields that no lexicon has: {_listed(found.fields, 3)}")
    if failures:
        return Finding(False, "; ".join(failures), figures)
    text = (
        f"{records:,} records looked at, {unknown:.2%} with fields that no lexicon has, {lacking:.2%} without required"
    )
    return Finding(True, f"{text} ones; {found.unknown_collections:,} unknown collections", figures)


def _lacking(found: Sample) -> list[str]:
    shares = {
        share.collection: _ratio(share.lacking, share.records) for share in found.shares if share.records >= _ENOUGH
    }
    return [
        f"{share:.1%} of {collection} lack a field that its lexicon requires"
        for collection, share in shares.items()
        if share > _TOLERATED
    ]


def _listed(counts: Mapping[str, int], most: int | None = None) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in list(counts.items())[:most])


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
