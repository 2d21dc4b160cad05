"""The robot a command is for: what `robot=` names, ready to travel to the robot's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..vla.bridge.base import BaseTargets
from ..vla.bridge.chunking import JointTargets
from ..vla.bridge.robots.calibrated import CalibratedDriver
from ..vla.bridge.robots.driver import Driver
from ..vla.bridge.robots.robot_file import RobotFile
from ..vla.bridge.safety import Guard
from ..vla.bridge.sensors import Plausibility
from ..vla.config import Config, instantiate, resolve
from ..vla.contract import EnvSpec
from ..vla.errors import ConfigError
from .follower_policy import FollowerPolicy
from .simulated import SimulatedBodyFactory
from .simulated_base import SimulatedBaseFactory


def _ros2(file: RobotFile) -> Driver:
    from ..vla.bridge.robots.ros2_file import ros2_robot

    return ros2_robot(file)


def _lerobot(file: RobotFile) -> Driver:
    from ..vla.bridge.robots.lerobot import lerobot_robot

    return lerobot_robot(file)


DRIVERS: dict[str, Callable[[RobotFile], Driver]] = {"ros2": _ros2, "lerobot": _lerobot}


def _driver_class(file: RobotFile) -> Callable[[RobotFile], Driver]:
    """The class that a file names; one of a package that declares itself a plugin, as `vla.config.resolve` wants it."""
    if "." not in file.driver:
        raise ConfigError(f"{file.path} names an unknown driver", got=file.driver, exists=DRIVERS)
    found = resolve(file.driver)
    if not issubclass(found, Driver):
        raise ConfigError(f"{file.path} names a class that is no driver", expected="Driver", got=file.driver)
    return found


class FileRobot:
    """Builds the driver that a robot's file names; small enough to travel to the robot's process.

    Args:
        file: the robot's, see `vla.bridge.robots.robot_file`.
        driver: what the file must name; anything where None.
    """

    def __init__(self, *, file: str, driver: str | None = None) -> None:
        self.file = RobotFile.load(Path(file))
        if driver is not None and self.file.driver != driver:
            raise ConfigError(f"{file} is a robot of another driver", expected=driver, got=self.file.driver)
        self._build = DRIVERS.get(self.file.driver) or _driver_class(self.file)

    def __call__(self) -> Driver:
        raw = self.raw()
        file = self.file
        if all((c.sign, c.scale, c.offset) == (1, 1, 0) for c in file.calibration.values()):
            return raw
        return CalibratedDriver(raw, file.spec, file.limits, file.calibration)

    def raw(self) -> Driver:
        """The driver in the motors' own numbers, which a calibration begins with."""
        return self._build(self.file)

    def guards(self) -> Sequence[Guard]:
        """What the gate asks before every motion; built in the loop's process."""
        return () if self.file.model is None else self.file.model.guards()

    @property
    def plausibility(self) -> Plausibility:
        return self.file.plausibility

    def policy_spec(self) -> EnvSpec:
        """What a policy for this robot observes and commands."""
        base = self.file.base
        return self.file.spec if base is None else base.policy_spec(self.file.spec)

    def targets(self, policy: EnvSpec, robot: EnvSpec) -> JointTargets | BaseTargets:
        """From a policy's actions to the joints; Cartesian ones by the geometry that the file names."""
        if (base := self.file.base) is not None:
            limits = self.file.limits
            return BaseTargets(policy=policy, robot=robot, limits=limits, step=base.step_m, turn=base.turn_step_rad)
        direct = {e.name for group in policy.action if group.kind == "joint_position" for e in group.elements}
        arm = [e.name for e in robot.action_elements if e.name not in direct]
        cartesian = any(group.kind == "ee_delta" for group in policy.action)
        model = self.file.model if cartesian else None
        return JointTargets(policy=policy, robot=robot, kinematics=None if model is None else model.kinematics(arm))


Simulated = SimulatedBodyFactory | SimulatedBaseFactory


def robot_of(robot: Config, env: Config) -> Simulated | FileRobot:
    """What `robot=` says: one simulated in `env`, or that of a file."""
    made = instantiate(robot) if "file" in robot else instantiate(robot, env=env)
    assert isinstance(made, Simulated | FileRobot)
    return made


def oracle_of(robot: Simulated | FileRobot, split: str) -> FollowerPolicy:
    """The expert that `checkpoint=oracle` names."""
    if not isinstance(robot, SimulatedBaseFactory):
        raise ConfigError("Only a simulated base has an expert here", run="robot=simulated_base env=house/pointnav")
    return robot.oracle(split)


def shorthand(overrides: Sequence[str]) -> list[str]:
    """`robot=FILE.toml` said in full; everything else as it is."""
    out: list[str] = []
    for override in overrides:
        named = override.startswith("robot=") and override.endswith(".toml")
        out += ["robot=file", f"robot.file='{override.removeprefix('robot=')}'"] if named else [override]
    return out
