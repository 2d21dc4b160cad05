"""Camera calibration from pictures of a board: intrinsics and lens from many views, the pose from one.

Corners and the least-squares fit are OpenCV's (`cv2.calibrateCamera`, after Z. Zhang, "A flexible new technique for
camera calibration", TPAMI 2000; ChArUco boards after Garrido-Jurado et al., Pattern Recognition 2014).

The board's frame: origin in the lower left corner of its pattern, x to the right, y up, z out of the paper towards the
reader. A board that lies on a table with its picture up has z up.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConfigError, RobotError

FEWEST_CORNERS = 8
"""Of a view that is used."""
FEWEST_VIEWS = 4
_DICTIONARY = "DICT_5X5_100"


def _opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        run = "pip install 'wayhand[calibration]'"
        raise ConfigError("Camera calibration needs OpenCV", got=str(error), run=run) from error


@dataclass(frozen=True)
class View:
    """Corners of a board in one picture.

    Args:
        points: [N 3], in the board's frame [m].
        pixels: [N 2], column and row; the centre of the first one is 0, 0.
    """

    points: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Board:
    """A checkerboard, with markers in its white squares where `marker` is given (ChArUco), so that a part is enough.

    Args:
        columns, rows: squares. An odd and an even number let a plain checkerboard be seen the right way up.
        square: side of a square [m].
        marker: side of a marker [m]; 0 for a plain checkerboard.

    Raises `ConfigError` where that is no board.
    """

    columns: int = 7
    rows: int = 5
    square: float = 0.03
    marker: float = 0.022

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or not 0 <= self.marker < self.square:
            raise ConfigError("This is no board", expected="3×3 squares or more, markers smaller", got=repr(self))

    def _charuco(self) -> Any:
        aruco = _opencv().aruco
        dictionary = aruco.getPredefinedDictionary(getattr(aruco, _DICTIONARY))
        return aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, dictionary)

    def picture(self, pixels: int = 100) -> np.ndarray:
        """uint8 [h w], to print: `pixels` a square, with a white margin of half a square."""
        if self.marker:
            size, margin = (self.columns * pixels, self.rows * pixels), pixels // 2
            pattern = self._charuco().generateImage(size, marginSize=0)
        else:
            margin = pixels // 2
            black = (np.indices((self.rows, self.columns)).sum(axis=0) + 1) % 2
            pattern = np.kron(1 - black, np.ones((pixels, pixels))).astype(np.uint8) * 255
        return np.pad(np.asarray(pattern, np.uint8), margin, constant_values=255)

    def look(self, image: np.ndarray) -> View | None:
        """The board in a picture, uint8 [h w 3], or None where too little of it is seen."""
        cv2 = _opencv()
        grey = np.ascontiguousarray(image.mean(axis=2).astype(np.uint8))
        inner = (self.columns - 1, self.rows - 1)
        if self.marker:
            corners, ids = cv2.aruco.CharucoDetector(self._charuco()).detectBoard(grey)[:2]
            if ids is None or len(ids) < FEWEST_CORNERS:
                return None
            numbers = np.asarray(ids).reshape(-1)
        else:
            found, corners = cv2.findChessboardCornersSB(grey, inner)
            if not found:
                return None
            numbers = np.arange(inner[0] * inner[1])
            corners = self._upright(grey, np.asarray(corners, np.float64).reshape(inner[1], inner[0], 2))
        column, row = numbers % inner[0], numbers // inner[0]
        x, y = (column + 1) * self.square, (self.rows - 1 - row) * self.square
        points = np.stack([x, y, np.zeros(len(numbers))], axis=1).astype(np.float64)
        return View(points, np.asarray(corners, np.float64).reshape(-1, 2))

    def _upright(self, grey: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """[rows columns 2], begun at the corner beside the black square, where the board's two have other colours."""
        right, down = corners[0, 1] - corners[0, 0], corners[1, 0] - corners[0, 0]
        beside = [corners[0, 0] - right / 2 - down / 2, corners[0, 0] + right / 2 - down / 2]
        height, width = grey.shape
        first, next_to_it = (
            float(grey[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))]) for x, y in np.round(beside)
        )
        return corners if first < next_to_it else corners[::-1, ::-1]


@dataclass(frozen=True)
class Lens:
    """What calibration found.

    Args:
        fx, fy, cx, cy: [px], the centre of the first pixel at 0.5, 0.5, as in `contract.Camera`.
        distortion: k1 k2 p1 p2 k3, the last one 0 (Brown, Conrady), as OpenCV has them.
        error: root mean square distance of the corners from where the model puts them [px].
    """

    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...]
    error: float

    @property
    def matrix(self) -> np.ndarray:
        """[3 3], with the centre of the first pixel at 0, 0 as OpenCV has it."""
        return np.array([[self.fx, 0.0, self.cx - 0.5], [0.0, self.fy, self.cy - 0.5], [0.0, 0.0, 1.0]])


def new_view(view: View, views: Sequence[View], width: int) -> bool:
    """Whether `view` shows the board elsewhere than all others, by a fortieth of the picture's `width`."""
    where = (view.pixels.mean(axis=0), view.pixels.std(axis=0))
    others = [(v.pixels.mean(axis=0), v.pixels.std(axis=0)) for v in views]
    return all(sum(np.linalg.norm(a - b) for a, b in zip(where, o, strict=True)) > width / 40 for o in others)


def calibrate_lens(views: Sequence[View], height: int, width: int) -> Lens:
    """The intrinsics that fit all `views` best, without k3, which ordinary lenses do not need.

    Raises `RobotError` where the views are too few or too much alike.
    """
    if len(views) < FEWEST_VIEWS:
        raise RobotError("Too few views of the board", expected=f"at least {FEWEST_VIEWS}", got=str(len(views)))
    cv2 = _opencv()
    points = [v.points.astype(np.float32) for v in views]
    pixels = [v.pixels.astype(np.float32)[:, None] for v in views]
    error, matrix, distortion, *_ = cv2.calibrateCamera(
        points, pixels, (width, height), None, None, flags=cv2.CALIB_FIX_K3
    )
    values = [*matrix[[0, 1, 0, 1], [0, 1, 2, 2]], *np.ravel(distortion)[:5], error]
    inside = 0 < values[2] < width and 0 < values[3] < height
    if not np.isfinite(values).all() or not inside or min(values[:2]) <= 0:
        raise RobotError(
            "The views do not determine the camera", got=f"{np.round(values, 3)}", run="tilt it, near and far"
        )
    fx, fy, cx, cy = (float(v) for v in values[:4])
    return Lens(fx, fy, cx + 0.5, cy + 0.5, tuple(float(v) for v in values[4:9]), float(error))


def locate(view: View, lens: Lens) -> tuple[np.ndarray, np.ndarray, float]:
    """The camera in the board's frame: position [3] m, rotation [3 3] camera to board, and the error [px].

    The camera looks along its −z axis, +y up, as in `contract.Camera`.
    """
    cv2 = _opencv()
    distortion = np.array(lens.distortion)
    found, turn, shift = cv2.solvePnP(view.points, view.pixels, lens.matrix, distortion)
    if not found:
        raise RobotError("The board's pose cannot be told from this view")
    to_camera = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    again, _ = cv2.projectPoints(view.points, turn, shift, lens.matrix, distortion)
    error = float(np.sqrt(((again.reshape(-1, 2) - view.pixels) ** 2).sum(axis=1).mean()))
    position = -to_camera.T @ np.asarray(shift, np.float64).reshape(3)
    return position, to_camera.T @ np.diag([1.0, -1.0, -1.0]), error


def placed(
    position: np.ndarray, rotation: np.ndarray, board_position: Sequence[float], board_quaternion: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A pose in the board's frame as position and quaternion w x y z in the frame the board is placed in."""
    board = _matrix(np.asarray(board_quaternion, np.float64))
    moved = board @ position + np.asarray(board_position, np.float64)
    return tuple(map(float, moved)), tuple(map(float, _quaternion(board @ rotation)))


def _matrix(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q / np.linalg.norm(q)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross


def _quaternion(r: np.ndarray) -> np.ndarray:
    """w x y z, w ≥ 0: the eigenvector of Bar-Itzhack's symmetric matrix (J. Guidance 2000)."""
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [0.0, r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [0.0, 0.0, r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [0.0, 0.0, 0.0, r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    q = np.linalg.eigh(k, UPLO="U")[1][:, -1]
    return q if q[0] >= 0 else -q
