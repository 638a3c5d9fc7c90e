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
        ("colections: []", "colections", "not permitted"),
        ("collections: app.bsky.feed.post", "collections", "valid list"),
        ("collections: [posts]", "collections[0]", "'posts' is not a collection"),
        ("collections: [app.bsky.feed.post, 7]", "collections[1]", "valid string"),
        ("collections: {a: b}", "collections", "valid list"),
        (f"collections: [{'app.bsky.feed.post, ' * 101}]", "collections", "101 collections are too many"),
        ("dids: [did:plc:a, alice]", "dids[1]", "'alice' is not a DID"),
        ("dids: 7", "dids", "valid list"),
        ("dids:", "dids", "valid list"),
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
        ("windows_per_run: 0", "windows_per_run", "greater than or equal to 1"),
        ("windows_per_run: 745", "windows_per_run", "less than or equal to 744"),
        ("windows_per_run: many", "windows_per_run", "valid integer"),
        ("windows_per_run: 1.5", "windows_per_run", "valid integer"),
        ("windows_per_run: true", "windows_per_run", "valid integer"),
        ("windows_per_run: '24'", "windows_per_run", "valid integer"),
        ("owners: [nobody]", "owners[0]", "'nobody' is no owner; write an e-mail address, or team:name"),
        ("owners: ['@']", "owners[0]", "'@' is no owner"),
        ("owners: ['team:']", "owners[0]", "'team:' is no owner"),
        ("owners: me@example.org", "owners", "valid list"),
        ("queues: mine", "queues", "valid list"),
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
        ("queues: [{name: q, collections: x}]", "queues[0].collections", "valid list"),
        (f"queues: [{{name: q, dids: [{'did:plc:a, ' * 10_001}]}}]", "queues", "10001 DIDs are too many"),
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
        (f"type: {TYPE}\n", ":1: attributes: Field required"),
        (f"type: {TYPE}\nattributes:\n", ":2: attributes: Input should be an object"),
        (f"type: {TYPE}\nattributes: {{}}\n", ":2: name: Field required"),
        (f"type: {TYPE}\nattributes:\n  - name\n", ":2: attributes: Input should be an object"),
        (f"type: {TYPE}\natributes:\n  name: mine\n", ".*:2: atributes: Extra inputs are not permitted"),
        (f"type: {TYPE}\nattributes:\n  name: mine\n  name: other\n", ":4: name: it stands there twice"),
        (f"type: {TYPE}s\nattributes:\n  name: mine\n", ":1: type: .* No module named .*component.StreamComponents"),
        ("type: '{{ env.TYPE }}'\n", ":1: type: .* No module named"),
        (f"type: {TYPE}\nattributes: '{{{{ env.ALL }}}}'\n", ":2: attributes: Input should be an object"),
        ("type: 7\n", ":1: type: Input should be a subclass of Component"),
        ("type: builtins.int\n", ":1: type: Input should be a subclass of Component"),
        ("type: nope.StreamComponent\nattributes:\n  name: mine\n", ":1: type: .* No module named 'nope"),
        (f"type: {TYPE}\nattributes:\n  name: mine\n bad: [\n", " is not YAML: .*line 4"),
        (f"type: {TYPE}\nattributes:\n  ? [a]\n  : b\n", " is not YAML: .*unhashable key"),
        (f"type: {TYPE}\nattributes:\n  name: !!int mine\n", " is not YAML: .*'mine'"),
        (f"type: {TYPE}\nattributes: &all\n  name: *all\n", " is not YAML: .*recursion"),
        ("[" * 10_000, " is not YAML: .*recursion"),
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


def test_a_stream_below_another_declaration_is_told(project: Project) -> None:
    project.declare("name: mine")
    path = project.declare("name: below", name="mine/below/defs.yaml")
    assert refusal(project) == f"{path}:1: Dagster does not look into the folder of a declaration; move it out"


def test_a_stream_below_a_folder_with_a_declaration_of_its_own_is_loaded(project: Project) -> None:
    project.write("type: dagster.DefsFolderComponent\n", "team/defs.yaml")
    project.declare("name: below", name="team/below/defs.yaml")
    assert "below_events" in jobs(project.load())


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
        (["name: '{{ \"mine\" }}'"], ["name: mine"], "mine_events"),
    ],
)
def test_the_same_name_twice_is_refused(project: Project, first: list[str], second: list[str], job: str) -> None:
    paths = [project.declare(*first), project.declare(*second, name="other/defs.yaml")]
    project.declare("name: a_third", name="third/defs.yaml")
    said = refusal(project)
    assert said.startswith(f"{paths[0]}:3 and {paths[1]}:3: name: two jobs would be called {job}; rename a")


def test_nothing_declared_is_nothing_loaded(project: Project) -> None:
    assert jobs(project.load()) == set()


def test_a_template_is_checked_when_it_has_become_a_value(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.declare("name: '{{ env.MY_STREAM }}'", "windows_per_run: '{{ 12 * 2 }}'", "report: '{{ false }}'")
    monkeypatch.setenv("MY_STREAM", "mine")
    loaded = jobs(project.load())
    assert "mine_events" in loaded
    assert "mine_hourly_report" not in loaded
    monkeypatch.setenv("MY_STREAM", "Not Mine")
    said = refusal(project)
    assert str(path) in said
    assert "'Not Mine' cannot name a stream" in said


@pytest.mark.parametrize(
    "line",
    [
        "name: '{{ nope }}'",
        "name: '{{'",
        "windows_per_run: '{{ 9999 }}'",
        "dids_file: '{{ \"nowhere.txt\" }}'",
        "tables: ['{{ \"post\" }}']",
        "queues: '{{ 7 }}'",
        "queues: ['{{ 7 }}']",
    ],
)
def test_what_a_wrong_template_becomes_is_told_with_its_file(project: Project, line: str) -> None:
    path = project.declare(*([] if line.startswith("name:") else ["name: mine"]), line)
    assert str(path) in refusal(project)


def test_beside_a_template_what_is_wrong_is_told_as_ever(project: Project) -> None:
    path = project.declare("name: '{{ env.MY_STREAM }}'", "collections: ['{{ nope }}', posts]")
    said = refusal(project)
    assert said.startswith(f"{path}:4: collections[1]: 'posts' is not a collection")
    assert said.count(str(path)) == 1


def test_a_component_of_the_users_is_left_alone(project: Project) -> None:
    """Whether it stands in a package or beside its declaration."""
    component = """
import dagster as dg

class Mine(dg.Component, dg.Resolvable, dg.Model):
    wire: int

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(jobs=[dg.JobDefinition(name=f"job_{self.wire}", graph_def=dg.GraphDefinition("graph"))])
"""
    project.declare("name: mine")
    (project.package / "components.py").write_text(component)
    project.write("", "beside/__init__.py")
    project.write(component, "beside/component.py")
    project.write(f"type: {project.package.name}.components.Mine\nattributes:\n  wire: 3\n", "other/defs.yaml")
    project.write("type: .component.Mine\nattributes:\n  wire: 4\n", "beside/defs.yaml")
    assert {"mine_events", "job_3", "job_4"} <= jobs(project.load())


def test_what_stands_once_for_several_fields_is_told_where_it_stands(project: Project) -> None:
    path = project.write(f"""type: {TYPE}
attributes:
  name: mine
  queues:
    - &first
      name: first
      kinds: [sync]
    - <<: *first
      name: second
""")
    said = refusal(project)
    assert said.startswith(f"{path}:7: queues[0].kinds[0]: ")
    assert f"; {path}:7: queues[1].kinds[0]: " in said


def test_a_time_is_a_text(project: Project) -> None:
    project.declare("name: mine", "start: 2026-07-01")
    graph = project.load().resolve_asset_graph()
    partitions = graph.get(dg.AssetKey(["mine", "events"])).partitions_def
    assert isinstance(partitions, dg.HourlyPartitionsDefinition)
    assert partitions.get_first_partition_key() == "2026-07-01-00:00"


def test_what_is_hidden_is_passed_over(project: Project) -> None:
    project.write("[", ".kept/mine/defs.yaml")
    assert jobs(project.load()) == set()
