"""The error family of Wayhand.

Every message answers four questions: what was expected, what came, what exists, what to run.
"""

from __future__ import annotations

import difflib
from typing import Iterable, Optional


class WayhandError(Exception):
    """Base class of all errors a user can cause or must act on.

    Args:
        what: one sentence that says what is wrong.
        expected: what the code needed.
        got: what it received instead.
        exists: the valid alternatives, if they can be listed.
        run: a command or an edit that mends it.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: Optional[str] = None,
        got: Optional[str] = None,
        exists: Optional[Iterable[str]] = None,
        run: Optional[str] = None,
    ) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        self.exists = None if exists is None else tuple(exists)
        self.run = run
        super().__init__(self._render())

    def _render(self) -> str:
        lines = [self.what]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.exists is not None:
            lines.append(f"  exists:   {', '.join(self.exists) or '(nothing)'}")
        if self.run is not None:
            lines.append(f"  run:      {self.run}")
        return "\n".join(lines)


class ConfigError(WayhandError):
    """A configuration value, override or target is wrong."""


class SpecError(WayhandError):
    """Two specs disagree, or data does not fit its spec."""


class DataError(WayhandError):
    """A dataset is missing, malformed or incomplete."""


class CorruptDataError(DataError):
    """A checksum does not match: names the file and the offset."""


class CheckpointError(WayhandError):
    """A checkpoint cannot be loaded or saved."""


class TrainingError(WayhandError):
    """Training cannot go on (for example a loss that is not finite)."""


class RobotError(WayhandError):
    """A robot or its simulator failed, or refused a command."""


def did_you_mean(name: str, options: Iterable[str]) -> Optional[str]:
    """The closest of `options` to `name`, or None where nothing is close."""
    close = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return close[0] if close else None
