"""What lies in deploy/ is sound, as far as can be seen without a cluster: files, commands, variables, settings."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher.base import RunLauncher
from dagster._core.workspace.config_schema import process_workspace_config

from jetstream_pipeline.settings import described

DEPLOY = Path(__file__).parents[1] / "deploy"
CELERY, KUBERNETES = DEPLOY / "celery", DEPLOY / "kubernetes"
FOLDERS = [CELERY, KUBERNETES]
ALONE = Path(__file__).parents[1] / "jetstream_pipeline" / "orchestration" / "dagster.yaml"
OTHERS = {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"),
    *("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
    *("DAGSTER_HOME", "DAGSTER_CURRENT_IMAGE", "DAGSTER_CODE_SERVER_HOST", "DAGSTER_CODE_SERVER_PORT"),
    *(f"DAGSTER_POSTGRES_{name}" for name in ("HOST", "PORT", "USER", "PASSWORD", "DB")),
    *("POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "PGDATA"),
}
SECRET = re.compile("PASSWORD|SECRET|TOKEN|BROKER|BACKEND|ACCESS_KEY")
DIFFERENT = {"storage", "run_launcher", "compute_logs"}
OURS = {"concurrency.runs.max_concurrent_runs", "run_monitoring.start_timeout_seconds"}
"""What a cluster's dagster.yaml may say otherwise than the single machine's."""


def variables(folder: Path) -> dict[str, str]:
    """What `dagster.yaml` wants of the environment."""
    names = re.findall(r"env: (\w+)", (folder / "dagster.yaml").read_text())
    return {name: "5432" if name.endswith("PORT") else "redis://127.0.0.1:1/0" for name in names}


def documents() -> Iterator[Any]:
    for path in sorted(KUBERNETES.glob("*.yaml")):
        yield from (one for one in yaml.safe_load_all(path.read_text()) if "kind" in one)


def containers(document: Any) -> Iterator[Any]:
    if template := document.get("spec", {}).get("template"):
        yield from template["spec"]["containers"]
        yield from template["spec"].get("initContainers", [])


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in flat(one, f"{name}.{key}".lstrip(".")).items()}
    return {name: value}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_clusters_dagster_says_what_the_single_machines_says(folder: Path) -> None:
    alone, cluster = (yaml.safe_load(path.read_text()) for path in (ALONE, folder / "dagster.yaml"))
    told = [
        {name: value for name, value in flat(said).items() if name.split(".")[0] not in DIFFERENT and name not in OURS}
        for said in (alone, cluster)
    ]
    assert told[0] == told[1]
    assert cluster.keys() >= DIFFERENT


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_dagster_takes_the_settings_and_its_launcher_can_be_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_celery", reason="the extra `celery` is not installed")
    pytest.importorskip("dagster_k8s", reason="the extra `kubernetes` is not installed")
    monkeypatch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda **_: None)
    with patch.dict(os.environ, variables(folder)):
        config, _ = dagster_instance_config(str(folder))
        assert config["run_monitoring"]["enabled"]
        data = InstanceRef.from_dir(str(folder)).run_launcher_data
        assert data
        launcher = data.rehydrate(as_type=RunLauncher)  # type: ignore[type-abstract]
    assert launcher.supports_check_run_worker_health


def test_dagster_stands_on_postgres_with_the_settings(postgres_url: str, tmp_path: Path) -> None:
    from jetstream_pipeline_tests.orchestration.cluster import cluster_variables

    (tmp_path / "dagster.yaml").write_text((CELERY / "dagster.yaml").read_text())
    with patch.dict(os.environ, cluster_variables(postgres_url, "redis://127.0.0.1:1/0")):
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
            instance.event_log_storage.set_concurrency_slots("host", 3)
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as another:
            assert {limit.name: limit.limit for limit in another.event_log_storage.get_pool_limits()} == {"host": 3}
            assert type(another.event_log_storage).__name__ == "PostgresEventLogStorage"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_workspace_names_the_code_server_as_it_is_started(folder: Path) -> None:
    config = yaml.safe_load((folder / "workspace.yaml").read_text())
    with patch.dict(os.environ, {"DAGSTER_CODE_SERVER_HOST": "127.0.0.1", "DAGSTER_CODE_SERVER_PORT": "4000"}):
        assert process_workspace_config(config).success
    (server,) = config["load_from"]
    assert server["grpc_server"]["location_name"] == "jetstream_pipeline"


def test_every_variable_is_one_and_no_secret_has_a_value() -> None:
    known = {name for name, _, _ in described()} | OTHERS
    text = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    named = set(re.findall(r"\b(?:JETSTREAM|DAGSTER|CELERY|AWS|POSTGRES)_[A-Z_]*[A-Z]\b", text))
    assert named - known - {"DAGSTER_POSTGRES"} == set()
    for path in (CELERY / "environment.example", KUBERNETES / "settings.env"):
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            assert not value or line.startswith("#") or not SECRET.search(name), line
    for document in documents():
        for container in containers(document):
            assert [one for one in container.get("env", ()) if SECRET.search(one["name"]) and "value" in one] == []


def test_what_dagsters_settings_refer_to_is_in_the_environment_that_is_shown() -> None:
    shown = {line.partition("=")[0] for line in (CELERY / "environment.example").read_text().splitlines()}
    wanted = variables(CELERY).keys() | set(re.findall(r"env: (\w+)", (CELERY / "workspace.yaml").read_text()))
    assert wanted | {"DAGSTER_HOME", "JETSTREAM_LAKE", "JETSTREAM_DATA_DIR"} <= shown
    settings = {line.partition("=")[0] for line in (KUBERNETES / "settings.env").read_text().splitlines()}
    assert variables(KUBERNETES).keys() - settings == {"DAGSTER_POSTGRES_PASSWORD"}


def test_the_manifests_are_kubernetes_own() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for document in documents():
        if document["kind"] != "Kustomization":
            validate.validate(document, "1.29", strict=True)
    assert {document["kind"] for document in documents()} >= {"Deployment", "StatefulSet", "Role", "Service"}


def test_a_run_is_a_job_of_kubernetes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the launcher is told of resources, volumes and rights."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    job = pytest.importorskip("dagster_k8s.job", reason="the extra `kubernetes` is not installed")
    from dagster_k8s.container_context import K8sContainerContext

    monkeypatch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda **_: None)
    with patch.dict(os.environ, variables(KUBERNETES)):
        data = InstanceRef.from_dir(str(KUBERNETES)).run_launcher_data
        assert data
        launcher: Any = data.rehydrate(as_type=RunLauncher)  # type: ignore[type-abstract]
    context = K8sContainerContext.create_for_run(dg.DagsterRun("job"), launcher, include_run_tags=True)
    made = job.construct_dagster_k8s_job(
        context.get_k8s_job_config("image:1", launcher),
        ["dagster"],
        "run",
        user_defined_k8s_config=context.run_k8s_config,
    )
    from kubernetes.client import ApiClient

    document = ApiClient().sanitize_for_serialization(made)
    validate.validate(document, "1.29", strict=True)
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"secretRef": {"name": "jetstream-secrets"}} in container["envFrom"]
    assert {"configMapRef": {"name": "jetstream-settings"}} in container["envFrom"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/data"]
    assert (pod["serviceAccountName"], pod["securityContext"]["runAsNonRoot"]) == ("dagster", True)
    assert container["resources"]["limits"] == {"memory": "4Gi"}


def test_what_manifests_refer_to_is_there_and_pinned() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == sorted(
        path.name
        for path in KUBERNETES.glob("*.yaml")
        if path.name not in ("kustomization.yaml", "dagster.yaml", "workspace.yaml")
    )
    maps = {one["name"] for one in kustomization["configMapGenerator"]}
    launcher = yaml.safe_load((KUBERNETES / "dagster.yaml").read_text())["run_launcher"]["config"]
    assert {launcher["instance_config_map"], *launcher["env_config_maps"]} == maps
    assert launcher["job_namespace"] == kustomization["namespace"]
    images, text = set(), "".join(map(str, documents()))
    for document in documents():
        for container in containers(document):
            images.add(container["image"])
            assert {"requests", "limits"} <= container["resources"].keys()
    assert all(re.fullmatch(r"\S+:\d+\.\d+\S*", image) for image in images)
    ours = {image for image in images if "jetstream" in image}
    assert len(ours) == 1
    assert f"'value': '{ours.pop()}'" in text
    services = {one["metadata"]["name"]: one for one in documents() if one["kind"] == "Service"}
    for name, service in services.items():
        (selected,) = [
            one
            for one in documents()
            if one["kind"] in ("Deployment", "StatefulSet")
            and one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
        ]
        assert selected["metadata"]["name"] == name
    server = yaml.safe_load((KUBERNETES / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert server["port"] in [port["port"] for port in services[server["host"]]["spec"]["ports"]]


def test_the_containers_file_copies_what_is_there_and_installs_extras_that_there_are() -> None:
    import tomllib

    text = (KUBERNETES / "Containerfile").read_text()
    root = DEPLOY.parent
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (root / name).exists()] == []
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            for named in re.findall(r"'\.\[([\w,]+)\]'", path.read_text()):
                assert set(named.split(",")) <= extras.keys(), path


def programs() -> dict[str, click.Command]:
    """The programs of the environment whose options can be looked up."""
    from celery.bin.celery import celery
    from dagster._cli import cli
    from dagster._daemon.cli import cli as daemon
    from dagster_webserver.cli import dagster_webserver

    from jetstream_pipeline.cli.main import cli as ours

    return {
        "celery": celery,
        "dagster": cli,
        "dagster-daemon": daemon,
        "dagster-webserver": dagster_webserver,
        "jetstream-pipeline": ours,
    }


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of units, manifests, the container's file and the pages: where it stands, and its words."""
    for path in sorted(CELERY.glob("systemd/*.service")):
        unit = ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read(path)
        yield path.name, shlex.split(unit["Service"]["ExecStart"])
    for document in documents():
        for container in containers(document):
            if container.get("args"):
                yield container["name"], container["args"]
            for probe in ("startupProbe", "livenessProbe"):
                if found := container.get(probe, {}).get("exec"):
                    yield container["name"], found["command"]
    text = (KUBERNETES / "Containerfile").read_text()
    yield from (("Containerfile", words.split()) for words in re.findall(r"&& (jetstream-pipeline .*)", text))
    yield "Containerfile", json.loads(re.findall(r"^CMD (.*)", text, re.MULTILINE)[0])
    for path in DEPLOY.rglob("README.md"):
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line)
                starts = [place for place, word in enumerate(words) if Path(word).name in programs()]
                if starts and words[0] not in ("sudo", "docker"):
                    yield path.name, words[starts[0] :]


def test_every_command_has_options_that_there_are() -> None:
    pytest.importorskip("celery", reason="the extra `celery` is not installed")
    known, seen = programs(), set()
    for place, words in commands():
        name = Path(words[0]).name
        if name not in known:
            assert words[0] == "sh", (place, words)
            continue
        seen.add(name)
        command: click.Command = known[name]
        takes = {option for one in command.params for option in one.opts}
        for word in words[1:]:
            inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
            if inner is not None:
                command = inner
                takes |= {option for one in command.params for option in one.opts} | {"--help", "--version"}
            elif word.startswith("-"):
                assert word.partition("=")[0] in takes | {"--help", "--version"}, (place, words, word)
    assert seen == known.keys()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    try:
        subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    for path in CELERY.glob("systemd/*.service"):
        # The programs are not where they are on a machine of the cluster.
        text = re.sub(r"/opt/jetstream/\.venv/bin/\S+", "/bin/true", path.read_text())
        name = path.name.replace("@.", "@1.")
        (tmp_path / name).write_text(text.replace("User=jetstream", f"User={os.getuid()}"))
        told = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
        )
        assert [line for line in told.stderr.splitlines() if name in line] == []
