"""A real Dagster for tests and benchmarks: a home of its own, a daemon whose processes can be killed, backfills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.utils import make_new_backfill_id

from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline.settings import Settings
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.streams.stream import Stream
from jetstream_pipeline.window import Window

EVENTS = dg.AssetKey(["network", "events"])
LOCATION = "jetstream_pipeline"
MODULE = "deployed.py"

_MODULE = """
import json
from pathlib import Path

from jetstream_pipeline.orchestration.build import stream_definitions
from jetstream_pipeline.orchestration.declaration import StreamDeclaration
from jetstream_pipeline.settings import Settings

folder = Path(__file__).parent
declared = json.loads((folder / "stream.json").read_text())
defs = stream_definitions(StreamDeclaration(name="network", **declared).stream(Settings.read(), folder))
"""


@dataclass
class Deployment:
    """A stream `network`, declared by `declared`, in a Dagster of its own below `folder`."""

    folder: Path
    variables: Mapping[str, str]
    declared: Mapping[str, object] = field(default_factory=dict)
    concurrent: int = 4
    _opened: dg.DagsterInstance | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        (self.home / "dagster.yaml").write_text(self.settings())
        (self.home / "stream.json").write_text(json.dumps(self.declared))
        (self.home / MODULE).write_text(_MODULE)
        (self.home / "workspace.yaml").write_text(json.dumps({"load_from": [self.location()]}))
        # Two processes that make Dagster's databases at the same time fail.
        with self.instance() as instance:
            instance.get_runs(limit=1)
            instance.event_log_storage.get_pool_limits()
            instance.all_instigator_state()

    def settings(self) -> str:
        """Its dagster.yaml: the one that is shipped, but for what a test cannot wait for."""
        text = (resources.files("jetstream_pipeline.orchestration") / "dagster.yaml").read_text()
        return changed(text, max_concurrent_runs=(4, self.concurrent), start_timeout_seconds=(120, 40))

    def location(self) -> Mapping[str, object]:
        """Where its definitions are loaded from."""
        return {"python_file": {"relative_path": MODULE, "location_name": LOCATION}}

    @property
    def home(self) -> Path:
        return self.folder / "dagster"

    @property
    def data(self) -> DataDirectory:
        return DataDirectory(self.folder / "data")

    @property
    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("JETSTREAM_")}
        place = {"JETSTREAM_DATA_DIR": str(self.data.root), "DAGSTER_HOME": str(self.home)}
        return ours | dict(self.variables) | place

    def stream(self) -> Stream:
        values = {name.removeprefix("JETSTREAM_").lower(): value for name, value in self.variables.items()}
        settings = Settings.model_validate(values | {"data_dir": self.data.root})
        return StreamDeclaration(name="network", **self.declared).stream(settings, self.home)  # type: ignore[arg-type]

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The one that is open, if one is: to open it costs more than a dozen looks at what is stored."""
        if self._opened:
            yield self._opened
            return
        with dg.DagsterInstance.from_config(str(self.home)) as self._opened:
            try:
                yield self._opened
            finally:
                self._opened = None

    def backfill(self, windows: Sequence[Window]) -> None:
        """Ask for what the UI asks for: the events of these windows, as the asset's policy has it."""
        graph = stream_definitions(self.stream()).get_repository_def().asset_graph
        with self.instance() as instance:
            backfill = PartitionBackfill.from_asset_partitions(
                backfill_id=make_new_backfill_id(),
                asset_graph=graph,
                partition_names=[window.key for window in windows],
                asset_selection=[EVENTS],
                backfill_timestamp=time.time(),
                tags={},
                dynamic_partitions_store=instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
            instance.add_backfill(backfill)

    def launch(self, job: str, config: Mapping[str, object], tags: Mapping[str, str] | None = None) -> None:
        """Launch a job with a configuration, as the launchpad does."""
        program = Path(sys.executable).parent / "dagster"
        command = [program, "job", "launch", "-w", self.home / "workspace.yaml", "-j", job]
        subprocess.run(
            [*map(str, command), "--config-json", json.dumps(config), "--tags", json.dumps(tags or {})],
            env=self.environment,
            cwd=self.home,
            check=True,
            capture_output=True,
        )

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """Dagster's daemon and every process that it begins; they end with the body, at once."""
        with self.program("dagster-daemon", "run", "-w", self.home / "workspace.yaml", log="daemon") as process:
            yield process

    @contextmanager
    def program(self, name: str, *arguments: object, log: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program of the environment's and every process that it begins; they end with the body, at once."""
        command = [Path(sys.executable).parent / name, *arguments]
        with (self.home / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                list(map(str, command)),
                env=self.environment | variables,
                cwd=self.home,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                kill(process)

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        with self.instance() as instance:
            return list(instance.get_runs(dg.RunsFilter(statuses=list(statuses))))

    def materialized(self) -> list[str]:
        """The keys of the windows' materializations, in order, one as often as it was materialized."""
        with self.instance() as instance:
            records = instance.fetch_materializations(EVENTS, limit=5000, ascending=True).records
        return [record.partition_key or "" for record in records]

    def wait(self, until: Callable[[], bool], limit: float, poll: float = 0.5) -> None:
        """Wait for something to come true; AssertionError, with the end of the daemon's log, where it does not."""
        end = time.monotonic() + limit
        with self.instance():
            while not until():
                if time.monotonic() > end:
                    log = (self.home / "daemon.log").read_text(errors="replace")[-3000:]
                    raise AssertionError(f"not so after {limit:.0f} s; the daemon's log ends:\n{log}")
                time.sleep(poll)


def changed(text: str, **values: tuple[object, object]) -> str:
    """A dagster.yaml with other values: what each field has, and what it is to have."""
    for name, (usual, here) in values.items():
        assert f"{name}: {usual}\n" in text
        text = text.replace(f"{name}: {usual}\n", f"{name}: {here}\n")
    return text


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all that it began."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
