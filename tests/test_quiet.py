"""Messages nobody can act on are dropped, all others pass."""

from __future__ import annotations

import logging

import pytest

from wayhand.vla.backbones.quiet import DROPPED, hush


@pytest.mark.parametrize("name", DROPPED)
def test_only_the_known_message_is_dropped(name: str, caplog: pytest.LogCaptureFixture) -> None:
    hush()
    hush()
    logger = logging.getLogger(name)
    with caplog.at_level(logging.WARNING, logger=name):
        logger.addHandler(caplog.handler)
        try:
            logger.warning("%s: a library", DROPPED[name])
            logger.warning("something else")
        finally:
            logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"something else"}
