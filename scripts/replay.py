"""`wayhand replay`: run a recorded run again, command by command, through the safe loop."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..datasets.store import Dataset
from ..vla.bridge.chunking import JointTargets
from ..vla.bridge.keyboard import KeyboardStop
from ..vla.bridge.limits import joint_indices
from ..vla.bridge.planner import Planner
from ..vla.bridge.process import LoopSettings
from ..vla.bridge.recorder import EpisodeRecorder, Trace
from ..vla.bridge.robots.simulated import BodyFactory, SimulatedBody
from ..vla.bridge.session import Episode, Outcome, Session
from ..vla.bridge.shared import LONGEST_CHUNK
from ..vla.bridge.virtual import run_virtual
from ..vla.config import Config, instantiate
from ..vla.contract import ActionChunk, EnvSpec, Memory, Observation
from ..vla.contract import Episode as Recorded
from ..vla.errors import ConfigError, DataError
from .compose import load
from .live import live_view, require_view
from .recording import DatasetSink
from .simulated import SimulatedBodyFactory

HELP = """\
Usage: wayhand replay data=DIR [episode=K] [env=ENV] [robot=ROBOT] [key=value …]

Sends the filtered commands of a recorded run to the robot again, in the same scene and through the same safe loop, and
says by how much commands and joints differ. Space, Escape or q is the emergency stop.

Examples:
  wayhand deploy checkpoint=runs/pick-policy env=tabletop/pick virtual=true episodes=5 record=runs/pick-runs
  wayhand replay data=runs/pick-runs episode=3 env=tabletop/pick virtual=true
  wayhand replay data=runs/pick-runs episode=3 env=tabletop/pick out=runs/pick-replay
"""
EXECUTE = 2
"""Control periods between two chunks: at 1 kHz, a chunk of `LONGEST_CHUNK` commands is a quarter of a second."""
HOLD = 1.0
"""Seconds for which the last command is held at the end."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    env: Config
    robot: Config
    data: Path
    episode: int
    virtual: bool
    rate_hz: float | None
    priority: int
    awake_us: float
    out: Path | None
    rerun: bool | str | None

    def __post_init__(self) -> None:
        if self.rerun and self.virtual:
            raise ConfigError("'rerun' shows a run in real time", run="leave virtual=true away")
        if self.awake_us < 0:
            raise ConfigError("'awake_us' is too small", expected="at least 0", got=str(self.awake_us))


class RecordedCommands:
    """A policy that asks for the commands of a recorded run at their own times, counted from the first observation.

    Args:
        trace: of the run.
        spec: of the robot.
    """

    def __init__(self, trace: Trace, spec: EnvSpec) -> None:
        self._spec = spec
        last = trace.times[-1]
        held = last + spec.control_dt * np.arange(1, round(HOLD / spec.control_dt) + 1)
        self._times = np.concatenate([trace.times, held])
        self._commands = np.concatenate([trace.commands, np.repeat(trace.commands[-1:], len(held), axis=0)])

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """A start time per environment, not known yet."""
        self._spec.require_same(spec, "the recorded robot (left) meets this one (right)")
        return [None for _ in seeds]

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """The commands after each observation's time, float64."""
        starts = [o.time if start is None else float(start) for o, start in zip(observations, memory, strict=True)]
        return [self._after(o.time, start) for o, start in zip(observations, starts, strict=True)], starts, {}

    def _after(self, time: float, start: float) -> ActionChunk:
        first = int(np.searchsorted(self._times, time - start + 1e-9, side="right"))
        first = min(first, len(self._times) - 1)
        window = slice(first, first + LONGEST_CHUNK)
        return ActionChunk(self._commands[window], start + self._times[window], time)


class _Timed:
    """Builds a body whose episode lasts `seconds`."""

    def __init__(self, factory: BodyFactory, seconds: float) -> None:
        self._factory, self._seconds = factory, seconds

    def __call__(self) -> SimulatedBody:
        return _TimedBody(self._factory(), self._seconds)


class _TimedBody:
    def __init__(self, body: SimulatedBody, seconds: float) -> None:
        self._body, self.time_limit = body, seconds
        self.spec, self.limits, self.physics_dt = body.spec, body.limits, body.physics_dt
        self.reset, self.step, self.close = body.reset, body.step, body.close
        self.observe, self.observe_state, self.outcome = body.observe, body.observe_state, body.outcome


def main(overrides: list[str]) -> int:
    cfg, _ = load("replay", overrides, ReplayConfig)
    factory = instantiate(cfg.robot, env=cfg.env)
    assert isinstance(factory, SimulatedBodyFactory)
    console = Console()
    recorded = Dataset(cfg.data).episode(cfg.episode)
    config = same_scene(cfg, recorded, console)
    rate_hz = float(config["rate_hz"]) if cfg.rate_hz is None else cfg.rate_hz
    settings = LoopSettings(
        rate_hz=rate_hz, priority=cfg.priority, awake=cfg.awake_us / 1e6, guards=factory.guards, traced=bool(cfg.rerun)
    )
    require_view(cfg.rerun)
    with ExitStack() as stack:
        folder = cfg.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wayhand-")))
        sink = DatasetSink(folder / "run")
        if sink.path.exists():
            raise ConfigError("There is a replay already", got=str(sink.path), run="choose another out=DIR")
        if cfg.virtual:
            outcome, replayed = in_virtual_time(recorded, factory, settings, sink)
        else:
            outcome, replayed = in_real_time(recorded, factory, settings, sink, cfg.rerun)
    result = {
        "data": str(cfg.data),
        "episode": cfg.episode,
        "outcome": asdict(outcome),
        "recorded_outcome": recorded.provenance["outcome"],
        **differences(recorded, replayed),
    }
    show(console, result)
    if cfg.out is not None:
        save(cfg.out / "replay.json", result)
        console.print(f"report {cfg.out / 'replay.json'}", soft_wrap=True)
    return 0


def same_scene(cfg: ReplayConfig, recorded: Recorded, console: Console) -> Mapping[str, Any]:
    """The configuration of the recorded run; raises where its scene is not the one configured here."""
    config = recorded.provenance.get("config", {})
    if not {"env", "robot", "rate_hz"} <= set(config):
        raise DataError(f"Episode {cfg.episode} of {cfg.data} is no recorded run", run="wayhand deploy … record=DIR")
    ours, theirs = json.loads(json.dumps(cfg.env.to_dict())), config["env"]
    if different := sorted(k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k)):
        raise ConfigError(
            "The run was recorded in another environment",
            expected=", ".join(f"env.{k}={theirs.get(k)}" for k in different),
            got=", ".join(f"env.{k}={ours.get(k)}" for k in different),
            run="the same env=… as the recorded run's",
        )
    if json.loads(json.dumps(cfg.robot.to_dict())) != config["robot"]:
        console.print("[yellow]The robot is configured in another way than in the recorded run.[/yellow]")
    return config


def _timed(recorded: Recorded, factory: BodyFactory) -> tuple[Episode, Trace, _Timed]:
    trace = Trace.of(recorded)
    about = recorded.provenance["episode"]
    seconds = max(float(trace.times[-1]), recorded.final.time - float(recorded.columns["observation.times.state"][0]))
    return Episode(int(about["seed"]), about["options"], EXECUTE, 0.0), trace, _Timed(factory, seconds)


def _planner(trace: Trace, spec: EnvSpec) -> Planner:
    policy = RecordedCommands(trace, spec)
    return Planner(policy=policy, spec=spec, targets=JointTargets(policy=spec, robot=spec))


def in_virtual_time(
    recorded: Recorded, factory: BodyFactory, settings: LoopSettings, sink: DatasetSink
) -> tuple[Outcome, Recorded]:
    """The recorded run again on a virtual clock."""
    episode, trace, timed = _timed(recorded, factory)
    body = timed()
    try:
        recorder = EpisodeRecorder(body.spec, settings.rate_hz)
        outcome, _ = run_virtual(episode, body, _planner(trace, body.spec), settings, recorder)
    finally:
        body.close()
    replayed = recorder.finish(outcome.success, {"episode": asdict(episode), "outcome": asdict(outcome)})
    if replayed is None:
        raise DataError("The replay ended before its first observation", got=outcome.reason)
    with sink(replayed.spec) as writer:
        writer.append(replayed)
    return outcome, replayed


def in_real_time(
    recorded: Recorded,
    factory: BodyFactory,
    settings: LoopSettings,
    sink: DatasetSink,
    rerun: bool | str | None = None,
) -> tuple[Outcome, Recorded]:
    """The recorded run again in real time; `rerun` as the option of this name."""
    episode, trace, timed = _timed(recorded, factory)
    with (
        Session(factory=timed, settings=settings, sink=sink) as session,
        live_view(rerun, session),
        KeyboardStop(session.estop),
    ):
        outcome = session.run(episode, _planner(trace, session.spec))
        if session.recording_warning:
            raise DataError(session.recording_warning)
    return outcome, Dataset(sink.path).episode(0)


def differences(recorded: Recorded, replayed: Recorded) -> dict[str, Any]:
    """By how much the replay differs while both last: largest and root mean square over time, per joint and over all.

    The replay is interpolated linearly at the recorded times, both counted from the first observation.
    """
    a, b = Trace.of(recorded), Trace.of(replayed)
    names = [e.name for e in recorded.spec.action_elements]
    joints = joint_indices([e.name for e in recorded.spec.state], names)
    positions = _difference(_states(recorded, joints), _states(replayed, joints))
    commands = _difference((a.times, a.commands), (b.times, b.commands))
    return {
        "joint_difference": {name: _size(positions[:, k]) for k, name in enumerate(names)},
        "joints": _size(positions),
        "commands": _size(commands),
        "compared_observations": len(positions),
        "compared_commands": len(commands),
    }


def _states(episode: Recorded, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    times = np.append(episode.columns["observation.times.state"], episode.final.times["state"])
    states = np.concatenate([episode.columns["observation.state"], episode.final.state[None]])
    return times - times[0], states[:, joints].astype(np.float64)


def _difference(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    times, values = a
    both = (times >= b[0][0] - 1e-9) & (times <= b[0][-1] + 1e-9)
    again = [np.interp(times[both], b[0], b[1][:, k]) for k in range(values.shape[1])]
    return values[both] - np.stack(again, axis=1)


def _size(difference: np.ndarray) -> dict[str, float]:
    if not difference.size:
        return {"max": 0.0, "rms": 0.0}
    return {"max": float(np.abs(difference).max()), "rms": float(np.sqrt(np.mean(difference**2)))}


def show(console: Console, result: Mapping[str, Any]) -> None:
    table = Table("", "largest difference", "root mean square", title=f"replay · {result['data']} {result['episode']}")
    for name, size in {**result["joint_difference"], "all joints": result["joints"]}.items():
        table.add_row(Text(name), f"{size['max']:.2g}", f"{size['rms']:.2g}")
    table.add_row("commands", f"{result['commands']['max']:.2g}", f"{result['commands']['rms']:.2g}")
    console.print(table)
    ours, theirs = result["outcome"], result["recorded_outcome"]
    console.print(
        f"{result['compared_observations']} observations and {result['compared_commands']} commands in rad and m; "
        f"success {ours['success']}, recorded {theirs.get('success')}; stop: {ours['reason'] or 'none'}, "
        f"recorded {theirs.get('reason') or 'none'}",
        soft_wrap=True,
    )


def save(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".json.partial")
    temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    os.replace(temporary, path)
