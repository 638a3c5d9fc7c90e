"""What people are told. How it reaches them is `deliver`'s."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict


def _whole_characters(value: object) -> object:
    """Half a character, as JavaScript writes them, can be sent nowhere."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


_Text = Annotated[str, BeforeValidator(_whole_characters)]


class Alert(BaseModel):
    """Something that somebody should know. Texts may quote strangers: nothing in them is taken for a command."""

    model_config = ConfigDict(frozen=True)

    subject: _Text
    """In a few words."""
    text: _Text
    """What happened, where, what to do."""
    stream: _Text
    window: _Text | None = None
    """The window's key, or those of a range's ends; None where it is about the stream as a whole."""
    state: _Text = ""
    """The window's or the run's."""
    run_id: _Text = ""
    url: _Text = ""
    """Where to look at it."""
    time: Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]
