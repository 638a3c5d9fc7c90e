"""What the benchmarks share: measurements in processes of their own, taken in turns, and their medians."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

_MB = 1e6
_DESCRIBED = ("pyarrow", "duckdb", "websockets", "msgspec", "zstandard")


@dataclass(frozen=True)
class Measured:
    """One pass: what was done in how many seconds of the clock and of the processors, and at what cost of memory."""

    events: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    bytes_taken: int = 0
    bytes_on_disk: int = 0


@dataclass
class Passes:
    """The passes of one measurement, and what stands beside its figures."""

    name: str
    passes: list[Measured] = field(default_factory=list)

    def median(self, of: Callable[[Measured], float]) -> float:
        return statistics.median(map(of, self.passes))

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.median(lambda one: one.events / one.seconds)


@contextmanager
def measuring() -> Iterator[Callable[[int, int, int], Measured]]:
    """Measures the body; what is yielded makes the figures, given events, bytes taken and bytes on disk, after it."""
    before, cpu = time.perf_counter(), time.process_time()
    ended: list[tuple[float, float]] = []
    yield lambda events, taken=0, disk=0: Measured(
        events, ended[0][0] - before, ended[0][1] - cpu, peak_bytes(), taken, disk
    )
    ended.append((time.perf_counter(), time.process_time()))


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tell(measured: Measured) -> None:
    """Hand a measurement to the process that asked for it."""
    print(json.dumps(asdict(measured)), flush=True)


def in_process(script: str | Path, arguments: Iterable[object]) -> Measured:
    """What `tell` tells in a process of its own."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def in_turns(measurements: Mapping[str, Callable[[], Measured]], passes: int) -> dict[str, Passes]:
    """Every measurement so many times, each time one after the other: what the machine does besides hits all alike."""
    results = {name: Passes(name) for name in measurements}
    for _ in range(passes):
        for name, measure in measurements.items():
            results[name].passes.append(measure())
    return results


def show(title: str, results: Sequence[Passes], base: str) -> None:
    """A table of medians, with ratios to the rate of `base`."""
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    table.add_column("measured")
    columns = ("events/s", "MB/s", "CPU µs/event", "peak MB", "bytes/event on disk", f"ratio to {base}")
    for column in columns:
        table.add_column(column, justify="right")
    (reference,) = (one for one in results if one.name == base)
    for one in results:
        on_disk = one.median(lambda measured: measured.bytes_on_disk / measured.events)
        table.add_row(
            one.name,
            f"{one.rate:,.0f}",
            f"{one.median(lambda measured: measured.bytes_taken / measured.seconds) / _MB:,.0f}",
            f"{one.median(lambda measured: measured.cpu_seconds / measured.events) * 1e6:.2f}",
            f"{one.median(lambda measured: measured.peak_bytes) / _MB:,.0f}",
            f"{on_disk:.1f}" if on_disk else "",
            f"{one.rate / reference.rate:.2f}",
        )
    console().print(table)


def console() -> Console:
    """Tables are not to be broken where nobody looks at them."""
    return Console(width=None if sys.stdout.isatty() else 200)


def machine() -> str:
    """What the figures were measured on."""
    name = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{library} {version(library)}" for library in _DESCRIBED)
    return (
        f"{name}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {libraries}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
