"""The console's panel: what its buttons mean to the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.vla.bridge.console.panel import HELD, LEASE, LET_GO, SILENT, WAITING, Panel


@pytest.fixture
def panel() -> Iterator[Panel]:
    with closing(Panel()) as made:
        yield made


def test_a_panel_nobody_touches_stops_nothing(panel: Panel) -> None:
    assert panel.fault(0.0) == "" and panel.fault(1e9) == ""
    assert panel.phase == WAITING and not panel.required


def test_hold_stops_until_start(panel: Panel) -> None:
    panel.hold()
    assert panel.fault(1.0) == HELD
    panel.start()
    assert panel.fault(1.0) == "" and panel.starts == 1


def test_a_reset_starts_nothing(panel: Panel) -> None:
    panel.reset()
    assert panel.resets == 1 and panel.starts == 0 and panel.fault(1.0) == HELD


def test_an_enable_counts_as_long_as_it_is_renewed(panel: Panel) -> None:
    panel.require(True)
    panel.start()
    assert panel.fault(100.0) == LET_GO, "nobody holds it yet"
    panel.renew(100.0)
    assert panel.fault(100.0) == "" and panel.fault(100.0 + LEASE) == ""
    assert panel.fault(100.0 + LEASE + 1e-6) == SILENT
    panel.renew(101.0)
    panel.let_go()
    assert panel.fault(101.0) == LET_GO
    panel.require(False)
    panel.start()
    assert panel.fault(1e9) == ""


@given(st.lists(st.sampled_from(["hold", "start", "reset", "require", "free", "renew", "let_go"]), max_size=20))
def test_the_last_press_counts_whatever_came_before(presses: list[str]) -> None:
    with closing(Panel()) as panel:
        for press in presses:
            acts: dict[str, Callable[[], None]] = {
                "hold": panel.hold, "start": panel.start, "reset": panel.reset, "let_go": panel.let_go,
                "require": lambda: panel.require(True), "free": lambda: panel.require(False),
                "renew": lambda: panel.renew(5.0),
            }  # fmt: skip
            acts[press]()
        stopping = [p for p in presses if p in ("hold", "start", "reset", "require", "free")]
        if stopping and stopping[-1] != "start":
            assert panel.fault(5.0) == HELD
        elif panel.required and panel.fault(5.0) == "":
            assert "renew" in presses
