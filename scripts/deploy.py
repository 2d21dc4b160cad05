"""`wayhand deploy`: drive a robot, in real time or in virtual time, through the safe loop."""

from __future__ import annotations

from rich.console import Console

from ..vla.errors import ConfigError
from .compose import load
from .deploy_config import DeployConfig
from .deploy_live import in_real_time
from .deploy_virtual import in_virtual_time
from .robots import FileRobot, robot_of, shorthand

HELP = """\
Usage: wayhand deploy checkpoint=RUN [robot=ROBOT] [env=ENV] [key=value …]

Drives the robot with a policy: chunks are timestamped, interpolated on absolute deadlines in a process of their own,
and pass a safety gate that stops and holds with a reason. Ends with a table and deploy.json. Space, Escape or q is the
emergency stop; Ctrl-C stops the robot before it leaves.

Examples:
  wayhand deploy robot=simulated checkpoint=runs/pick-policy env=tabletop/pick seconds=60
  wayhand deploy checkpoint=none env=tabletop/pick seconds=10 rate_hz=500   # the loop alone, standing still
  wayhand deploy checkpoint=ws://127.0.0.1:8000 env=tabletop/pick           # the policy of `wayhand serve`
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick virtual=true episodes=200 baseline=runs/pick-eval
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick virtual=true latency_ms=100
  wayhand deploy robot=arm.toml checkpoint=runs/arm-policy instruction="pick up the cube" seconds=60   # a real one
  wayhand deploy robot=simulated_base checkpoint=oracle env=house/pointnav env.continuous=true seconds=60   # wheels
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick record=runs/pick-runs    # then: wayhand replay
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick console=true       # a web page with the robot
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick shadow=true        # the robot is not moved
"""


def main(overrides: list[str]) -> int:
    cfg, config = load("deploy", shorthand(overrides), DeployConfig)
    robot = robot_of(cfg.robot, cfg.env)
    if not cfg.virtual:
        return in_real_time(cfg, config, robot, Console())
    if isinstance(robot, FileRobot):
        raise ConfigError("A real robot lives in real time", run="leave virtual=true away")
    return in_virtual_time(cfg, config, robot, Console())
