"""What an examination finds: how grave it is, in words what to do, and the figures behind it. Nothing is looked at
here."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

Figures = dict[str, int | float | str]


class Severity(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """To be looked after; nothing is lost by it now."""
    PROBLEM = "problem"
    """Something does not work, or is soon lost."""


class Finding(BaseModel):
    """One line for people, with its numbers for programs."""

    model_config = ConfigDict(frozen=True)

    severity: Severity
    text: str
    """What is so and, unless that is well, what to do."""
    figures: Figures = {}


def ok(text: str, **figures: int | float | str) -> Finding:
    return Finding(severity=Severity.OK, text=text, figures=figures)


def warning(text: str, **figures: int | float | str) -> Finding:
    return Finding(severity=Severity.WARNING, text=text, figures=figures)


def problem(text: str, **figures: int | float | str) -> Finding:
    return Finding(severity=Severity.PROBLEM, text=text, figures=figures)
