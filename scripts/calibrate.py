"""`wayhand calibrate`: joints and cameras of a real robot, into its file. Nothing here moves the robot."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from ..vla.bridge.limits import joint_indices
from ..vla.bridge.robots.calibrated import JointCalibration
from ..vla.bridge.robots.camera_calibration import Board, Lens, View, calibrate_lens, locate, new_view, placed
from ..vla.bridge.robots.driver import Driver
from ..vla.bridge.robots.joint_calibration import calibrate_joints
from ..vla.bridge.robots.robot_edit import update
from ..vla.bridge.robots.robot_file import RobotFile
from ..vla.config import Config, instantiate
from ..vla.errors import ConfigError, RobotError
from .compose import load
from .robots import FileRobot, shorthand

HELP = """\
Usage: wayhand calibrate robot=FILE.toml [what=joints|lens|pose] [key=value …]
       wayhand calibrate what=board out=board.png

Calibrates a robot by hand and writes what it finds into the robot's file, in one step, comments kept. The command moves
nothing: you do, with the motors free or the arm in its own teach mode; it tells what to do next and looks on.

joints: a reference posture gives offsets, a nudge of each joint its sign (and whether its name is right), a sweep
        through all ranges the position limits. Scales of raw numbers are yours to give: [calibration.<joint>] scale.
lens:   hold the printed board before the camera, in many places, tilted, near and far.
pose:   lay the board where you know its place; one picture tells where the camera is.

Examples:
  wayhand calibrate what=board out=board.png
  wayhand calibrate robot=arm.toml 'reference={elbow: 1.5708}'
  wayhand calibrate robot=arm.toml what=lens camera=front square=0.0298
  wayhand calibrate robot=arm.toml what=pose camera=front 'board_at=[0.4, -0.1, 0.0]'
"""
POLL = 0.02
"""Between two looks at the robot [s]."""


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    robot: Config
    what: Literal["joints", "lens", "pose", "board"]
    camera: str | None
    reference: dict[str, float] | None
    views: int
    seconds: float
    columns: int
    rows: int
    square: float
    marker: float
    board_at: tuple[float, float, float]
    board_turn: tuple[float, float, float, float]
    out: Path

    def __post_init__(self) -> None:
        if self.views < 4 or not self.seconds > 0:
            raise ConfigError("'views' or 'seconds' is too small", got=f"{self.views}, {self.seconds}")
        if self.what in ("lens", "pose") and self.camera is None:
            raise ConfigError("Which camera?", run="camera=NAME")

    @property
    def board(self) -> Board:
        return Board(columns=self.columns, rows=self.rows, square=self.square, marker=self.marker)


def main(overrides: list[str]) -> int:
    # A board is printed before there is a robot.
    given = [*overrides, "robot.file=none"] if "what=board" in overrides else overrides
    cfg, _ = load("calibrate", shorthand(given), CalibrateConfig)
    console = Console(soft_wrap=True)
    if cfg.what == "board":
        return print_board(cfg, console)
    robot = instantiate(cfg.robot)
    if not isinstance(robot, FileRobot):
        raise ConfigError("Only a robot with a file can be calibrated", run="robot=FILE.toml")
    driver = robot.raw()
    try:
        driver.connect()
        return {"joints": joints, "lens": lens, "pose": pose}[cfg.what](cfg, robot.file, driver, console)
    finally:
        driver.close()


def print_board(cfg: CalibrateConfig, console: Console) -> int:
    from PIL import Image

    picture = cfg.board.picture()
    dots = 100 / cfg.square * 0.0254
    Image.fromarray(picture).save(cfg.out, dpi=(dots, dots))
    size = f"{cfg.columns * cfg.square * 1000:.0f}×{cfg.rows * cfg.square * 1000:.0f} mm without its margin"
    console.print(f"board {cfg.out}: print it unscaled, {size}, glue it to something flat, and measure a square")
    return 0


def ask(console: Console, words: str, meanwhile: Callable[[], None]) -> None:
    """Say what to do and look on until Enter. Raises `RobotError` where nobody can answer."""
    console.print(f"{words}, then press Enter.")
    while True:
        meanwhile()
        if select.select([sys.stdin], [], [], POLL)[0]:
            if not sys.stdin.readline():
                raise RobotError("Nobody answers", expected="Enter on standard input")
            return


# --- joints ----------------------------------------------------------------------------------------------------


def joints(cfg: CalibrateConfig, file: RobotFile, driver: Driver, console: Console) -> int:
    names = [e.name for e in file.spec.action_elements]
    if odd := sorted(set(cfg.reference or {}) - set(names)):
        raise ConfigError("'reference' names no joint of the robot", got=", ".join(odd), exists=names)
    index = joint_indices([e.name for e in driver.spec.state], names)
    found = calibrate_joints(
        names,
        lambda: driver.read_state().state[index],
        lambda words, meanwhile: ask(console, words, meanwhile),
        reference=cfg.reference,
        known=file.calibration,
    )
    update(file.path, {("calibration", joint): _row(one) for joint, one in found.items()})
    table = Table("joint", "sign", "offset", "from", "to", title=f"calibrated · {file.path}")
    for joint, one in found.items():
        assert one.lower is not None and one.upper is not None
        table.add_row(joint, f"{one.sign:+.0f}", f"{one.offset:.4f}", f"{one.lower:.3f}", f"{one.upper:.3f}")
    console.print(table)
    return 0


def _row(one: JointCalibration) -> dict[str, float]:
    values = {"sign": int(one.sign), "scale": one.scale, "offset": one.offset, "lower": one.lower, "upper": one.upper}
    return {k: v for k, v in values.items() if v is not None}


# --- cameras ---------------------------------------------------------------------------------------------------


def lens(cfg: CalibrateConfig, file: RobotFile, driver: Driver, console: Console) -> int:
    camera = file.spec.camera(str(cfg.camera))
    views: list[View] = []
    console.print(f"Show the board to '{camera.name}' in {cfg.views} places: in every corner, near, far, tilted.")
    for view in _boards(cfg, driver, camera.name):
        if new_view(view, views, camera.width):
            views.append(view)
            console.print(f"{len(views)}/{cfg.views}: {len(view.pixels)} corners")
        if len(views) == cfg.views:
            break
    found = calibrate_lens(views, camera.height, camera.width)
    values = {"fx": found.fx, "fy": found.fy, "cx": found.cx, "cy": found.cy}
    update(file.path, {("cameras", camera.name): {**values, "distortion": found.distortion, "error": found.error}})
    line = f"fx {found.fx:.1f} fy {found.fy:.1f} cx {found.cx:.1f} cy {found.cy:.1f} px, error {found.error:.2f} px"
    console.print(f"{file.path}: {line}" + ("" if found.error < 1 else "; more than 1 px: do it again"))
    return 0


def pose(cfg: CalibrateConfig, file: RobotFile, driver: Driver, console: Console) -> int:
    camera = file.spec.camera(str(cfg.camera))
    distortion = file.distortion.get(camera.name, (0.0,) * 5)
    known = Lens(camera.fx, camera.fy, camera.cx, camera.cy, distortion, 0.0)
    console.print(f"Lay the board at {list(cfg.board_at)} in '{camera.frame}', where '{camera.name}' sees it.")
    position, rotation, error = locate(next(_boards(cfg, driver, camera.name)), known)
    at, turn = placed(position, rotation, cfg.board_at, cfg.board_turn)
    update(file.path, {("cameras", camera.name): {"position": at, "quaternion": turn}})
    where = f"at {np.round(at, 4).tolist()} m in '{camera.frame}'"
    console.print(f"{file.path}: '{camera.name}' {where}, error {error:.2f} px")
    return 0


def _boards(cfg: CalibrateConfig, driver: Driver, camera: str) -> Iterator[View]:
    """Views of the board as they come; raises `RobotError` where none comes any more."""
    end, taken = time.monotonic() + cfg.seconds, -np.inf
    while time.monotonic() < end:
        observation = driver.read()
        if observation.times[camera] > taken:
            taken = observation.times[camera]
            view = cfg.board.look(observation.images[camera])
            if view is not None:
                yield view
        time.sleep(POLL)
    raise RobotError(
        f"Camera '{camera}' did not see enough of the board", got=f"in {cfg.seconds:g} s", run="more light"
    )
