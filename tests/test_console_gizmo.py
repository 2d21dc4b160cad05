"""The hand in the console's 3D view: who may drag it, and what the robot's side hears."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
import pytest
from bridge_body import ROBOT, StickBody

from wayhand.vla.bridge.console.gizmo import DRAGGED, NAME, Gizmo, is_drag
from wayhand.vla.bridge.console.proxy import _harmless
from wayhand.vla.bridge.robots.link import RobotLink
from wayhand.vla.bridge.shared import observation_record
from wayhand.vla.bridge.teleop.cell import ConsoleHand, HandCell
from wayhand.vla.bridge.teleop.hand import Request


@dataclass
class Handle:
    """As viser's, of arrows and rings."""

    position: Any = None
    wxyz: Any = None
    moved: Callable[[object], None] = field(default=lambda _: None)

    def on_update(self, call: Callable[[object], None]) -> None:
        self.moved = call

    def drag(self, position: list[float], wxyz: list[float]) -> None:
        self.position, self.wxyz = position, wxyz
        self.moved(None)


class Scene:
    def __init__(self) -> None:
        self.handle = Handle()

    def add_transform_controls(self, name: str, **_: object) -> Handle:
        assert name == NAME
        return self.handle


@dataclass
class Rig:
    gizmo: Gizmo
    handle: Handle
    robot: RobotLink
    device: ConsoleHand
    stopped: list[str]

    def sense(self) -> None:
        """The robot says where it is."""
        body = StickBody()
        body.reset(0, {})
        record = observation_record(body.observe(), 1)
        fields = {name for name, _, _ in self.robot.state.layout.fields}
        self.robot.state.write(**{k: v for k, v in record.items() if k in fields}, outcome=-1, time=0.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    cell, robot, scene, stopped = HandCell(), RobotLink(ROBOT), Scene(), []
    gizmo = Gizmo(cell, robot)
    gizmo.attach(scene)
    yield Rig(gizmo, scene.handle, robot, ConsoleHand(stop=stopped.append, cell=cell), stopped)
    cell.close()
    robot.close()


HERE = [0.3, -0.2, 0.0]
MINE, OTHER = object(), object()


def test_the_hand_goes_with_the_robot_until_a_page_takes_it(rig: Rig) -> None:
    assert rig.gizmo.hear(MINE, {"on": True}, 1.0).startswith("The robot does not say")
    rig.sense()
    rig.gizmo.look()
    np.testing.assert_allclose(rig.handle.position, HERE, atol=1e-6)
    rig.handle.drag([9.0, 9.0, 9.0], [1.0, 0.0, 0.0, 0.0])
    assert rig.gizmo.hear(MINE, {"beat": True}, 1.0) == "" and not rig.device.engaged, "dragging alone is nothing"
    assert rig.gizmo.hear(MINE, {"opening": 0.0}, 1.0) == "Take the hand first"
    assert rig.gizmo.hear(MINE, {"on": True}, 2.0) == ""
    hand = rig.device.read(2.0)
    assert hand.engaged and hand.pose is not None and hand.opening is None
    np.testing.assert_allclose(hand.pose[0], HERE, atol=1e-6)
    assert not rig.stopped


def test_the_page_that_took_it_drags_it_and_gives_it_back(rig: Rig) -> None:
    rig.sense()
    rig.gizmo.hear(MINE, {"on": True}, 0.0)
    rig.handle.drag([0.4, 0.0, 0.1], [0.0, 2.0, 0.0, 0.0])
    rig.gizmo.look()
    assert rig.handle.position == [0.4, 0.0, 0.1], "the robot does not pull it back"
    rig.gizmo.hear(MINE, {"beat": True}, 0.1)
    rig.gizmo.hear(MINE, {"opening": 0.25}, 0.1)
    rig.gizmo.hear(OTHER, {"opening": 1.0}, 0.1)
    hand = rig.device.read(0.1)
    assert hand.pose is not None and hand.opening == 0.25
    np.testing.assert_allclose(np.concatenate(hand.pose), [0.4, 0.0, 0.1, 0, 1, 0, 0])
    rig.gizmo.hear(MINE, {"on": False}, 0.2)
    assert not rig.device.engaged and not rig.device.read(9.0).engaged and not rig.stopped


def test_a_page_that_closes_with_the_hand_stops_the_robot_once(rig: Rig) -> None:
    rig.sense()
    rig.gizmo.hear(MINE, {"on": True}, 0.0)
    rig.gizmo.gone(MINE)
    rig.gizmo.hear(MINE, {"beat": True}, 0.2)
    assert rig.device.read(0.2).engaged
    assert not rig.device.read(0.5).engaged and rig.stopped == ["the console fell silent"]
    assert not rig.device.engaged and not rig.device.read(0.6).engaged and len(rig.stopped) == 1
    rig.gizmo.hear(OTHER, {"on": True}, 0.7)
    assert rig.device.read(0.7).engaged, "after that, another page may take it"


def test_requests_need_no_hand(rig: Rig) -> None:
    for ask in ("go", "discard", "leave", "nonsense", 3, []):
        rig.gizmo.hear(MINE, {"ask": ask}, 0.0)
    assert rig.device.requests() == [Request.GO, Request.DISCARD, Request.LEAVE]


GOOD = {"type": DRAGGED, "name": NAME, "wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.1, 0.2, 0.3], "owner": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"type": "TransformControlsDragStartMessage"},
        {"name": "/robot/1"},
        {"owner": "somebody"},
        {"position": [0.1, math.nan, 0.3]},
        {"position": [0.1, 0.2]},
        {"wxyz": [0.0, 0.0, 0.0, 0.0]},
        {"wxyz": "turn"},
        {"position": None},
    ],
)
def test_nothing_but_a_drag_of_the_hand_gets_through(change: dict[str, Any]) -> None:
    assert is_drag(GOOD) and _harmless(msgpack.packb(GOOD))
    assert not is_drag({**GOOD, **change}) and not _harmless(msgpack.packb({**GOOD, **change}))
