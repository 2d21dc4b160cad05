"""A run in real time: the robot and the loop each in a process of its own, the policy in the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any

from ..contract import ActionChunk, EnvSpec, Observation
from ..errors import RobotError
from . import process, watchdog
from .cells import EmergencyStop
from .child import START_TIMEOUT, STOP_TIMEOUT, Child
from .clock import MonotonicClock
from .console.panel import Panel
from .limits import Limits
from .loop_link import EXIT, FAULT, HOLD, LOST, RUN, LoopLink, Status, encode_reason, read_status
from .planner import LatencyEstimate, Pilot
from .process import LoopSettings
from .recorder_process import RecorderLink, SinkFactory
from .robots import serving
from .robots.link import RobotLink, decode_outcome
from .robots.serving import RobotFactory
from .sensors import CameraWatch
from .shared import to_observation, write_chunk

POLL = 0.002


@dataclass(frozen=True)
class Outcome:
    """How one episode on a robot ended.

    Args:
        success: None where nobody knows: a real robot does not judge its task.
        seconds: from its start to its end.
        reason: why the safety gate stopped it; empty where it did not.
        inferences: chunks the policy made.
    """

    seed: int
    success: bool | None
    seconds: float
    reason: str = ""
    inferences: int = 0


@dataclass(frozen=True)
class Episode:
    """What to run.

    Args:
        seed, options: of the scene.
        execute: control periods between two observations the policy plans from.
        latency: added between an observation and the chunk planned from it [s].
    """

    seed: int
    options: Mapping[str, Any]
    execute: int
    latency: float


class PolicyUnreachable(RobotError):
    """The policy cannot begin an episode; the robot was not touched, and a later try may succeed."""


class Session:
    """Context manager around the processes of the robot, the control loop and its watchdog.

    Args:
        factory: builds the robot, a simulated body or a driver; it travels to the robot's process, so it must be
            importable there.
        settings: of the loop.
        sink: where recorded episodes go, opened in the recorder's own process; None records nothing.
        provenance: what every recorded episode says of the run besides its seed, options and end; JSON types.

    `spec` is the robot's, `warning` one line about missing real-time rights, empty where there are all. `estop` is a
    button that any process may press by its name; while it is pressed no episode begins.
    """

    def __init__(
        self,
        *,
        factory: RobotFactory,
        settings: LoopSettings,
        sink: SinkFactory | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        settings = replace(settings, traced=settings.traced or sink is not None)
        self._provenance = dict(provenance or {})
        self._recorder: RecorderLink | None = None
        self._clock = MonotonicClock()
        self._epoch, self._seen = 0, 0
        with ExitStack() as stack:  # undoes a start that fails half-way
            self._robot = Child("robot", serving.serve, factory, settings.rate_hz)
            hello = self._robot.started()
            stack.callback(self._robot.close)
            self.spec, self.limits = EnvSpec.from_dict(hello["spec"]), Limits.from_json(hello["limits"])
            self._judged = bool(hello["judged"])
            self._body = RobotLink(self.spec)
            stack.callback(self._body.close)
            self._link = LoopLink(self.spec.action_dim)
            stack.callback(self._link.close)
            self._robot.tell({"rings": self._body.names})
            rings = (self._body.names, self._link.names)
            if sink is not None:
                names = {"observation": self._body.names["observation"], "ticks": self._link.names["ticks"]}
                self._recorder = RecorderLink(sink, self.spec, settings.rate_hz, names)
                stack.callback(self._recorder.close)
            self._watchdog = Child(
                "watchdog", watchdog.serve, self.spec, settings.rate_hz, settings.priority + 10,
                self._body.names, self._link.beat.name,
            )  # fmt: skip
            self._watchdog.started()
            stack.callback(self._watchdog.close)
            stack.callback(self._dismiss)
            self._cameras = CameraWatch(self.spec, settings.plausibility)
            self._loop = Child("control loop", process.serve, self.spec, self.limits, settings, *rings)
            self.warning: str = self._loop.started()["warning"]
            stack.callback(self._loop.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the robot, end both processes, give the shared memory back."""
        self._control(EXIT)
        try:
            self._robot.tell({"exit": True})
        except RobotError:  # it is gone
            pass
        self._stack.close()

    @property
    def status(self) -> Status:
        status = read_status(self._link.status)
        assert status is not None, "the loop publishes a status before it says that it is ready"
        return status

    @property
    def recording_warning(self) -> str:
        """Why nothing is recorded any more; empty while all is well and where nothing was to be recorded."""
        return "" if self._recorder is None else self._recorder.warning

    @property
    def recorded(self) -> int:
        """Episodes of this session that are in the dataset."""
        return 0 if self._recorder is None else self._recorder.episodes

    @property
    def estop(self) -> EmergencyStop:
        return self._link.estop

    @property
    def panel(self) -> Panel:
        """The buttons of a console, if one is opened."""
        return self._link.panel

    @property
    def names(self) -> tuple[dict[str, str], dict[str, str]]:
        """Of the shared memory of a `RobotLink` and of a `LoopLink`, for other processes to look at."""
        return self._body.names, self._link.names

    def note(self, **facts: Any) -> None:
        """Say this of every episode recorded from now on, the present one included; JSON types."""
        self._provenance.update(facts)

    def policy_lost(self) -> None:
        """Say that the policy is gone: what it left is executed for `LoopSettings.stale`, then the robot stops."""
        self._control(LOST)

    def _dismiss(self) -> None:
        self._link.beat["leave"] = 1.0

    def _control(self, mode: int, reason: str = "") -> None:
        self._link.control.write(mode=mode, epoch=self._epoch, reason=encode_reason(reason))

    def run(
        self,
        episode: Episode,
        planner: Pilot,
        on_status: Callable[[Status, float], None] | None = None,
        keep: Callable[[Outcome], bool] | None = None,
        alive: Callable[[], bool] | None = None,
    ) -> Outcome:
        """One episode: reset the scene and the gate, let the planner drive until success, time limit or a latch.

        Args:
            planner: of a policy, or a human.
            on_status: called with the loop's status and the seconds since the start, between inferences.
            keep: asked at the end whether the recording is kept; one that was interrupted is not. None keeps all.
            alive: whether the policy is there, asked between inferences too; must not wait. None is a policy of ours.

        The robot is at rest when this returns or raises, `KeyboardInterrupt` included.

        Raises `RobotError` where a process failed or the emergency button is pressed, `PolicyUnreachable` where the
        policy cannot begin.
        """
        if self.estop.pressed:
            raise RobotError("The robot is held", got=self.estop.reason, run="session.estop.release()")
        self._epoch += 1
        self._cameras.reset()
        try:
            planner.reset(episode.seed)
        except RobotError as error:
            raise PolicyUnreachable(error.what, got=error.got) from None
        if self._recorder is not None:
            self._recorder.begin(self._epoch, orphaned=keep is None)
        request = {"seed": episode.seed, "options": dict(episode.options), "epoch": self._epoch}
        self._robot.tell({"reset": request})
        answer = self._robot.hear(START_TIMEOUT)
        start, limit = float(answer["start"]), float(answer["time_limit"])
        self._control(RUN)
        outcome: Outcome | None = None
        try:
            outcome = self._drive(episode, planner, start, limit, on_status, alive or (lambda: True))
            return outcome
        finally:
            try:
                self.halt()
            finally:
                self._end_recording(episode, outcome, keep)

    def _end_recording(self, episode: Episode, outcome: Outcome | None, keep: Callable[[Outcome], bool] | None) -> None:
        kept = keep is None or (outcome is not None and keep(outcome))
        if self._recorder is not None:
            ended = {"reason": "interrupted"} if outcome is None else asdict(outcome)
            about = {**self._provenance, "episode": asdict(episode), "outcome": ended}
            self._recorder.end(None if outcome is None else outcome.success, about, kept=kept)

    def _drive(
        self,
        episode: Episode,
        planner: Pilot,
        start: float,
        limit: float,
        on_status: Callable[[Status, float], None] | None,
        alive: Callable[[], bool],
    ) -> Outcome:
        due, inferences, there = start, 0, True
        latency = LatencyEstimate()
        while True:
            observation = self._newest()
            # Every one is judged, planned from or not: a camera's fault shows in so many frames.
            usable = observation is not None and self._trusted(observation)
            at = start if planner.urgent else due
            if observation is not None and usable and observation.time >= at - 1e-6:
                expected = max(latency.seconds, episode.latency)
                chunk = self._planned(planner, observation, expected, episode.execute)
                if episode.latency > 0:
                    self._clock.sleep_until(observation.time + episode.latency)
                if chunk is not None:
                    write_chunk(self._link.chunks, chunk, self._epoch)
                    latency.add(self._clock.now() - observation.time)
                    inferences += 1
                due = planner.due(observation.time, self._clock.now() - observation.time, episode.execute)
            there, before = alive(), there
            if before and not there:
                self.policy_lost()
            self._robot.check()
            self._loop.check()
            self._watchdog.check()
            status, (outcome, seconds) = self.status, self._progress(start)
            if on_status is not None:
                on_status(status, seconds)
            reason = status.reason if status.latched and status.epoch == self._epoch else ""
            if outcome is not None or reason or planner.finished or seconds > limit - 1e-6:
                success = bool(outcome) if self._judged else None
                return Outcome(episode.seed, success, seconds, reason, inferences)
            self._clock.sleep_until(self._clock.now() + POLL)

    def _planned(self, planner: Pilot, observation: Observation, latency: float, execute: int) -> ActionChunk | None:
        """A chunk, or None where the policy's server is out of reach: then what is left of the last one is the end."""
        try:
            return planner.plan(observation, latency, execute)
        except RobotError:
            self.policy_lost()
            return None

    def _newest(self) -> Observation | None:
        """The newest observation of this episode if it is new."""
        if self._body.observation.count == self._seen:
            return None
        self._seen = self._body.observation.count
        record = self._body.observation.latest()
        if record is None or int(record["epoch"]) != self._epoch:
            return None
        return to_observation(record)

    def _trusted(self, observation: Observation) -> bool:
        """Whether to plan from `observation`; a camera that is broken latches the robot."""
        usable, fault = self._cameras.judge(observation, self._clock.now())
        if fault:
            self._control(FAULT, fault)
        return usable

    def _progress(self, start: float) -> tuple[bool | None, float]:
        record = self._body.state.latest()
        assert record is not None
        if int(record["epoch"]) != self._epoch:
            return None, 0.0
        return decode_outcome(int(record["outcome"])), float(record["time"]) - start

    def halt(self) -> None:
        """Stop the robot and wait until it rests."""
        self._control(HOLD)
        deadline = self._clock.now() + STOP_TIMEOUT
        while True:
            self._loop.check()
            status = self.status
            if status.latched and not status.moving:
                return
            if self._clock.now() > deadline:
                raise RobotError("The robot does not come to rest", got=f"still moving after {STOP_TIMEOUT:g} s")
            self._clock.sleep_until(self._clock.now() + POLL)

    def finish(self) -> dict[str, Any]:
        """End the loop and return its report (see `ControlLoop.report`)."""
        self._control(EXIT)
        return self._loop.hear(STOP_TIMEOUT)["report"]
