"""The hourly report of a stream as an asset. What it shows is `report`'s to say."""

import dagster as dg

from jetstream_pipeline.orchestration.consumers import consumer_asset
from jetstream_pipeline.orchestration.metadata import Metadata
from jetstream_pipeline.report.build import build_report
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

REPORT = "hourly_report"


def report_asset(stream: Stream, events: dg.AssetKey) -> dg.AssetsDefinition:
    """`<stream>/hourly_report`: each partition is one window's report, shown with its pictures in the UI."""

    def build(window: Window) -> Metadata:
        report = build_report(stream.name, window, stream.data)
        return {
            "report": dg.MetadataValue.md(report.markdown(report.picture_uri())),
            "folder": dg.MetadataValue.path(report.folder),
            "seconds": dg.MetadataValue.float(round(report.seconds, 3)),
        }

    return consumer_asset(
        stream,
        REPORT,
        events,
        build,
        description="Each hour in pictures: events a minute by collection, languages, hashtags, linked sites.",
        kinds={"markdown", "matplotlib"},
    )
