"""What Dagster's pools are called: one for each host, whose limit is how many replays there are from it at once.

Limits are `catch_up`'s to set.
"""

from jetstream_pipeline.jetstream.hosts import Host


def pool_of(host: Host) -> str:
    """The pool of what asks a host first. Hosts whose names differ in punctuation alone share one."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in host.name)
    return f"jetstream_{name}"
