"""What is declared is loaded, and what is wrong in it is told in one line with its file, its line and its field."""

import re
from pathlib import Path

import dagster as dg
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline_tests.orchestration.projects import TYPE, Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("JETSTREAM_DATA_DIR", str(tmp_path / "data"))
    return Project(tmp_path)


def refusal(project: Project) -> str:
    with pytest.raises(InvalidInput) as refused:
        project.load()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def jobs(definitions: dg.Definitions) -> set[str]:
    return {job.name for job in definitions.jobs or ()}


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("name: Bad", "name", "'Bad' cannot name a stream"),
        ("name: 7", "name", "valid string"),
        ("name:", "name", "valid string"),
        ("name: ad_hoc_mine", "name", "names that begin with ad_hoc_ are those of replays from the launchpad"),
        ("name: ad_hoc", "name", "names that begin with ad_hoc_ are those of replays from the launchpad"),
        ("name: '{{ nope }}'", "name", "'nope' is undefined"),
        ("name: '{{'", "name", "unexpected 'end of template'"),
        ("colections: []", "colections", "not permitted"),
        ("collections: app.bsky.feed.post", "collections", "valid list"),
        ("collections: [posts]", "collections[0]", "'posts' is not a collection"),
        ("collections: [app.bsky.feed.post, 7]", "collections[1]", "valid string"),
        ("collections: {a: b}", "collections", "valid array"),
        (f"collections: [{'app.bsky.feed.post, ' * 101}]", "collections", "101 collections are too many"),
        ("dids: [did:plc:a, alice]", "dids[1]", "'alice' is not a DID"),
        ("dids: 7", "dids", "valid array"),
        ("dids:", "dids", "valid array"),
        (f"dids: [{'did:plc:a, ' * 10_001}]", "dids", "10001 DIDs are too many"),
        ("dids_file: 7", "dids_file", "valid string"),
        ("dids_file: nowhere.txt", "dids_file", "cannot read DIDs from .*/mine/nowhere.txt: No such file"),
        ("dids_file: defs.yaml", "dids_file", "/mine/defs.yaml: 'type: .*' is not a DID"),
        ("handles: [no handle]", "handles[0]", "'no handle' is not a handle"),
        ("handles: [alice.test]", "handles", "'alice.test' is not a handle: .test is reserved"),
        ("handles: bsky.app", "handles", "valid list"),
        ("hosts: [us-east, 'http://a']", "hosts[1]", "'http://a' is not a host"),
        ("hosts: us-east", "hosts", "valid list"),
        ("wire: v3", "wire", "'v3' is not a wire; write v1, v2"),
        ("wire: 2", "wire", "valid string"),
        ("compression: perhaps", "compression", "valid boolean"),
        ("compression: 7", "compression", "valid boolean"),
        ("start: soon", "start", "'soon' is not a time"),
        ("start: 2026-01-31-14:30", "start", "'2026-01-31-14:30' is not on the hour"),
        ("start: 7", "start", "valid string"),
        ("tables: [posts, postz]", "tables[1]", "'postz' is not a table; write posts, likes"),
        ("tables: posts", "tables", "valid list"),
        ("report: maybe", "report", "valid boolean"),
        ("windows_per_run: 0", "windows_per_run", "0 is not between 1 and 744"),
        ("windows_per_run: 745", "windows_per_run", "745 is not between 1 and 744"),
        ("windows_per_run: many", "windows_per_run", "valid integer"),
        ("windows_per_run: 1.5", "windows_per_run", "valid integer"),
        ("windows_per_run: true", "windows_per_run", "write a number"),
        ("windows_per_run: '{{ 9999 }}'", "windows_per_run", "9999 is not between 1 and 744"),
        ("owners: [nobody]", "owners[0]", "'nobody' is no owner; write an e-mail address, or team:name"),
        ("owners: ['@']", "owners[0]", "'@' is no owner"),
        ("owners: ['team:']", "owners[0]", "'team:' is no owner"),
        ("owners: me@example.org", "owners", "valid list"),
        ("queues: mine", "queues", "write a list of queues"),
        ("queues: [mine]", "queues[0]", "should be an object"),
        ("queues: [{}]", "queues[0].name", "required"),
        ("queues: [{name: q}, {name: q}]", "queues", "'q' stands there twice"),
        ("queues: [{name: Q}]", "queues[0].name", "'Q' cannot name a queue"),
        ("queues: [{name: events}]", "queues[0].name", "'events' is the name of another asset"),
        ("queues: [{name: incomplete}]", "queues[0].name", "'incomplete' is the name of another"),
        ("queues: [{name: posts}]", "queues[0].name", "'posts' is the name of another"),
        ("queues: [{name: hourly_report}]", "queues[0].name", "'hourly_report' is the name of another"),
        ("queues: [{name: tables}]", "queues[0].name", "'tables' is the name of another"),
        ("queues: [{name: verification}]", "queues[0].name", "'verification' is the name of another"),
        ("queues: [{name: ad_hoc_q}]", "queues[0].name", "names that begin with ad_hoc_"),
        ("queues: [{name: q, operation: [create]}]", "queues[0].operation", "not permitted"),
        ("queues: [{name: q, operations: [create, make]}]", "queues[0].operations[1]", "'make' is not an operation"),
        ("queues: [{name: q, kinds: [sync]}]", "queues[0].kinds[0]", "'sync' is not a kind of event"),
        ("queues: [{name: q, dids: [x]}]", "queues[0].dids[0]", "'x' is not a DID"),
        ("queues: [{name: q, collections: [x]}]", "queues[0].collections[0]", "'x' is not a collection"),
        ("queues: [{name: q, collections: x}]", "queues: collections", "valid list"),
    ],
)
def test_a_wrong_value_is_told_with_file_line_and_field(project: Project, line: str, field: str, words: str) -> None:
    before = ["report: true"] if line.startswith("name:") else ["name: mine"]
    path = project.declare(*before, line)
    said = refusal(project)
    assert said.startswith(f"{path}:4: {field}: ")
    assert re.search(words, said)
    assert said.count(str(path)) == (2 if field == "dids_file" and "defs.yaml" in line else 1)


def test_all_that_is_wrong_is_told_at_once(project: Project) -> None:
    path = project.declare("name: Bad", "wire: v3", "queues:", "  - name: q", "    kinds: [sync]")
    places = (f"{path}:3: name: ", f"; {path}:4: wire: ", f"; {path}:7: queues[0].kinds[0]: ")
    said = refusal(project)
    assert all(place in said for place in places)
    assert said.count(str(path)) == len(places)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " declares nothing"),
        ("# a remark\n", " declares nothing"),
        ("hello\n", ":1: Input should be an object"),
        ("attributes:\n  name: mine\n", ":1: type: Field required"),
        (f"type: {TYPE}\n", ":1: name: Field required"),
        (f"type: {TYPE}\nattributes: {{}}\n", ":2: name: Field required"),
        (f"type: {TYPE}\nattributes:\n  - name\n", ":2: attributes: Input should be an object"),
        (f"type: {TYPE}\natributes:\n  name: mine\n", ":2: atributes: Extra inputs are not permitted"),
        (f"type: {TYPE}\nattributes:\n  name: mine\n  name: other\n", ":4: name: it stands there twice"),
        (f"type: {TYPE}s\nattributes:\n  name: mine\n", ":1: type: Module .* has no attribute `StreamComponents`"),
        ("type: nope.StreamComponent\nattributes:\n  name: mine\n", ":1: type: Module `nope` not found"),
        (f"type: {TYPE}\nattributes:\n  name: mine\n bad: [\n", " is not YAML: .*line 4"),
        ("\x00", " is not YAML"),
    ],
)
def test_a_file_that_is_no_declaration_is_told(project: Project, text: str, words: str) -> None:
    path = project.write(text)
    assert re.match(f"{re.escape(str(path))}{words}", refusal(project))


@pytest.mark.parametrize("name", ["mine/defs.yml", "mine/stream.yaml", "mine.yaml"])
def test_a_file_with_another_name_is_told(project: Project, name: str) -> None:
    path = project.declare("name: mine", name=name)
    assert refusal(project).startswith(f"{path}: the file of a stream is called defs.yaml")


def test_other_files_of_yaml_may_lie_there(project: Project) -> None:
    project.declare("name: mine")
    project.write("a: 1\n", "mine/notes.yaml")
    assert "mine_events" in jobs(project.load())


def test_a_setting_that_is_wrong_is_told_as_such(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("name: mine")
    monkeypatch.setenv("JETSTREAM_HOSTS", "http://a")
    assert refusal(project).startswith("JETSTREAM_HOSTS: 'http://a' is not a host")


def test_an_error_of_ours_is_no_fault_of_the_declaration(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("name: mine")

    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("jetstream_pipeline.orchestration.component.stream_definitions", fail)
    with pytest.raises(Exception, match="building definitions") as failed:
        project.load()
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("together", [True, False])
def test_a_second_stream_is_a_second_folder_or_a_second_part_of_a_file(project: Project, together: bool) -> None:
    first = project.declare("name: first", "collections: [app.bsky.feed.post]")
    second = project.declare("name: second", "collections: [app.bsky.graph.follow]", name="other/defs.yaml")
    if together:
        first.write_text(f"{first.read_text()}---\n{second.read_text()}")
        second.unlink()
    definitions = project.load()
    assert {f"{name}_events" for name in ("first", "second")} <= jobs(definitions)
    keys = definitions.resolve_asset_graph().get_all_asset_keys()
    assert {dg.AssetKey(["first", "posts"]), dg.AssetKey(["second", "follows"])} <= set(keys)
    assert dg.AssetKey(["first", "follows"]) not in keys


def test_what_is_wrong_in_the_second_part_of_a_file_is_told_with_its_line(project: Project) -> None:
    first = project.declare("name: first")
    second = project.declare("name: second", "report: maybe", name="other/defs.yaml")
    first.write_text(f"{first.read_text()}---\n{second.read_text()}")
    second.unlink()
    assert refusal(project).startswith(f"{first}:8: report: ")


@pytest.mark.parametrize(
    ("first", "second", "job"),
    [
        (["name: mine"], ["name: mine"], "mine_events"),
        (["name: a", "queues: [{name: b_events}]"], ["name: a_b"], "a_b_events"),
    ],
)
def test_the_same_name_twice_is_refused(project: Project, first: list[str], second: list[str], job: str) -> None:
    paths = [project.declare(*first), project.declare(*second, name="other/defs.yaml")]
    said = refusal(project)
    assert said.startswith(f"{paths[0]}:3 and {paths[1]}:3: name: both would make a job {job}; rename one")


def test_nothing_declared_is_nothing_loaded(project: Project) -> None:
    assert jobs(project.load()) == set()


def test_a_template_is_checked_when_it_has_become_a_value(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("name: '{{ env.MY_STREAM }}'", "windows_per_run: '{{ 12 * 2 }}'")
    monkeypatch.setenv("MY_STREAM", "mine")
    assert "mine_events" in jobs(project.load())
    monkeypatch.setenv("MY_STREAM", "Not Mine")
    assert "name: 'Not Mine' cannot name a stream" in refusal(project)
