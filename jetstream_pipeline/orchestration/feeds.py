"""The queues that a stream's windows feed, as assets. How an event enters a queue once is `feeding`'s."""

import dagster as dg

from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import feed_window
from jetstream_pipeline.orchestration.consumers import consumer_asset
from jetstream_pipeline.orchestration.metadata import Metadata
from jetstream_pipeline.storage.queue.queue import location
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window


def feed_asset(stream: Stream, feed: Feed, events: dg.AssetKey) -> dg.AssetsDefinition:
    """`<stream>/<queue>`: each partition is one window's chosen events, added to the queue once."""

    def build(window: Window) -> Metadata:
        fed = feed_window(stream.name, window, feed, stream.data)
        return {
            "dagster/partition_row_count": dg.MetadataValue.int(fed.chosen),
            "added": dg.MetadataValue.int(fed.added),
            "added_before": dg.MetadataValue.int(fed.known),
            "seconds": dg.MetadataValue.float(round(fed.seconds, 3)),
            "queue": dg.MetadataValue.path(location(feed.queue, stream.data.root)),
        }

    return consumer_asset(
        stream,
        feed.queue,
        events,
        build,
        description=f"The events that each window of {stream.name} adds to the queue {feed.queue}, each of them once.",
        kinds={"postgresql" if stream.settings.queues else "duckdb", "queue"},
        metadata={"collections": ", ".join(feed.subscription.collections) or "all"},
    )
