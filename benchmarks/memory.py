"""The most memory that a replay takes, of a short window and of a long one: it is to be the same.

python benchmarks/memory.py [--events 1000000 9000000]
"""

import argparse

import replay
from side_by_side import Measured, in_process, machine

BOUND_MB = 600
BOUND_GROWTH = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 9_000_000])
    print(machine())
    measured = [of_window(events) for events in parser.parse_args().events]
    for one in measured:
        print(f"{one.events:,} events: {one.peak_bytes / 1e6:,.0f} MB, {one.events / one.seconds:,.0f} events/s")
    peaks = [one.peak_bytes for one in measured]
    in_order = max(peaks) < BOUND_MB * 1e6 and max(peaks) <= BOUND_GROWTH * min(peaks)
    print(f"largest to smallest {max(peaks) / min(peaks):.2f}: {'ok' if in_order else 'TOO MUCH'}")
    raise SystemExit(not in_order)


def of_window(events: int) -> Measured:
    with replay.serving([f"--events={events}"]) as described:
        return in_process(replay.__file__, ["--measure=wire_to_parquet", f"--address={described['address']}"])


if __name__ == "__main__":
    main()
