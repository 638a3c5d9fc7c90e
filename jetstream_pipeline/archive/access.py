"""How hosts' archives are asked: with which token, and where what is downloaded lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

_KEPT_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class Access:
    """`folder` holds what was downloaded, for the windows beside the one that asked for it; the oldest goes first where
    it is more than `kept_bytes`."""

    folder: Path
    token: SecretStr | None = None
    kept_bytes: int = _KEPT_BYTES

    @property
    def token_text(self) -> str | None:
        """For the host alone."""
        return self.token.get_secret_value() or None if self.token else None
