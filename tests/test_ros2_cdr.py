"""CDR bytes against ones laid out by hand from the OMG's rules, and names as ROS 2 mangles them."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.vla.bridge.robots.cdr import SIZES, Array, Message, Sequence, Type, decode, encode
from wayhand.vla.bridge.robots.ros2_messages import (
    FLOAT64_MULTI_ARRAY,
    IMAGE,
    JOINT_STATE,
    JOINT_TRAJECTORY,
    MESSAGES,
    ODOMETRY,
    TWIST,
    dds_topic,
    dds_type,
)
from wayhand.vla.errors import ConfigError, RobotError

STATE = {
    "header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "abcd"},
    "name": ["q1"],
    "position": [1.0],
    "velocity": [],
    "effort": [-2.0],
}
STATE_BYTES = (
    "00 01 00 00"  # little-endian plain CDR
    "01 00 00 00  02 00 00 00"  # stamp
    "05 00 00 00  61 62 63 64 00  00 00 00"  # frame_id with its NUL, padded to 4
    "01 00 00 00  03 00 00 00  71 31 00  00"  # one name, padded to 4
    "01 00 00 00  00 00 00 00  00 00 00 00 00 00 f0 3f"  # one position, padded to 8 from the end of the header
    "00 00 00 00"  # no velocity, nothing padded
    "01 00 00 00  00 00 00 00 00 00 00 c0"
)
POINT = {
    "positions": [0.5],
    "velocities": [],
    "accelerations": [],
    "effort": [],
    "time_from_start": {"sec": 1, "nanosec": 500_000_000},
}
TRAJECTORY = {
    "header": {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""},
    "joint_names": ["j"],
    "points": [POINT],
}
TRAJECTORY_BYTES = (
    "00 01 00 00"
    "00 00 00 00  00 00 00 00"
    "01 00 00 00  00  00 00 00"  # an empty string is one NUL
    "01 00 00 00  02 00 00 00  6a 00  00 00"
    "01 00 00 00"  # one point
    "01 00 00 00  00 00 00 00  00 00 00 00 00 00 e0 3f"
    "00 00 00 00  00 00 00 00  00 00 00 00"
    "01 00 00 00  00 65 cd 1d"
)
ARRAY = {"layout": {"dim": [], "data_offset": 7}, "data": [1.5]}
ARRAY_BYTES = "00 01 00 00  00 00 00 00  07 00 00 00  01 00 00 00  00 00 00 00  00 00 00 00 00 00 f8 3f"
VECTOR = {"x": 1.0, "y": 0.0, "z": 0.0}
TWIST_BYTES = "00 01 00 00" + ("00 00 00 00 00 00 f0 3f" + "00" * 16) * 2

GOLDEN = [
    (JOINT_STATE, STATE, STATE_BYTES),
    (JOINT_TRAJECTORY, TRAJECTORY, TRAJECTORY_BYTES),
    (FLOAT64_MULTI_ARRAY, ARRAY, ARRAY_BYTES),
    (TWIST, {"linear": VECTOR, "angular": VECTOR}, TWIST_BYTES),
]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize(("message", "value", "golden"), GOLDEN, ids=[m.name for m, _, _ in GOLDEN])
def test_bytes_are_those_of_the_standard(message: Message, value: dict[str, Any], golden: str) -> None:
    assert encode(message, value).hex(" ") == bytes.fromhex(golden).hex(" ")
    assert plain(decode(message, bytes.fromhex(golden))) == value


def test_big_endian_is_read() -> None:
    golden = bytes.fromhex("00 00 00 00  00 00 00 00  00 00 00 07  00 00 00 01  00 00 00 00  3f f8 00 00 00 00 00 00")
    assert plain(decode(FLOAT64_MULTI_ARRAY, golden)) == ARRAY


def test_covariances_have_no_length_on_the_wire() -> None:
    zero = {"x": 0.0, "y": 0.0, "z": 0.0}
    pose = {"pose": {"position": zero, "orientation": {**zero, "w": 1.0}}, "covariance": np.arange(36.0)}
    twist = {"twist": {"linear": zero, "angular": zero}, "covariance": np.zeros(36)}
    value = {"header": STATE["header"], "child_frame_id": "base", "pose": pose, "twist": twist}
    data = encode(ODOMETRY, value)
    # Header 17 → 20, child 29 → 32, 7 + 36 doubles, 6 + 36 doubles.
    assert len(data) == 4 + 32 + 8 * (7 + 36 + 6 + 36)
    assert plain(decode(ODOMETRY, data)) == plain(value)


def values(kind: Type) -> st.SearchStrategy[Any]:
    if isinstance(kind, Message):
        return st.fixed_dictionaries({name: values(field) for name, field in kind.fields})
    if isinstance(kind, Sequence):
        return st.lists(values(kind.of), max_size=3)
    if isinstance(kind, Array):
        return st.lists(values(kind.of), min_size=kind.length, max_size=kind.length)
    if kind == "string":
        return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
    if kind.startswith("float"):
        return st.floats(width=32, allow_nan=False)
    info = np.iinfo(kind)
    return st.integers(int(info.min), int(info.max))


@given(
    st.sampled_from([m for m in MESSAGES.values() if m is not ODOMETRY]).flatmap(
        lambda m: st.tuples(st.just(m), values(m))
    )
)
def test_decode_inverts_encode(pair: tuple[Message, dict[str, Any]]) -> None:
    message, value = pair
    assert plain(decode(message, encode(message, value))) == value


@given(st.sampled_from(GOLDEN), st.data())
def test_damaged_bytes_are_refused_or_read_but_never_crash(golden: Any, data: st.DataObject) -> None:
    message, _, text = golden
    raw = bytearray.fromhex(text)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with contextlib.suppress(RobotError):
        decode(message, bytes(raw))


def test_a_length_beyond_the_end_allocates_nothing() -> None:
    with pytest.raises(RobotError, match="ends too early"):
        decode(JOINT_STATE, bytes.fromhex("00 01 00 00" + "00" * 8 + "01 00 00 00 00 00 00 00 ff ff ff ff"))


def test_a_picture_is_read_without_a_copy() -> None:
    value = {
        "header": STATE["header"], "height": 2, "width": 2, "encoding": "rgb8", "is_bigendian": 0, "step": 6,
        "data": bytes(range(12)),
    }  # fmt: skip
    data = encode(IMAGE, value)
    assert np.shares_memory(decode(IMAGE, data)["data"], np.frombuffer(data, np.uint8))


def test_what_is_not_the_message_is_named() -> None:
    with pytest.raises(RobotError, match=r"no sensor_msgs/JointState[\s\S]*effort[\s\S]*name, position"):
        encode(JOINT_STATE, {k: v for k, v in STATE.items() if k != "effort"})


def test_names_are_mangled_as_ros_2_does() -> None:
    assert dds_type(JOINT_STATE) == "sensor_msgs::msg::dds_::JointState_"
    assert dds_type(ODOMETRY) == "nav_msgs::msg::dds_::Odometry_"
    assert dds_topic("/joint_states") == dds_topic("joint_states") == "rt/joint_states"
    assert dds_topic("/left/arm_controller/joint_trajectory") == "rt/left/arm_controller/joint_trajectory"
    for bad in ("", "/", "/a//b", "/1a", "~/state", "/a-b", "/a__b", "/a/"):
        with pytest.raises(ConfigError, match="no name of a ROS 2 topic"):
            dds_topic(bad)


def test_numbers_are_as_long_as_numpys() -> None:
    assert all(np.dtype(kind).itemsize == size for kind, size in SIZES.items())
