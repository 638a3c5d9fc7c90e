"""A window's figures are what can be counted by hand, whatever strangers wrote."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.report.figures import Figures, Ranked, count_figures
from jetstream_pipeline.simulator import Network
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests import disks
from jetstream_pipeline_tests.report.events import POST, change, event, post
from jetstream_pipeline_tests.windows import HOUR, commit, store

LIKE = "app.bsky.feed.like"


def figures_of(messages: Sequence[bytes], data: DataDirectory) -> Figures:
    store(data, messages)
    return count_figures(data.lake.events_path("network", HOUR), HOUR)


def pairs(ranking: Sequence[Ranked]) -> list[tuple[str, int]]:
    return [(one.name, one.posts) for one in ranking]


def test_totals_tell_operations_and_accounts_apart(data: DataDirectory) -> None:
    figures = figures_of(
        [
            post(account="a"),
            post(account="a"),
            post(account="b"),
            event(account="c", operation="update"),
            event(account="d", operation="delete"),
            event(account="d", operation="delete", collection=LIKE),
            event(account="e", collection=LIKE),
            change("identity", account="f"),
        ],
        data,
    )
    assert (figures.events, figures.accounts) == (8, 6)
    assert (figures.creates, figures.updates, figures.deletes) == (4, 1, 2)
    assert (figures.posts, figures.posting_accounts) == (3, 2)


def test_each_minute_has_its_events_by_collection_and_kind(data: DataDirectory) -> None:
    messages = [event(0), event(0, collection=LIKE), event(59), event(59, operation="delete"), change("account", 3)]
    series = {one.label: one.per_minute for one in figures_of(messages, data).per_minute}
    assert {name: {n: count for n, count in enumerate(counts) if count} for name, counts in series.items()} == {
        POST: {0: 1, 59: 2},
        LIKE: {0: 1},
        "account": {3: 1},
    }
    assert {len(counts) for counts in series.values()} == {60}


def test_six_collections_are_named_and_the_rest_is_one(data: DataDirectory) -> None:
    """A stranger's collection may be named as a kind is, or as the rest."""
    names = ["identity", "other", "c.c", "d.d", "e.e", "f.f", "g.g", "h.h"]
    messages = [event(collection=name) for place, name in enumerate(names) for _ in range(10 - place)]
    series = figures_of([*messages, change("identity"), change("account")], data).per_minute
    assert [(one.kind, one.collection, one.total) for one in series] == [
        *(("commit", name, 10 - place) for place, name in enumerate(names[:6])),
        ("commit", None, 4 + 3),
        ("account", None, 1),
        ("identity", None, 1),
    ]
    assert [one.label for one in series][5:] == ["f.f", "other", "account", "identity"]


def test_what_lies_outside_of_the_window_is_in_no_minute(data: DataDirectory) -> None:
    figures = figures_of([event(0), event(-1), event(60), event(-525_600)], data)
    assert (figures.events, figures.events_elsewhere) == (4, 3)
    assert [one.total for one in figures.per_minute] == [1]


def test_languages_are_counted_by_their_primary_subtag_once_a_post(data: DataDirectory) -> None:
    figures = figures_of(
        [
            post(langs=["en-GB", "en_US", "EN"]),
            post(langs=["de", "en"]),
            post(langs=[]),
            post(langs=["<script>", "x", "englishlanguage", ""]),
            event(record={"langs": "en"}),
        ],
        data,
    )
    assert pairs(figures.languages) == [("en", 2), ("de", 1)]
    assert (figures.languages_other, figures.languages_unstated) == (0, 3)


def test_fifteen_languages_are_named_and_a_post_counts_once_among_the_others(data: DataDirectory) -> None:
    named = [f"a{chr(ord('a') + number)}" for number in range(15)]
    messages = [post(langs=[name]) for name in named for _ in range(2)] + [post(langs=["xx", "yy"]), post(langs=["zz"])]
    figures = figures_of(messages, data)
    assert pairs(figures.languages) == [(name, 2) for name in named]
    assert (figures.languages_other, figures.languages_unstated) == (2, 0)


def test_hashtags_are_one_whatever_their_case_and_count_once_a_post(data: DataDirectory) -> None:
    figures = figures_of(
        [post(tags=["Über", "über", "U\u0308BER"]), post(tags=["ÜBER", "b"]), post(tags=["", "a"]), post(tags=["b"])],
        data,
    )
    assert pairs(figures.hashtags) == [("b", 2), ("über", 2), ("a", 1)]


def test_fifteen_hashtags_are_named(data: DataDirectory) -> None:
    figures = figures_of([post(tags=[f"t{number:02}" for number in range(20)])], data)
    assert [tag for tag, _ in pairs(figures.hashtags)] == [f"t{number:02}" for number in range(15)]


def test_only_a_posts_first_fifty_tags_and_links_are_regarded(data: DataDirectory) -> None:
    more = [post(tags=["late"]), post(links=["https://late.example"])]
    tags, links = [f"t{number}" for number in range(50)], [f"https://{number}.example" for number in range(50)]
    figures = figures_of([post(tags=[*tags, "late"], links=[*links, "https://late.example"]), *more], data)
    assert {one.posts for ranking in (figures.hashtags, figures.domains) for one in ranking} == {1}


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("https://example.com/a?b#c", "example.com"),
        ("HTTP://WWW.Example.COM:8080", "example.com"),
        ("https://user:word@example.com/@other.example", "example.com"),
        ("https://example.com\\@other.example/", "example.com"),
        ("https://example.com?u=https://other.example", "example.com"),
        ("https://example.com./", "example.com"),
        ("http://[2001:db8::1]:80/", "[2001:db8::1]"),
        ("https://bücher.example/", "bücher.example"),
        ("at://did:plc:a/app.bsky.feed.post/k", None),
        ("javascript:alert(1)//https://example.com", None),
        ("https://", None),
        ("example.com", None),
    ],
)
def test_an_addresss_domain(address: str, domain: str | None, data: DataDirectory) -> None:
    figures = figures_of([post(links=[address])], data)
    assert pairs(figures.domains) == ([(domain, 1)] if domain else [])
    assert pairs(figures.addresses) == ([(address, 1)] if domain else [])


def test_texts_and_cards_links_count_once_a_post(data: DataDirectory) -> None:
    a, b = "https://example.com/a", "https://example.com/b"
    figures = figures_of([post(links=[a, b], card=a), post(card=a), post(links=["https://b.example/"])], data)
    assert pairs(figures.domains) == [("example.com", 2), ("b.example", 1)]
    assert pairs(figures.addresses) == [(a, 2), ("https://b.example/", 1), (b, 1)]


def test_a_deleted_or_updated_post_is_no_post(data: DataDirectory) -> None:
    record = {"langs": ["en"], "tags": ["a"]}
    figures = figures_of([event(operation="update", record=record), event(operation="delete")], data)
    assert (figures.posts, figures.languages, figures.hashtags, figures.languages_unstated) == (0, (), (), 0)


def test_whatever_strangers_write_is_counted_and_stays_short(data: DataDirectory) -> None:
    figures = figures_of(
        [
            event(record={"tags": ["a\ud83d", "b\u0000c", "x" * 100_000, 1, None, {"a": "b"}], "langs": [None, 7]}),
            event(record={"tags": [f"t{number}" for number in range(50_000)], "facets": {"features": []}, "embed": 7}),
            event(collection="c" * 100_000),
            post(links=["https://example.com/" + "y" * 100_000]),
        ],
        data,
    )
    assert figures.posts == 3
    assert Figures.model_validate_json(figures.model_dump_json()) == figures
    assert len(figures.model_dump_json()) < 10_000
    assert {"a\ufffd", "b\0c"} <= {tag.name for tag in figures.hashtags}


def test_an_empty_window_has_figures(data: DataDirectory) -> None:
    figures = figures_of([], data)
    assert (figures.events, figures.accounts, figures.posts, figures.posting_accounts) == (0, 0, 0, 0)
    assert figures.per_minute == ()
    assert figures.languages == figures.hashtags == figures.domains == figures.addresses == ()


def test_a_simulated_window_has_the_figures_of_its_enumeration(data: DataDirectory) -> None:
    events = list(Network(rate=2).events(HOUR.start_us, HOUR.end_us))
    figures = figures_of([event.message for event in events], data)
    assert figures.events == len(events)
    assert figures.accounts == len({event.did for event in events})
    assert figures.deletes == sum(event.operation == "delete" for event in events)
    posts = [e for e in events if e.collection == POST and e.operation == "create"]
    assert figures.posting_accounts == len({post.did for post in posts})
    languages: Counter[str] = Counter()
    for written in posts:
        assert written.record_json is not None
        languages.update({lang.split("-")[0] for lang in json.loads(written.record_json).get("langs", ())})
    assert dict(pairs(figures.languages)) == languages
    minutes = Counter((event.time_us - HOUR.start_us) // 60_000_000 for event in events)
    assert [sum(counts) for counts in zip(*(one.per_minute for one in figures.per_minute), strict=True)] == [
        minutes[minute] for minute in range(60)
    ]


def test_a_path_with_wildcards_is_a_path(tmp_path: Path) -> None:
    assert figures_of([post()], DataDirectory(tmp_path / "a[b]*c")).posts == 1


def test_a_damaged_file_is_told_in_one_line(data: DataDirectory) -> None:
    store(data, [post()])
    path = data.lake.events_path("network", HOUR)
    disks.empty(path)
    with pytest.raises(StorageError, match=r"cannot count what .*events\.parquet holds: .+") as caught:
        count_figures(path, HOUR)
    assert "\n" not in str(caught.value)


def test_the_columns_bytes_are_the_files_but_for_its_footer(data: DataDirectory) -> None:
    store(data, [commit(f'{{"text":"{number}"}}', number=number) for number in range(1_000)])
    path = data.lake.events_path("network", HOUR)
    columns = count_figures(path, HOUR).columns
    sizes = {one.column: one.bytes for one in columns}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert set(sizes) == set(pq.read_schema(path).names)
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
    assert sum(sizes.values()) == path.stat().st_size - footer - len(b"PAR1") * 2 - 4
