"""Whether the environment says what was meant: names that nothing reads, and settings that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from jetstream_pipeline.archive.tokens import is_trusted
from jetstream_pipeline.doctor.case import Case
from jetstream_pipeline.doctor.finding import Finding, ok, problem, warning
from jetstream_pipeline.doctor.words import moment
from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.settings import described

_PREFIX = "JETSTREAM_"


def examine_variables(case: Case) -> Iterator[Finding]:
    found = [*_unknown(case), *_contradictions(case)]
    known = {name for name, _, _ in described()}
    number = sum(name in known for name in case.environment)
    yield from found or [ok(f"{number} of {len(known)} variables are set, and go together", set=number)]


def _unknown(case: Case) -> Iterator[Finding]:
    known = [name.removeprefix(_PREFIX) for name, _, _ in described()]
    for name in sorted(case.environment):
        ours = name.upper().removeprefix(_PREFIX)
        if ours != name.upper() and ours not in known:
            near = get_close_matches(ours, known, 1)
            meant = f"did you mean {_PREFIX}{near[0]}?" if near else "see jetstream-pipeline --help"
            yield warning(f"nothing reads the variable {name}: {meant}", variable=name)


def _contradictions(case: Case) -> Iterator[Finding]:
    settings = case.settings
    try:
        settings.alert_targets()
    except InvalidInput as error:
        yield problem(str(error))
    if settings.first_hour and settings.first_hour > case.now:
        yield problem(f"JETSTREAM_FIRST_HOUR lies ahead ({moment(settings.first_hour)}): nothing is replayed")
    if settings.look_back_hours == 0:
        yield warning("JETSTREAM_LOOK_BACK_HOURS is 0: windows that are missing are not asked for again by themselves")
    if settings.api_token.get_secret_value() and not any(map(is_trusted, case.hosts)):
        yield warning(
            "JETSTREAM_API_TOKEN is sent to none of the hosts: all are reached in the clear; write wss://HOST"
        )
    if settings.zstd_dictionary and not settings.zstd_dictionary.is_file():
        yield problem(f"JETSTREAM_ZSTD_DICTIONARY: there is no file {settings.zstd_dictionary}")
