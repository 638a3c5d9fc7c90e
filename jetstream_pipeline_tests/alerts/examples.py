"""Alerts for tests that do not care what happened."""

from jetstream_pipeline.alerts.alert import Alert
from jetstream_pipeline_tests.windows import HOUR

SECRET = "T0P/s3cret"
PASSWORD = "hunter2pass"


def alert(subject: str = "an hour is truncated", **changes: object) -> Alert:
    fields = {
        "subject": subject,
        "text": "2026-07-04 14:00–15:00 UTC is truncated",
        "stream": "network",
        "window": HOUR.key,
        "state": "truncated",
        "run_id": "0f0f",
        "url": "http://127.0.0.1:3000/runs/0f0f",
        "time": HOUR.end,
    }
    return Alert.model_validate(fields | changes)
