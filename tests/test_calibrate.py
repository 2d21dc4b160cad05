"""Calibration with known answers: joints moved by a scripted hand, cameras that see a ray-cast board."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from robot_files import write_robot

from wayhand.scripts import calibrate
from wayhand.vla.bridge.limit_files import read_toml
from wayhand.vla.bridge.robots.calibrated import JointCalibration
from wayhand.vla.bridge.robots.camera_calibration import (
    Board,
    Lens,
    View,
    calibrate_lens,
    locate,
    new_view,
    placed,
)
from wayhand.vla.bridge.robots.joint_calibration import MARGIN, Ask, calibrate_joints
from wayhand.vla.bridge.robots.robot_edit import update
from wayhand.vla.bridge.robots.robot_file import RobotFile
from wayhand.vla.bridge.robots.template import StandIn, TemplateDriver
from wayhand.vla.contract import Observation
from wayhand.vla.errors import ConfigError, RobotError

TEMPLATE = "wayhand.vla.bridge.robots.template.TemplateDriver"


# --- joints ----------------------------------------------------------------------------------------------------

NAMES = ("q1", "q2", "width")
TRUE = {
    "q1": JointCalibration(sign=1, scale=np.pi / 180, offset=0.3),
    "q2": JointCalibration(sign=-1, scale=np.pi / 180, offset=-0.4),
    "width": JointCalibration(sign=-1, scale=0.001, offset=0.08),
}
RANGES = {"q1": (-1.2, 1.5), "q2": (-2.0, 0.5), "width": (0.0, 0.08)}
REFERENCE = {"q2": 0.2, "width": 0.05}


class Hand:
    """Moves joints as it is told to, and is read in raw numbers with a little noise."""

    def __init__(self) -> None:
        self.joints = dict.fromkeys(NAMES, 0.01)
        self.rng = np.random.default_rng(0)
        self.moves: dict[str, Callable[[str], Iterator[dict[str, float]]]] = {
            "Put": lambda _: iter([{name: REFERENCE.get(name, 0.0) for name in NAMES}]),
            "Let": lambda _: iter([{}] * 10),
            "Move only": self.nudge,
            "Move every": self.sweep,
        }
        self.swapped = False

    def nudge(self, words: str) -> Iterator[dict[str, float]]:
        name = next(n for n in NAMES if f"'{n}'" in words)
        name = {"q1": "q2", "q2": "q1"}.get(name, name) if self.swapped else name
        for _ in range(20):
            yield {name: self.joints[name] + (0.01 if name != "width" else 0.001)}

    def sweep(self, _: str) -> Iterator[dict[str, float]]:
        for share in np.linspace(0.0, 1.0, 300):
            yield {name: low + (high - low) * float(share) for name, (low, high) in RANGES.items()}

    def look(self) -> np.ndarray:
        raw = [(self.joints[n] - c.offset) / (c.sign * c.scale) for n, c in TRUE.items()]
        return np.array(raw) + self.rng.normal(0.0, 1e-3, 3)

    def ask(self, words: str, meanwhile: Callable[[], None]) -> None:
        move = next(move for begin, move in self.moves.items() if words.startswith(begin))
        for joints in move(words):
            self.joints.update(joints)
            meanwhile()


def guided(hand: Hand) -> dict[str, JointCalibration]:
    ask: Ask = hand.ask
    known = {name: JointCalibration(scale=c.scale) for name, c in TRUE.items()}
    return calibrate_joints(NAMES, hand.look, ask, reference=REFERENCE, known=known)


def test_a_guided_hand_finds_signs_offsets_and_ranges() -> None:
    found = guided(Hand())
    for name, true in TRUE.items():
        one, (low, high) = found[name], RANGES[name]
        assert one.sign == true.sign and one.scale == true.scale
        assert one.offset == pytest.approx(true.offset, abs=2e-4)
        room = MARGIN * (high - low)
        assert (one.lower, one.upper) == pytest.approx((low + room, high - room), abs=1e-3)


def test_what_the_hand_does_wrong_is_said() -> None:
    hand = Hand()
    hand.swapped = True
    with pytest.raises(RobotError, match="Another joint moved than 'q1'[\\s\\S]*'q2'"):
        guided(hand)
    hand = Hand()
    hand.moves["Move only"] = lambda _: iter([{}])
    with pytest.raises(RobotError, match="'q1' was not seen to move"):
        guided(hand)
    hand = Hand()
    hand.moves["Let"] = lambda _: iter([{"q2": 0.3}, {"q2": 0.2}])
    with pytest.raises(RobotError, match="did not rest[\\s\\S]*q2"):
        guided(hand)
    hand = Hand()
    hand.moves["Move every"] = lambda _: iter([{"q1": -1.0}, {"q1": 1.0}])
    with pytest.raises(RobotError, match="'q2' was not moved through its range"):
        guided(hand)


def test_the_command_writes_what_the_hand_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scales = "".join(f"\n[calibration.{n}]\nscale = {c.scale!r}\n" for n, c in TRUE.items())
    path = write_robot(tmp_path, driver=TEMPLATE, more=scales)
    hand = Hand()
    monkeypatch.setattr(calibrate, "ask", lambda console, words, meanwhile: hand.ask(words, meanwhile))
    monkeypatch.setattr(
        TemplateDriver,
        "read",
        lambda self: Observation({"state": self.clock.now()}, {}, hand.look().astype(np.float32)),
    )
    sent: list[object] = []
    monkeypatch.setattr(StandIn, "move", lambda self, positions: sent.append(positions))
    assert calibrate.main([f"robot={path}", "reference={q2: 0.2, width: 0.05}"]) == 0
    assert not sent, "calibrating moves nothing"
    file = RobotFile.load(path)
    assert file.calibration["q2"].sign == -1 and file.calibration["q2"].offset == pytest.approx(-0.4, abs=1e-3)
    assert file.limits.upper[0] == pytest.approx(1.5 - MARGIN * 2.7, abs=2e-3)
    assert "# the order of the action" in path.read_text()
    assert "q2" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="names no joint"):
        calibrate.main([f"robot={path}", "reference={q9: 1.0}"])


def test_nobody_at_the_keyboard_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(writing, b"\n")
        glances: list[int] = []
        calibrate.ask(calibrate.Console(file=io.StringIO()), "Wait", lambda: glances.append(1))
        assert glances
        os.close(writing)
        with pytest.raises(RobotError, match="Nobody answers"):
            calibrate.ask(calibrate.Console(file=io.StringIO()), "Wait", lambda: None)


# --- the file --------------------------------------------------------------------------------------------------


def test_a_file_is_changed_where_it_must_be_and_nowhere_else(tmp_path: Path) -> None:
    more = "\n[calibration.q1]  # by hand\nsign = 1   # seen\noffset = 0.25\n\n# the end\n"
    path = write_robot(tmp_path, driver="ros2", more=more)
    before = path.read_text()
    path.chmod(0o640)
    update(path, {("calibration", "q1"): {"sign": -1, "lower": -1.5}, ("calibration", "q2"): {"offset": 0.5}})
    text = path.read_text()
    assert "sign = -1   # seen" in text and "[calibration.q1]  # by hand" in text and "# the end" in text
    kept = [line for line in before.splitlines() if "sign" not in line]
    assert [line for line in kept if line in text.splitlines()] == kept
    data = read_toml(path)
    assert data["calibration"] == {"q1": {"sign": -1, "offset": 0.25, "lower": -1.5}, "q2": {"offset": 0.5}}
    assert path.stat().st_mode & 0o777 == 0o640 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        ("", {("calibration", "q1"): {"sign": 3}}, "sign 1 or -1"),
        ("\n[calibration]\nq1 = {sign = 1}\n", {("calibration", "q1"): {"offset": 1.0}}, "cannot be edited"),
        ("\n[calibration.q1]\noffset = [\n1.0]\n", {("calibration", "q1"): {"offset": 1.0}}, "cannot be edited|finite"),
    ],
)
def test_a_change_that_fails_leaves_the_old_file(
    tmp_path: Path, more: str, changes: dict[tuple[str, ...], dict[str, float]], message: str
) -> None:
    path = write_robot(tmp_path, driver="ros2", more=more)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message):
        update(path, changes)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@given(value=st.floats(-1e6, 1e6), position=st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_numbers_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, value: float, position: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("file")
    camera = "\n[cameras.front]\nheight = 4\nwidth = 6\nfx = 5.0\nfy = 5.0\ncx = 3.0\ncy = 2.0\n"
    path = write_robot(folder, driver="ros2", more=camera)
    update(path, {("calibration", "q1"): {"offset": value}, ("cameras", "front"): {"position": position}})
    file = RobotFile.load(path)
    assert file.calibration["q1"].offset == value and file.spec.camera("front").position == tuple(position)


# --- cameras ---------------------------------------------------------------------------------------------------

SIZE = (240, 320)
TRUTH = Lens(300.0, 305.0, 163.0, 118.0, (0.0,) * 5, 0.0)
CHARUCO, PLAIN = Board(), Board(columns=8, rows=5, marker=0.0)


def turned(x: float, y: float, z: float) -> np.ndarray:
    """[3 3], about x, then y, then z [rad]."""
    out = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        c, s = np.cos(angle), np.sin(angle)
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
        out = turn @ out
    return out


def seen(board: Board, position: np.ndarray, rotation: np.ndarray, samples: int = 3) -> np.ndarray:
    """uint8 [h w 3]: the board, cast by rays of a `contract.Camera` at a pose in the board's frame."""
    height, width = SIZE
    texture, side = board.picture(100).astype(np.float64), 100 / board.square
    v, u = (np.indices((height * samples, width * samples)) + 0.5) / samples
    rays = np.stack([(u - TRUTH.cx) / TRUTH.fx, -(v - TRUTH.cy) / TRUTH.fy, -np.ones_like(u)], -1) @ rotation.T
    distance = -position[2] / np.where(np.abs(rays[..., 2]) < 1e-9, 1e-9, rays[..., 2])
    x, y = position[0] + distance * rays[..., 0], position[1] + distance * rays[..., 1]
    column, row = x * side + 50, (board.rows * board.square - y) * side + 50
    inside = (distance > 0) & (column >= 0) & (row >= 0) & (column < texture.shape[1]) & (row < texture.shape[0])
    value = np.full(u.shape, 120.0)
    value[inside] = texture[row[inside].astype(int), column[inside].astype(int)]
    grey = value.reshape(height, samples, width, samples).mean(axis=(1, 3))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def poses(board: Board) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cameras around the board, looking at its middle and beside it."""
    middle = np.array([board.columns, board.rows, 0.0]) * board.square / 2
    tilts = [(0.0, 0.0, 0.0), (0.5, 0.1, 0.2), (-0.4, 0.3, -0.3), (0.2, -0.6, 0.4), (-0.3, -0.4, 1.2), (0.1, 0.6, -0.1)]
    out = []
    for k, (x, y, z) in enumerate(tilts):
        rotation = turned(x, y, z)
        offset = np.array([0.02 * np.cos(2.0 * k), 0.02 * np.sin(2.0 * k), 0.3 + 0.02 * k])
        out.append((middle + rotation @ offset, rotation))
    return out


@pytest.mark.parametrize("board", [CHARUCO, PLAIN], ids=["charuco", "checkerboard"])
def test_a_lens_and_a_pose_are_found_from_pictures(board: Board) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    views: list[View] = []
    for position, rotation in poses(board):
        view = board.look(seen(board, position, rotation))
        assert view is not None and new_view(view, views, SIZE[1])
        assert not new_view(view, [*views, view], SIZE[1])
        views.append(view)
    lens = calibrate_lens(views, *SIZE)
    assert lens.error < 0.5
    np.testing.assert_allclose([lens.fx, lens.fy], [TRUTH.fx, TRUTH.fy], rtol=0.02)
    np.testing.assert_allclose([lens.cx, lens.cy], [TRUTH.cx, TRUTH.cy], atol=3.0)
    for view, (position, rotation) in zip(views, poses(board), strict=True):
        at, turn, error = locate(view, TRUTH)
        np.testing.assert_allclose(at, position, atol=0.004)
        np.testing.assert_allclose(turn, rotation, atol=0.02)
        assert error < 0.5
    assert board.look(np.full((*SIZE, 3), 120, np.uint8)) is None


def test_a_lens_with_distortion_is_found_from_exact_corners() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    distortion = (-0.2, 0.05, 0.001, -0.002, 0.0)
    column, row = (n.ravel() for n in np.meshgrid(np.arange(1, 7), np.arange(1, 5)))
    points = np.stack([column * 0.03, row * 0.03, np.zeros(24)], axis=1)
    views = []
    for position, rotation in poses(CHARUCO):
        to_camera = (rotation @ np.diag([1.0, -1.0, -1.0])).T
        turn, shift = cv2.Rodrigues(to_camera)[0], -to_camera @ position
        pixels, _ = cv2.projectPoints(points, turn, shift, TRUTH.matrix, np.array(distortion))
        views.append(View(points, pixels.reshape(-1, 2)))
    lens = calibrate_lens(views, *SIZE)
    np.testing.assert_allclose([lens.fx, lens.fy, lens.cx, lens.cy], [300.0, 305.0, 163.0, 118.0], rtol=1e-3)
    np.testing.assert_allclose(lens.distortion, distortion, atol=0.02)
    at, turn, _ = locate(views[1], Lens(300.0, 305.0, 163.0, 118.0, distortion, 0.0))
    np.testing.assert_allclose(at, poses(CHARUCO)[1][0], atol=1e-5)
    np.testing.assert_allclose(turn, poses(CHARUCO)[1][1], atol=1e-5)
    with pytest.raises(RobotError, match="Too few views"):
        calibrate_lens(views[:3], *SIZE)


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(-3, 3)] * 3))
def test_a_pose_moves_with_the_board(
    angles: tuple[float, float, float], at: tuple[float, float, float], more: tuple[float, float, float]
) -> None:
    first, second = turned(*angles), turned(*more)
    _, quaternion = placed(np.zeros(3), second, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    assert np.linalg.norm(quaternion) == pytest.approx(1.0) and quaternion[0] >= 0
    position, turn = placed(np.array(at), first, more, quaternion)
    np.testing.assert_allclose(position, second @ np.array(at) + more, atol=1e-9)
    _, same = placed(np.zeros(3), second @ first, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    assert abs(np.dot(turn, same)) == pytest.approx(1.0)


def test_the_command_calibrates_a_camera_from_what_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    camera = "\n[cameras.front]\nheight = 240\nwidth = 320\nfx = 200.0  # a guess\nfy = 200.0\ncx = 160.0\ncy = 120.0\n"
    path = write_robot(tmp_path, driver=TEMPLATE, more=camera)
    pictures = [seen(CHARUCO, *pose) for pose in poses(CHARUCO)]
    looks = iter(range(10_000))

    def read(self: TemplateDriver) -> Observation:
        t = self.clock.now()
        image = pictures[min(next(looks), len(pictures) - 1)]
        return Observation({"state": t, "front": t}, {"front": image}, np.zeros(3, np.float32))

    monkeypatch.setattr(TemplateDriver, "read", read)
    assert calibrate.main([f"robot={path}", "what=lens", "camera=front", "views=6"]) == 0
    assert calibrate.main([f"robot={path}", "what=pose", "camera=front", "board_at=[0.5, 0.1, 0.0]"]) == 0
    found = RobotFile.load(path)
    assert found.spec.camera("front").fx == pytest.approx(300.0, rel=0.02)
    np.testing.assert_allclose(found.spec.camera("front").position, poses(CHARUCO)[-1][0] + [0.5, 0.1, 0.0], atol=0.01)
    assert len(found.distortion["front"]) == 5 and "# a guess" in path.read_text()
    pictures[:] = [np.full((240, 320, 3), 120, np.uint8)]
    with pytest.raises(RobotError, match="did not see enough of the board"):
        calibrate.main([f"robot={path}", "what=pose", "camera=front", "seconds=0.2"])
    with pytest.raises(ConfigError, match="Which camera"):
        calibrate.main([f"robot={path}", "what=lens"])
    assert calibrate.main(["what=board", f"out={tmp_path / 'board.png'}"]) == 0
    from PIL import Image

    with Image.open(tmp_path / "board.png") as image:
        assert image.size == (800, 600)
        assert CHARUCO.look(np.asarray(image.convert("RGB"))) is not None


def test_a_board_is_a_board() -> None:
    with pytest.raises(ConfigError, match="no board"):
        Board(columns=2)
    with pytest.raises(ConfigError, match="no board"):
        Board(marker=0.05)
