"""The root of the project's errors. Each room defines its own family below it, in its own module.

An error's text is one line that a person reads: what happened, where, and what to do about it.
"""


class PipelineError(Exception):
    """Something that the user can be told in one line."""

    passing = False
    """Whether the same attempt may succeed later without a change by the user."""


class InvalidInput(PipelineError):
    """A value given by the user (option, setting, argument) cannot be used. Exit code 2."""
