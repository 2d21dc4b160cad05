"""A robot of a ROS 2 graph in a process of its own, for the tests: it knows Wayhand from nothing but its topics.

Its types are written down from the ROS 2 message definitions and serialised by Cyclone DDS itself. It publishes a
joint state, an odometry and an image, and prints every command it gets and every remote endpoint it sees, as JSON.
Usage: python ros2_peer.py DOMAIN PNG_AS_HEX [follow | drive]; ends with its standard input. With `follow` its joints go
where they are commanded to, as under a joint_trajectory_controller and a forward_command_controller, its picture moves,
and its commands are not printed. With `drive` it is a base that does what its Twists say, and stands where none comes
for half a second, as a diff_drive_controller does; there is no picture.
"""

# Cyclone resolves the annotations of a type when it makes it, so they must not be strings.
import io
import json
import math
import select
import sys
import time
from dataclasses import dataclass

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import array, float64, int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from PIL import Image, ImageChops

CONFIG = """<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo"/></Interfaces>
<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""


@dataclass
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: int32 = 0
    nanosec: uint32 = 0


@dataclass
class Duration(IdlStruct, typename="builtin_interfaces.msg.dds_.Duration_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
class JointState(IdlStruct, typename="sensor_msgs.msg.dds_.JointState_"):
    header: Header
    name: sequence[str]
    position: sequence[float64]
    velocity: sequence[float64]
    effort: sequence[float64]


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    header: Header
    format: str
    data: sequence[uint8]


@dataclass
class JointTrajectoryPoint(IdlStruct, typename="trajectory_msgs.msg.dds_.JointTrajectoryPoint_"):
    positions: sequence[float64]
    velocities: sequence[float64]
    accelerations: sequence[float64]
    effort: sequence[float64]
    time_from_start: Duration


@dataclass
class JointTrajectory(IdlStruct, typename="trajectory_msgs.msg.dds_.JointTrajectory_"):
    header: Header
    joint_names: sequence[str]
    points: sequence[JointTrajectoryPoint]


@dataclass
class MultiArrayDimension(IdlStruct, typename="std_msgs.msg.dds_.MultiArrayDimension_"):
    label: str
    size: uint32
    stride: uint32


@dataclass
class MultiArrayLayout(IdlStruct, typename="std_msgs.msg.dds_.MultiArrayLayout_"):
    dim: sequence[MultiArrayDimension]
    data_offset: uint32


@dataclass
class Float64MultiArray(IdlStruct, typename="std_msgs.msg.dds_.Float64MultiArray_"):
    layout: MultiArrayLayout
    data: sequence[float64]


@dataclass
class Vector3(IdlStruct, typename="geometry_msgs.msg.dds_.Vector3_"):
    x: float64
    y: float64
    z: float64


@dataclass
class Point(IdlStruct, typename="geometry_msgs.msg.dds_.Point_"):
    x: float64
    y: float64
    z: float64


@dataclass
class Quaternion(IdlStruct, typename="geometry_msgs.msg.dds_.Quaternion_"):
    x: float64
    y: float64
    z: float64
    w: float64


@dataclass
class Pose(IdlStruct, typename="geometry_msgs.msg.dds_.Pose_"):
    position: Point
    orientation: Quaternion


@dataclass
class PoseWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.PoseWithCovariance_"):
    pose: Pose
    covariance: array[float64, 36]


@dataclass
class Twist(IdlStruct, typename="geometry_msgs.msg.dds_.Twist_"):
    linear: Vector3
    angular: Vector3


@dataclass
class TwistWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.TwistWithCovariance_"):
    twist: Twist
    covariance: array[float64, 36]


@dataclass
class Odometry(IdlStruct, typename="nav_msgs.msg.dds_.Odometry_"):
    header: Header
    child_frame_id: str
    pose: PoseWithCovariance
    twist: TwistWithCovariance


PUBLISHED = {"rt/joint_states": JointState, "rt/odom": Odometry, "rt/front/compressed": CompressedImage}
TAKEN = {
    "rt/arm_controller/joint_trajectory": JointTrajectory,
    "rt/gripper_controller/commands": Float64MultiArray,
    "rt/cmd_vel": Twist,
}


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def numbers(values: object) -> list[float]:
    return [float(v) for v in values]


def describe(sample: object) -> object:
    if isinstance(sample, JointTrajectory):
        points = [
            [numbers(p.positions), numbers(p.velocities), p.time_from_start.sec + p.time_from_start.nanosec * 1e-9]
            for p in sample.points
        ]
        return {"names": list(sample.joint_names), "points": points}
    if isinstance(sample, Float64MultiArray):
        return {"data": numbers(sample.data)}
    return {"linear": sample.linear.x, "left": sample.linear.y, "turn": sample.angular.z}


class Arm:
    """Joints that go straight from one commanded point to the next; without a command they rest."""

    def __init__(self) -> None:
        self.positions = {"width": 0.04, "q2": -0.2, "q1": 0.3}
        self.begun = (0.0, dict(self.positions))
        self.ahead: list[tuple[float, dict[str, float]]] = []

    def take(self, sample: object) -> None:
        now = time.monotonic()
        self.advance(now)
        if isinstance(sample, JointTrajectory):
            self.begun = (now, dict(self.positions))
            seconds = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in sample.points]
            targets = [dict(zip(sample.joint_names, numbers(p.positions), strict=True)) for p in sample.points]
            self.ahead = [(now + s, t) for s, t in zip(seconds, targets, strict=True)]
        elif isinstance(sample, Float64MultiArray):
            self.positions["width"] = float(sample.data[0])

    def advance(self, now: float) -> None:
        while self.ahead and self.ahead[0][0] <= now:
            self.begun = self.ahead.pop(0)
            self.positions.update(self.begun[1])
        if self.ahead:
            (t0, before), (t1, after) = self.begun, self.ahead[0]
            for name, q in after.items():
                self.positions[name] = before[name] + (now - t0) / (t1 - t0) * (q - before[name])


class Base:
    """A differential drive."""

    def __init__(self) -> None:
        self.x, self.y, self.yaw, self.forward, self.turn = 1.5, -2.5, math.pi / 2, 0.0, 0.0
        self.now = self.told = time.monotonic()

    def take(self, sample: Twist) -> None:
        self.advance(time.monotonic())
        self.forward, self.turn, self.told = float(sample.linear.x), float(sample.angular.z), self.now

    def advance(self, now: float) -> None:
        if now - self.told > 0.5:
            self.forward = self.turn = 0.0
        dt, self.now = now - self.now, now
        middle = self.yaw + self.turn * dt / 2
        self.x += self.forward * dt * math.cos(middle)
        self.y += self.forward * dt * math.sin(middle)
        self.yaw += self.turn * dt

    def pose(self) -> Pose:
        return Pose(Point(self.x, self.y, 0.0), Quaternion(0.0, 0.0, math.sin(self.yaw / 2), math.cos(self.yaw / 2)))


def moved(png: bytes) -> bytes:
    """The picture, shifted by a pixel every 20 ms."""
    with Image.open(io.BytesIO(png)) as image:
        shifted = ImageChops.offset(image.convert("RGB"), int(time.monotonic() * 50))
    out = io.BytesIO()
    shifted.save(out, "PNG")
    return out.getvalue()


def main(number: int, image: bytes, mode: str) -> None:
    follow, drives = mode == "follow", mode == "drive"
    domain = Domain(number, CONFIG)
    me = DomainParticipant(number)
    # As ros2_control does: reliable publishers of state, subscriptions with the defaults of the middleware.
    cdr = Policy.DataRepresentation(use_cdrv0_representation=True)
    reliable = Qos(Policy.Reliability.Reliable(max_blocking_time=100_000_000), Policy.History.KeepLast(10), cdr)
    writers = {name: DataWriter(me, Topic(me, name, kind), reliable) for name, kind in PUBLISHED.items()}
    readers = {name: DataReader(me, Topic(me, name, kind), reliable) for name, kind in TAKEN.items()}
    endpoints = {
        "publication": BuiltinDataReader(me, BuiltinTopicDcpsPublication),
        "subscription": BuiltinDataReader(me, BuiltinTopicDcpsSubscription),
    }
    header = Header(Time(), "base")
    zeros = [0.0] * 36
    arm, base, cycle = Arm(), Base(), 0
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        header.stamp = Time(int(time.time()), int(time.time() % 1 * 1e9))
        arm.advance(time.monotonic())
        writers["rt/joint_states"].write(JointState(header, list(arm.positions), list(arm.positions.values()), [], []))
        pose = Pose(Point(1.5, -2.5, 0.0), Quaternion(0.0, 0.0, 2**-0.5, 2**-0.5))
        twist = Twist(Vector3(0.25, 0.0, 0.0), Vector3(0.0, 0.0, -0.5))
        if drives:
            base.advance(time.monotonic())
            pose = base.pose()
        odometry = Odometry(
            Header(header.stamp, "odom"), "base", PoseWithCovariance(pose, zeros), TwistWithCovariance(twist, zeros)
        )
        writers["rt/odom"].write(odometry)
        cycle += 1
        if image and (cycle % 4 == 0 or not follow):
            picture = moved(image) if follow else image
            writers["rt/front/compressed"].write(CompressedImage(header, "png", list(picture)))
        for name, reader in readers.items():
            for sample in reader.take(16):
                if not isinstance(sample, TAKEN[name]):
                    continue
                if drives:
                    if isinstance(sample, Twist):
                        base.take(sample)
                elif follow:
                    arm.take(sample)
                else:
                    say(topic=name, command=describe(sample))
        for kind, reader in endpoints.items():
            for found in reader.take(64):
                if getattr(found, "participant_key", me.guid) != me.guid:
                    say(endpoint=kind, topic=found.topic_name, type=found.type_name)
    del domain


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]), sys.argv[3] if sys.argv[3:] else "")
