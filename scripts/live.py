"""The live view that a command's `rerun=` asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..vla.bridge.live_view import LiveView, require_rerun
from ..vla.bridge.session import Session
from ..vla.errors import ConfigError

SUFFIX = ".rrd"


def require_view(rerun: bool | str | None) -> None:
    """Raise a `ConfigError` where the view that is asked for cannot be had."""
    if isinstance(rerun, str) and Path(rerun).suffix != SUFFIX:
        raise ConfigError("'rerun' is neither true nor a recording", expected=f"true, or FILE{SUFFIX}", got=rerun)
    if rerun:
        require_rerun()


@contextmanager
def live_view(rerun: bool | str | None, session: Session) -> Iterator[None]:
    """Show the session while this is open: in the viewer (true), into a file (its path), or not at all."""
    if not rerun:
        yield
        return
    with LiveView(session.spec, session.names, Path(rerun) if isinstance(rerun, str) else None):
        yield
