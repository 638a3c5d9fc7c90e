"""Plans name what may hold the wanted events, page by page, and never too little."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.simulator import SimulatedEvent, Simulator, archive_api, plans
from jetstream_pipeline_tests.reference import reference
from jetstream_pipeline_tests.simulator.archive_client import ARCHIVE, ArchiveClient
from jetstream_pipeline_tests.simulator.conftest import MINUTE_US, NOON_US, Clock, Start
from jetstream_pipeline_tests.simulator.segment_reader import Row, read_block

_COLLECTIONS = [
    "app.bsky.feed.like",
    "app.bsky.graph.block",
    "fm.teal.alpha.feed.play",
    "app.bsky.graph.*",
    "com.whtwnd.*",
]


@pytest.fixture
def simulator(start: Start) -> Simulator:
    return start(**ARCHIVE)


@pytest.fixture
def client(simulator: Simulator) -> ArchiveClient:
    return ArchiveClient(simulator)


def planned(client: ArchiveClient, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """All pages of a plan; the first page's tip is pinned."""
    pages = [client.plan(**wanted)]
    while pages[-1]["plannedThroughSeq"] < pages[-1]["sealedTipSeq"]:
        pinned = {"afterSeq": pages[-1]["plannedThroughSeq"], "beforeSeq": pages[0]["sealedTipSeq"]}
        pages.append(client.plan(**{**wanted, **pinned}))
        assert pages[-1]["plannedThroughSeq"] > pages[-2]["plannedThroughSeq"]
        assert pages[-1]["sealedTipSeq"] == pages[0]["sealedTipSeq"]
    return pages


def fetched(client: ArchiveClient, pages: list[dict[str, Any]]) -> list[Row]:
    """The rows of everything that is named, blocks one by one."""
    rows = []
    for segment in (segment for page in pages for segment in page["segments"]):
        if segment["mode"] == "segment":
            assert "blocks" not in segment
            rows += client.file(segment["name"]).all_rows()
        for part in segment.get("blocks", []):
            for number in range(part["first"], part["last"] + 1):
                rows += read_block(client.block(segment["name"], number).content)
    return rows


def is_wanted(event: SimulatedEvent, wanted: dict[str, Any]) -> bool:
    kinds, dids, collections = (wanted.get(name, []) for name in ("kinds", "dids", "collections"))
    patterns = [one.removesuffix("*") for one in collections]
    return (
        (not kinds or event.kind in kinds)
        and (not dids or event.did in dids)
        and (
            not collections
            or event.collection is None
            or any(
                event.collection.startswith(one) if one.endswith(".") else event.collection == one for one in patterns
            )
        )
        and wanted.get("afterSeq", 0) < event.seq <= wanted.get("beforeSeq", 1 << 62)
    )


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_plan_never_names_too_little(simulator: Simulator, data: st.DataObject) -> None:
    events = list(simulator.archived_events(0, NOON_US))
    seqs = st.sampled_from(events).map(lambda event: event.seq)
    wanted: dict[str, Any] = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "kinds": st.lists(st.sampled_from(["identity", "account", "sync"])).map(lambda some: ["commit", *some]),
                "dids": st.lists(st.sampled_from(events).map(lambda event: event.did), max_size=5),
                "collections": st.lists(st.sampled_from(_COLLECTIONS), max_size=3),
                "afterSeq": seqs,
            },
        )
    )
    if "afterSeq" in wanted and data.draw(st.booleans()):
        wanted["beforeSeq"] = wanted["afterSeq"] + data.draw(st.integers(1, 5_000))
    wanted["kinds"] = list(dict.fromkeys(wanted.get("kinds", [])))
    client = ArchiveClient(simulator)
    rows = {row.seq for row in fetched(client, planned(client, wanted))}
    assert {event.seq for event in events if is_wanted(event, wanted)} <= rows


def test_narrow_wishes_name_little(simulator: Simulator, client: ArchiveClient) -> None:
    events = list(simulator.archived_events(0, NOON_US))
    one = events[1234]
    pages = planned(client, {"dids": [one.did], "afterSeq": one.seq - 1, "beforeSeq": one.seq})
    assert [page["stats"]["blocksMatched"] for page in pages] == [1]
    assert one.seq in {row.seq for row in fetched(client, pages)}
    assert client.plan(dids=["did:plc:nobodynobodynobodynobody"])["segments"] == []
    assert client.plan(kinds=["sync"])["segments"] == []


@pytest.mark.parametrize("largest", [1, 2, 7])
@pytest.mark.parametrize(
    "wanted", [{}, {"kinds": ["identity"]}, {"collections": ["com.whtwnd.*"], "kinds": ["commit"]}]
)
def test_pages_together_are_the_plan(start: Start, client: ArchiveClient, largest: int, wanted: dict[str, Any]) -> None:
    paged = planned(ArchiveClient(start(**ARCHIVE, plan_entries=largest)), wanted)
    whole = client.plan(**wanted)
    assert all(page["stats"]["entries"] <= largest for page in paged)
    assert len(paged) >= whole["stats"]["entries"] / largest
    assert units(paged) == units([whole])
    assert sum(page["stats"]["blocksMatched"] for page in paged) == whole["stats"]["blocksMatched"]


def units(pages: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (segment["name"], segment["checksum"], part.get("first"), part.get("last"))
        for page in pages
        for segment in page["segments"]
        for part in segment.get("blocks", [{}])
    ]


def test_a_pinned_snapshot_does_not_grow(start: Start, clock: Clock) -> None:
    client = ArchiveClient(start(**ARCHIVE, plan_entries=2))
    first = client.plan()
    clock.now_us += 10 * MINUTE_US
    assert client.plan()["sealedTipSeq"] > first["sealedTipSeq"]
    last = client.plan(afterSeq=first["plannedThroughSeq"], beforeSeq=first["sealedTipSeq"])
    assert last["plannedThroughSeq"] == last["sealedTipSeq"] == first["sealedTipSeq"]
    assert [segment["index"] for page in (first, last) for segment in page["segments"]] == [0, 1, 2]


def test_past_the_tip_is_nothing(simulator: Simulator, client: ArchiveClient) -> None:
    tip = client.listed()[-1]["maxSeq"]
    page = client.plan(afterSeq=tip + 10**6)
    recorded = json.loads(reference("server/planSnapshot_after_tip.json").read_bytes())
    assert page == {
        "plannedThroughSeq": tip,
        "sealedTipSeq": tip,
        "segments": [],
        "stats": {**recorded["stats"], "segmentsExamined": 3},
    }
    assert list(page) == list(recorded)


def test_an_archive_in_which_nothing_is_sealed_has_an_empty_plan(start: Start, clock: Clock) -> None:
    clock.now_us = NOON_US - 5 * MINUTE_US
    client = ArchiveClient(start(**ARCHIVE))
    assert client.listed() == []
    page = client.plan()
    assert (page["plannedThroughSeq"], page["sealedTipSeq"], page["segments"]) == (0, 0, [])


def shape(value: Any) -> Any:
    """Keys, in order, and types."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return sorted({json.dumps(shape(item)) for item in value})
    return type(value).__name__


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("all", {}), ("block", {"kinds": ["commit"], "collections": ["com.whtwnd.*"]})],
)
def test_plans_have_the_shape_of_the_real_ones(client: ArchiveClient, name: str, wanted: dict[str, Any]) -> None:
    recorded = json.loads(reference(f"server/planSnapshot_{name}.json").read_bytes())
    assert shape(client.plan(**wanted)) == shape(recorded)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("listSegments", {"limit": 1000}),
        ("listSegments_page1", {"limit": 2}),
        ("listSegments_page2", {"limit": 1, "cursor": "1"}),
    ],
)
def test_lists_have_the_shape_of_the_real_ones(client: ArchiveClient, name: str, parameters: dict[str, Any]) -> None:
    recorded = json.loads(reference(f"server/{name}.json").read_bytes())
    assert shape(client.get("listSegments", **parameters).json()) == shape(recorded)


def test_lists_have_pages(client: ArchiveClient) -> None:
    assert client.listed(limit=1) == client.listed(limit=2) == client.listed()
    assert client.get("listSegments", cursor="7").json() == {"segments": []}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"kinds": ["post"]}, "invalid kind: post"),
        ({"kinds": ["commit"] * 5}, "too many kinds"),
        ({"dids": ["x"]}, "invalid DID: x"),
        ({"dids": ["did:plc:a"] * 10_001}, "too many DIDs"),
        ({"collections": ["x"]}, "invalid collection: x"),
        ({"collections": ["x.*"]}, "invalid collection wildcard: x.*"),
        ({"collections": ["a.b.c"] * 101}, "too many collections"),
        (
            {"collections": ["a.b.c"], "kinds": ["account"]},
            "collections filter can never apply: kinds excludes commit",
        ),
        ({"afterSeq": -1}, "afterSeq must be >= 0"),
        ({"beforeSeq": -1}, "beforeSeq must be >= 0"),
        ({"afterSeq": 5, "beforeSeq": 5}, "beforeSeq must be greater than afterSeq"),
        ({"afterSeq": "5"}, "invalid request body"),
        ([], "invalid request body"),
    ],
)
def test_wishes_that_are_refused(client: ArchiveClient, wanted: Any, message: str) -> None:
    response = client.post("planSnapshot", json=wanted)
    assert (response.status_code, response.json()) == (400, {"error": "InvalidRequest", "message": message})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_a_body_that_is_no_json_is_refused(client: ArchiveClient, body: bytes) -> None:
    response = client.post("planSnapshot", content=body, headers={"Content-Length": str(len(body))})
    assert (response.status_code, response.json()["message"]) == (400, "invalid request body")


def test_nothing_and_null_ask_for_everything(client: ArchiveClient) -> None:
    everything = {"kinds": [], "dids": None, "collections": [], "afterSeq": 0, "unknown": 1}
    assert client.plan(**everything) == client.plan()


def test_answers_that_take_long_end_early(client: ArchiveClient, monkeypatch: pytest.MonkeyPatch) -> None:
    wishes: list[dict[str, Any]] = [{}, {"dids": ["did:plc:nobodynobodynobodynobody"]}]
    whole, listed = [client.plan(**wanted) for wanted in wishes], client.listed()
    monkeypatch.setattr(plans, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(archive_api, "PATIENCE_SECONDS", 0.0)
    assert len(client.get("listSegments").json()["segments"]) == 1
    assert client.listed() == listed
    for wanted, expected in zip(wishes, whole, strict=True):
        pages = planned(client, wanted)
        assert len(pages) == 3
        assert units(pages) == units([expected])
