"""`wayhand` with the arm without physics in place of every robot: `python stick_robot.py teleop out=… env=…`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from bridge_body import CARTESIAN, Plane, StickBody

from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.safety import Guard
from wayhand.vla.bridge.sensors import Plausibility
from wayhand.vla.contract import EnvSpec


class StickRobot:
    """What `robot=` would build; nothing about it is late on a busy machine."""

    plausibility = Plausibility(late=20.0, lag=20.0, old_image=20.0)

    def __call__(self) -> StickBody:
        body = StickBody(goal=9.0)
        body.time_limit = 60.0
        return body

    def guards(self) -> Sequence[Guard]:
        return ()

    def policy_spec(self) -> EnvSpec:
        return CARTESIAN

    def targets(self, policy: EnvSpec, robot: EnvSpec) -> JointTargets:
        return JointTargets(policy=policy, robot=robot, kinematics=Plane())


def main() -> int:
    from wayhand.scripts import deploy, teleop
    from wayhand.scripts.cli import main as cli

    for command in (deploy, teleop):
        command.robot_of = lambda robot, env: StickRobot()
    teleop.LoopSettings = partial(teleop.LoopSettings, stale=5.0, oldest=5.0, longest=9.0)
    return cli(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
