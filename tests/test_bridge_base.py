"""A base through the bridge: velocities and moves as odometer targets, free space, guards, and houses end to end."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wayhand.scripts import collect, train
from wayhand.scripts.simulated_base import NavigationBody, SimulatedBaseFactory
from wayhand.scripts.trained import load_trained
from wayhand.vla.bridge.base import BASE_SPEED, BASE_TARGET, FAR, STOOD, TRAVEL, TURNED, BaseTargets, base_group
from wayhand.vla.bridge.base_moves import smooth
from wayhand.vla.bridge.base_space import (
    MARGIN,
    PLACE,
    PLACE_FROM,
    SCAN,
    SCAN_FROM,
    ClearanceGuard,
    FreeSpace,
    PlacedZones,
    Whereabouts,
    along,
    rotated,
)
from wayhand.vla.bridge.chunking import Going
from wayhand.vla.bridge.limits import Limits, joint_indices
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode, Outcome
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.bridge.zones import Box, ZoneGuard
from wayhand.vla.config import Config
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation
from wayhand.vla.errors import ConfigError, SpecError

DT = 0.2
STATE = (Element("gps_forward", "m"), Element("compass", "rad"))
WHEELS = ActionGroup(
    "base", "base_velocity", (Element("forward", "m/s"), Element("turn", "rad/s")), (-1.0, -2.0), (1.0, 2.0)
)
MOVES = ("stop", "forward", "left", "right")
LIMITS = Limits(
    ("travel", "turned", "arrived"),
    np.array([-FAR, -FAR, 0.0]),
    np.array([FAR, FAR, 1.0]),
    np.array([1.2, 2.4, 100.0]),
    np.array([2.0, 4.0, 1e4]),
    np.array([20.0, 40.0, 1e6]),
    np.array([0.0, 0.0, 1.0]),
)


def spec_of(group: ActionGroup, dt: float = DT) -> EnvSpec:
    return EnvSpec("walker", dt, (), STATE, (group,))


def discrete(choices: tuple[str, ...] = MOVES) -> EnvSpec:
    group = ActionGroup("move", "discrete", (Element("move", "index"),), (0.0,), (len(choices) - 1.0,), choices=choices)
    return spec_of(group, 1.0)


ROBOT = EnvSpec("walker", DT, (), (*STATE, *base_group(arrives=True).elements), (base_group(arrives=True),))


def targets(policy: EnvSpec, limits: Limits = LIMITS, **options: Any) -> BaseTargets:
    return BaseTargets(policy=policy, robot=ROBOT, limits=limits, **options)


def seen(travel: float = 0.0, turned: float = 0.0, extras: dict[str, Any] | None = None) -> Observation:
    state = np.array([0.0, 0.0, travel, turned, 0.0], np.float32)
    return Observation({"state": 0.0}, {}, state, extras={k: np.asarray(v) for k, v in (extras or {}).items()})


def chunk(actions: Any, dt: float = DT, time: float = 0.0) -> ActionChunk:
    rows = np.array(actions, np.float32)
    return ActionChunk(rows, time + dt * np.arange(1, len(rows) + 1), time)


# --- targets ---------------------------------------------------------------------------------------------------


def test_velocities_are_integrated_within_acceleration_and_jerk() -> None:
    out = targets(spec_of(WHEELS))(chunk([[0.5, -1.0]] * 10), seen(3.0, 1.0))
    assert out.times[-1] == pytest.approx(2.0) and (np.diff(out.times) > 0).all()
    path = np.vstack([[3.0, 1.0], out.actions[:, :2]])
    dt = out.times[0]
    speed = np.diff(path, axis=0) / dt
    rate = np.diff(speed, axis=0, prepend=0.0) / dt
    assert (np.abs(rate) <= LIMITS.acceleration[:2]).all()
    assert (np.abs(np.diff(rate, axis=0, prepend=0.0)) / dt <= LIMITS.jerk_at(dt)[:2] + 1e-9).all()
    np.testing.assert_allclose(out.actions[-1, :2] - [3.0, 1.0], [1.0, -2.0], atol=0.05)  # the way to start is made up
    np.testing.assert_allclose(speed[-1], [0.5, -1.0], atol=0.05)
    assert not out.actions[:, 2].any()


def test_a_velocity_that_is_driven_already_goes_on() -> None:
    going = seen(extras={BASE_TARGET: [2.0, 1.0], BASE_SPEED: [0.5, 1.0]})
    out = targets(spec_of(WHEELS))(chunk([[0.5, 1.0]] * 5), going)
    np.testing.assert_allclose(out.actions[:, 0], 2.0 + 0.5 * out.times)
    np.testing.assert_allclose(out.actions[:, 1], 1.0 + 1.0 * out.times)


def test_a_late_chunk_begins_where_the_base_will_be() -> None:
    """Until it comes the base goes on, and then along the way of the chunk from where it has come to on that."""
    drive = targets(spec_of(WHEELS))
    late = drive(chunk([[0.5, 0.0]] * 8), seen(), Going(None, 0.4))
    prompt = drive(chunk([[0.5, 0.0]] * 8), seen())
    assert not late.actions[late.times <= 0.4 + 1e-9].any()
    np.testing.assert_allclose(late.actions[20:], prompt.actions[:-20], atol=1e-9)
    before = ActionChunk(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), np.array([0.0, 2.0]), 0.0)
    joined = drive(chunk([[0.5, 0.0]] * 8), seen(), Going(before, 0.4))
    np.testing.assert_allclose(joined.actions[:, 0], 0.5 * joined.times, atol=1e-6)


def test_standing_still_for_half_a_second_is_arriving() -> None:
    drive = targets(spec_of(WHEELS))
    rows = [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    arrived = drive(chunk(rows), seen()).actions[:, 2].reshape(5, -1)[:, -1]
    assert arrived.tolist() == [0, 0, 0, 1, 1]
    assert drive(chunk(rows[1:]), seen(extras={STOOD: 0.4})).actions[:, 2].all()
    assert drive(chunk([[0.0, 0.0]]), seen()).actions[:, 2].all()
    assert drive(chunk([[0.04, -0.09]]), seen()).actions[:, 2].all()  # nearly
    assert not drive(chunk([[0.04, 0.21]]), seen()).actions[:, 2].any()
    patient = targets(spec_of(WHEELS), stand=0.8)  # what else its task says
    assert patient(chunk(rows), seen()).actions[:, 2].reshape(5, -1)[:, -1].tolist() == [0, 0, 0, 0, 1]
    stood = patient(chunk(rows[1:]), seen(extras={STOOD: 0.2})).actions[:, 2].reshape(4, -1)[:, -1]
    assert stood.tolist() == [0, 0, 1, 1]


def test_moves_are_smooth_and_end_at_rest() -> None:
    out = targets(discrete(), step=0.25, turn=0.5)(chunk([[1], [2], [3], [0]], 1.0), seen(1.0, 0.0))
    at = dict(zip(np.round(out.times, 9), out.actions, strict=True))
    for t, row in {1: [1.25, 0, 0], 2: [1.25, 0.5, 0], 3: [1.25, 0, 0], 4: [1.25, 0, 1]}.items():
        np.testing.assert_allclose(at[float(t)], row, atol=1e-12)
    speed = np.diff(np.vstack([[1.0, 0.0], out.actions[:, :2]]), axis=0) / 0.05
    assert np.abs(speed[[0, 19, 20, 39]]).max() < 0.02 and speed.max() < 1.875 * 0.5 + 1e-6


def test_a_slow_base_takes_longer_for_a_move() -> None:
    slow = LIMITS.scaled(0.1)
    out = targets(discrete(), slow, step=0.25)(chunk([[1]], 1.0), seen())
    assert out.times[-1] > 3.0 and out.actions[-1, 0] == pytest.approx(0.25)
    assert np.diff(out.actions[:, 0]).max() / np.diff(out.times).max() <= slow.velocity[0]


def test_the_smooth_way_has_the_rates_it_is_said_to_have() -> None:
    share = np.linspace(0, 1, 20_001)
    way, h = smooth(share), share[1]
    assert way[0] == 0 and way[-1] == pytest.approx(1)
    assert np.diff(way).max() / h == pytest.approx(1.875, rel=1e-3)
    assert np.diff(way, 2).max() / h**2 == pytest.approx(5.774, rel=1e-3)
    assert np.abs(np.diff(way, 3)).max() / h**3 == pytest.approx(60, rel=1e-2)


def test_what_is_malformed_is_left_to_the_gate() -> None:
    drive = targets(spec_of(WHEELS))
    assert drive(chunk([[0.1, 0.2, 0.3]]), seen()).actions.shape == (1, 0)
    assert np.isnan(drive(chunk([[math.nan, 0.0]]), seen()).actions).all()


def test_what_cannot_move_a_base_is_said() -> None:
    arm = ActionGroup("arm", "joint_position", (Element("q", "rad"),), (-1.0,), (1.0,))
    elements = (Element("forward", "m/s"), Element("left", "m/s"))
    sideways = ActionGroup("base", "base_velocity", elements, (-1.0, -1.0), (1.0, 1.0))
    for policy in (spec_of(arm), spec_of(sideways), discrete((*MOVES, "up", "down"))):
        with pytest.raises(SpecError):
            targets(policy)


def test_the_policy_sees_its_own_state() -> None:
    policy = targets(spec_of(WHEELS))
    assert policy.seen(seen(5.0, 6.0)).state.shape == (2,)


# --- free space ------------------------------------------------------------------------------------------------


def square(half: float, k: int = 72) -> np.ndarray:
    angles = np.arange(k) * 2 * np.pi / k
    return half / np.maximum(np.abs(np.cos(angles)), np.abs(np.sin(angles)))


def test_arcs_compose() -> None:
    a, turn = along(np.zeros(2), np.array([math.pi / 2, math.pi / 2]))
    np.testing.assert_allclose(a, [1.0, 1.0])  # a quarter of the unit circle
    assert turn == pytest.approx(math.pi / 2)
    np.testing.assert_allclose(rotated(np.array([1.0, 0.0]), math.pi / 2), [0.0, 1.0], atol=1e-12)


def test_depth_is_measured_to_the_wall() -> None:
    space = FreeSpace(square(1.0), np.zeros(2))
    for point in ([0.4, 0.0], [0.3, -0.3], [-0.9, 0.1], [1.2, 0.2]):
        far = np.abs(point).max()
        wanted = np.hypot(*point) * (1 / far - 1)
        assert space.depth(np.array(point)) == pytest.approx(wanted, abs=1e-9)
    assert FreeSpace(np.zeros(8), np.zeros(2)).depth(np.array([0.1, 0.0])) == pytest.approx(-0.1)
    assert FreeSpace.of(seen()) is None


def test_a_base_slows_down_so_as_to_stop_before_the_wall() -> None:
    space = FreeSpace(square(0.5), np.zeros(2))
    assert space.ahead(np.zeros(2)) == pytest.approx(0.5 - MARGIN, abs=0.011)
    assert space.ahead(np.array([0.0, math.pi])) == pytest.approx(0.5 - MARGIN, abs=0.011)
    v = space.slowed(np.zeros(2), 5.0, 0.0, 0.1, 0.8)
    assert v * 0.1 + v**2 / 1.6 == pytest.approx(space.ahead(np.zeros(2)), abs=1e-9)
    assert space.slowed(np.zeros(2), 0.1, 0.0, 0.1, 0.8) == 0.1
    assert space.slowed(np.zeros(2), -0.5, 0.0, 0.1, 0.8) == -0.5
    sensed = seen(extras={SCAN: square(0.5), SCAN_FROM: np.zeros(2)})
    out = targets(spec_of(WHEELS), braking=0.8)(chunk([[1.0, 0.0]] * 20), sensed)
    assert 0.44 < out.actions[-1, 0] < 0.5
    step = targets(discrete(), step=1.0, braking=0.8)(chunk([[1]], 1.0), sensed)
    assert 0.44 < step.actions[-1, 0] < 0.5


def test_the_guard_lets_the_base_end_inside_only() -> None:
    guard = ClearanceGuard()
    assert guard.fault(np.array([[9.0, 0.0, 0.0]])) == ""  # nothing is known yet
    guard.place(seen(extras={SCAN: square(0.5), SCAN_FROM: np.array([2.0, 0.0])}))
    assert guard.fault(np.array([[2.4, 0.0, 0.0], [2.0, 3.0, 0.0]])) == ""
    assert "hit" in guard.fault(np.array([[2.6, 0.0, 0.0]]))
    assert "hit" in guard.fault(np.array([[1.4, 0.0, 0.0]]))


def test_zones_are_asked_in_the_world() -> None:
    where = Whereabouts(0.1)
    zones = PlacedZones(where, ZoneGuard(where.points, keep_out=[Box("stairs", (4.9, 2.9, -1), (5.1, 3.1, 1))]))
    ahead = np.array([[12.0, 0.0, 0.0]])
    assert zones.fault(ahead) == "" and zones.period == 0.0
    place = {PLACE: np.array([5.0, 1.0, math.pi / 2]), PLACE_FROM: np.array([10.0, 0.0])}
    zones.place(seen(extras=place))
    assert "stairs" in zones.fault(ahead) and zones.fault(np.array([[11.0, 0.0, 0.0]])) == ""


class Blind:
    """Drives as it is told, a pair of velocities for every chunk and round again, whatever is there."""

    def __init__(self, spec: EnvSpec, *said: tuple[float, float]) -> None:
        self.spec, self._said = spec, itertools.cycle(said)

    def init(self, spec: EnvSpec, seeds: Any) -> Any:
        return ()

    def act(self, observations: Any, memory: Any, **_: Any) -> Any:
        [o] = observations
        return [chunk([next(self._said)] * 8, self.spec.control_dt, o.time)], memory, {}


def test_an_ensemble_averages_velocities_and_then_follows_one_way() -> None:
    drive, left, right = targets(spec_of(WHEELS)), (0.5, 0.6), (0.3, -0.4)
    planner = Planner(
        policy=Blind(spec_of(WHEELS), left, right), spec=spec_of(WHEELS), targets=drive, chunking="ensemble"
    )
    planner.reset(0)
    first = planner.plan(seen())
    np.testing.assert_array_equal(first.actions, drive(chunk([left] * 8), seen(), Going(None, 0.0)).actions)
    at = first.actions[first.times <= 0.4 + 1e-9]
    speed = (at[-1] - at[-2])[:2] / (first.times[1] - first.times[0])
    then = replace(seen(extras={BASE_TARGET: at[-1][:2], BASE_SPEED: speed}), times={"state": 0.4})
    older, newer = (np.array(said) for said in (left, right))
    both = (older + math.e * newer) / (1 + math.e)  # the newest counts most
    mean = chunk([both] * 6 + [newer] * 2, time=0.4)
    np.testing.assert_allclose(planner.plan(then).actions, drive(mean, then, Going(first, 0.4)).actions, atol=1e-6)


# --- houses, end to end ----------------------------------------------------------------------------------------

HOUSE = {
    "_target_": "wayhand.envs.house.navigation.HouseNavigation",
    "task": "pointnav", "houses": 1, "rooms": [2, 2], "sensors": [], "distance": [1.5, 3.0], "max_steps": 100,
}  # fmt: skip


def drive(factory: SimulatedBaseFactory, policy: Any, episode: Episode) -> tuple[Outcome, NavigationBody]:
    body = factory()
    assert isinstance(body, NavigationBody)
    spec = factory.policy_spec()
    planner = Planner(policy=policy, spec=spec, targets=factory.targets(policy.spec, body.spec))
    outcome, _ = run_virtual(
        episode, body, planner, LoopSettings(guards=factory.guards, plausibility=factory.plausibility)
    )
    body.close()
    return outcome, body


@pytest.mark.parametrize(("continuous", "latency"), [(True, 0.0), (False, 0.0), (False, 0.2)])
def test_the_expert_arrives(continuous: bool, latency: float) -> None:
    factory = SimulatedBaseFactory(env=Config({**HOUSE, "continuous": continuous}))
    outcome, body = drive(factory, factory.oracle("seen"), Episode(1, {"split": "seen"}, 2, latency))
    assert outcome.success and not outcome.reason, outcome
    assert body.measures["collisions"] == 0 and body.measures["spl"] > 0.5


def test_the_gate_stops_a_blind_base_before_the_wall() -> None:
    env = Config({**HOUSE, "continuous": True})
    reckless = SimulatedBaseFactory(env=env, braking=None)
    outcome, body = drive(reckless, Blind(reckless.policy_spec(), (0.5, 0.0)), Episode(1, {}, 2, 0.0))
    assert outcome.reason == "the base would hit something" and body.measures["collisions"] == 0
    careful = SimulatedBaseFactory(env=Config({**HOUSE, "continuous": True, "max_steps": 40}))
    outcome, body = drive(careful, Blind(careful.policy_spec(), (0.5, 0.0)), Episode(1, {}, 2, 0.0))
    assert not outcome.reason and body.measures["collisions"] == 0
    fenced = SimulatedBaseFactory(
        env=env, keep_out=[{"name": "everywhere", "lower": [-99, -99, -1], "upper": [99, 99, 1]}]
    )
    outcome, _ = drive(fenced, Blind(fenced.policy_spec(), (0.5, 0.0)), Episode(1, {}, 2, 0.0))
    assert outcome.reason == "at the start: keep-out zone 'everywhere'"


def test_a_base_that_creeps_stands() -> None:
    body, target = SimulatedBaseFactory(env=Config(HOUSE))(), np.zeros(3)
    body.reset(1, {"split": "seen"})
    for speed, stood in ((0.5, 0.0), (0.003, 0.2), (0.0, 0.4)):
        for _ in range(10):
            target[:2] += 0.02 * speed
            body.step(target)
        assert body.observe_state().extras[STOOD] == pytest.approx(stood)
    body.close()


def test_wrong_settings_are_said() -> None:
    with pytest.raises(ConfigError, match="braking"):
        SimulatedBaseFactory(env=Config(HOUSE), braking=0.0)
    with pytest.raises(ConfigError, match="houses"):
        SimulatedBaseFactory(env=Config({"_target_": "wayhand.envs.tabletop.env.TabletopEnv"})).policy_spec()


def test_an_expert_learned_from_drives_the_base(tmp_path: Path) -> None:
    """Demonstrations, two steps of training, and the loop: of the whole path, not of what is learned."""
    small = {"houses": 1, "rooms": [2, 2], "distance": [1.0, 1.5], "width": 32, "height": 32, "sensors": ["rgb"]}
    options = {"continuous": True, "goal_in_state": True, **small}
    said = [f"+env.{name}={json.dumps(value)}" for name, value in options.items()]
    assert collect.main(["env=house/pointnav", *said, "episodes=1", "workers=1", f"out={tmp_path / 'data'}"]) == 0
    quick = ["steps=1", "batch_size=2", "warmup=0", "threads=1", "compile=false"]
    assert train.main(["policy=regression_tiny", f"data={tmp_path / 'data'}", f"out={tmp_path / 'run'}", *quick]) == 0
    policy = load_trained(str(tmp_path / "run"), fast="plain")
    assert [e.name for e in policy.spec.state][-2:] == ["goal_ahead", "goal_left"]
    env = Config({"_target_": HOUSE["_target_"], "task": "pointnav", "max_steps": 10, **options})
    outcome, body = drive(SimulatedBaseFactory(env=env), policy, Episode(1, {"split": "seen"}, 2, 0.1))
    assert outcome.inferences >= 3 and not outcome.reason and body.measures["steps"] > 0


def test_a_base_takes_it_when_answers_come_sooner_than_expected() -> None:
    """As on a busy machine, where the expected latency is a high quantile of the last ones."""

    arrives = 0.1

    class Unsure(Planner):
        def plan(self, observation: Observation, latency: float = 0.0, execute: int | None = None) -> ActionChunk:
            chunk, t = super().plan(observation, latency + 0.2 * rng.random(), execute), observation.time + arrives
            if plans:
                leaps.append(np.abs(where(chunk, t) - where(plans[-1], t)).max())
            plans.append(chunk)
            return chunk

    def where(chunk: ActionChunk, t: float) -> np.ndarray:
        """The odometers [2] at `t`."""
        return np.array([np.interp(t, chunk.times, chunk.actions[:, i]) for i in wheels])

    rng, plans, leaps = np.random.default_rng(0), list[ActionChunk](), list[float]()
    factory = SimulatedBaseFactory(env=Config({**HOUSE, "continuous": True}))
    body, policy = factory(), factory.oracle("seen")
    assert isinstance(body, NavigationBody)
    planner = Unsure(policy=policy, spec=policy.spec, targets=factory.targets(policy.spec, body.spec))
    settings = LoopSettings(rate_hz=50, guards=factory.guards, plausibility=factory.plausibility)
    wheels = joint_indices([e.name for e in body.spec.action_elements], (TRAVEL.name, TURNED.name))
    outcome, _ = run_virtual(Episode(1, {"split": "seen"}, 2, arrives), body, planner, settings)
    body.close()
    assert outcome.success and not outcome.reason
    assert max(leaps) < 0.1
