"""The ROS 2 messages a robot is driven with, and the names under which DDS knows them and their topics.

The definitions are those of the packages common_interfaces and rcl_interfaces of ROS 2, unchanged since Foxy.
"""

from __future__ import annotations

import re

from ...errors import ConfigError
from .cdr import SIZES, Array, Message, Sequence, Type

_DEFINITIONS = """
builtin_interfaces/Time: int32 sec, uint32 nanosec
builtin_interfaces/Duration: int32 sec, uint32 nanosec
std_msgs/Header: builtin_interfaces/Time stamp, string frame_id
std_msgs/MultiArrayDimension: string label, uint32 size, uint32 stride
std_msgs/MultiArrayLayout: std_msgs/MultiArrayDimension[] dim, uint32 data_offset
std_msgs/Float64MultiArray: std_msgs/MultiArrayLayout layout, float64[] data
sensor_msgs/JointState: std_msgs/Header header, string[] name, float64[] position, float64[] velocity, float64[] effort
sensor_msgs/CompressedImage: std_msgs/Header header, string format, uint8[] data
sensor_msgs/Image: std_msgs/Header header, uint32 height, uint32 width, string encoding, uint8 is_bigendian, \
uint32 step, uint8[] data
trajectory_msgs/JointTrajectoryPoint: float64[] positions, float64[] velocities, float64[] accelerations, \
float64[] effort, builtin_interfaces/Duration time_from_start
trajectory_msgs/JointTrajectory: std_msgs/Header header, string[] joint_names, \
trajectory_msgs/JointTrajectoryPoint[] points
geometry_msgs/Vector3: float64 x, float64 y, float64 z
geometry_msgs/Point: float64 x, float64 y, float64 z
geometry_msgs/Quaternion: float64 x, float64 y, float64 z, float64 w
geometry_msgs/Twist: geometry_msgs/Vector3 linear, geometry_msgs/Vector3 angular
geometry_msgs/Pose: geometry_msgs/Point position, geometry_msgs/Quaternion orientation
geometry_msgs/PoseWithCovariance: geometry_msgs/Pose pose, float64[36] covariance
geometry_msgs/TwistWithCovariance: geometry_msgs/Twist twist, float64[36] covariance
nav_msgs/Odometry: std_msgs/Header header, string child_frame_id, geometry_msgs/PoseWithCovariance pose, \
geometry_msgs/TwistWithCovariance twist
"""


def _parse(text: str) -> dict[str, Message]:
    messages: dict[str, Message] = {}

    def kind(word: str) -> Type:
        name, bracket, length = word.rstrip("]").partition("[")
        one: Type = name if name in SIZES or name == "string" else messages[name]
        if not bracket:
            return one
        return Array(one, int(length)) if length else Sequence(one)

    for line in text.strip().splitlines():
        name, _, rest = line.partition(": ")
        pairs = [field.split() for field in rest.split(", ")]
        messages[name] = Message(name, tuple((field, kind(word)) for word, field in pairs))
    return messages


MESSAGES = _parse(_DEFINITIONS)
JOINT_STATE = MESSAGES["sensor_msgs/JointState"]
COMPRESSED_IMAGE = MESSAGES["sensor_msgs/CompressedImage"]
IMAGE = MESSAGES["sensor_msgs/Image"]
JOINT_TRAJECTORY = MESSAGES["trajectory_msgs/JointTrajectory"]
FLOAT64_MULTI_ARRAY = MESSAGES["std_msgs/Float64MultiArray"]
TWIST = MESSAGES["geometry_msgs/Twist"]
ODOMETRY = MESSAGES["nav_msgs/Odometry"]


def dds_type(message: Message) -> str:
    """`sensor_msgs/JointState` → `sensor_msgs::msg::dds_::JointState_`."""
    package, name = message.name.split("/")
    return f"{package}::msg::dds_::{name}_"


def dds_topic(topic: str) -> str:
    """`/joint_states` → `rt/joint_states`. Raises `ConfigError` where ROS 2 would refuse the name.

    Names are taken from the root namespace: a name without the leading slash means the same.
    """
    bare = topic.removeprefix("/")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", bare) or "__" in bare:
        want = "words of letters, digits and single underscores between slashes, none beginning with a digit"
        raise ConfigError("This is no name of a ROS 2 topic", expected=want, got=repr(topic))
    return f"rt/{bare}"
