"""Actions in other units than the robot's: statistics that do not fit, and normalised actions served as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bridge_body import CARTESIAN, LIMITS, ROBOT, START, Plane, Steady, StickBody, spec_of
from serving import Echo, served
from test_checkpoint import make_policy, make_spec, make_stats, save
from test_client import fake, remote
from test_policies import RECIPES, act, make_observations
from test_policies import make_spec as arm_spec
from test_policies import make_stats as arm_stats

from wayhand.scripts.compose import CONF
from wayhand.vla.bridge import wire
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.messages import EXTENSIONS, SEQUENCE, Terms
from wayhand.vla.bridge.planner import Planner
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.units import bounded
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import compose, instantiate
from wayhand.vla.contract import ActionChunk, ActionGroup, Element, EnvSpec, Observation
from wayhand.vla.errors import SpecError
from wayhand.vla.learning.policy import ACTION, STATE, TorchPolicy
from wayhand.vla.normalize import NormStats

Columns = dict[str, dict[str, Any]]

# --- statistics ------------------------------------------------------------------------------------------------


def drop(columns: Columns, path: str) -> None:
    del columns[path]


def rename(columns: Columns, path: str) -> None:
    columns[f"{path}s"] = columns.pop(path)


def widen(columns: Columns, path: str) -> None:
    columns[path] = {k: v if k == "mode" else [*v, 0.0] for k, v in columns[path].items()}


def spoil(columns: Columns, path: str) -> None:
    columns[path]["std"][0] = float("nan")


@pytest.mark.parametrize("path", [STATE, ACTION])
@pytest.mark.parametrize("harm", [drop, rename, widen, spoil])
def test_a_policy_whose_statistics_do_not_fit_is_not_loaded(
    tmp_path: Path, path: str, harm: Callable[[Columns, str], None]
) -> None:
    node, policy = make_policy(1)
    columns = make_stats(make_spec()).to_dict()
    harm(columns, path)

    def load() -> None:
        statistics = {"toy": NormStats.from_dict(columns)}
        save(tmp_path, 1, policy=node, parts={"model": policy.state_dict()}, statistics=statistics)
        TorchPolicy.from_checkpoint(tmp_path)

    with pytest.raises(SpecError, match=f"'{path}'"):
        load()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_policy_s_actions_are_in_the_units_of_its_statistics(recipe: str) -> None:
    """The same weights with statistics shifted and stretched: the same actions, shifted and stretched."""
    shift, stretch = np.array([3.0, -7.0]), np.array([10.0, 0.5])
    plain = arm_spec()
    [arm] = plain.action
    wide = ActionGroup("arm", "ee_delta", arm.elements, (-1e4,) * 2, (1e4,) * 2, "world")
    spec = EnvSpec(plain.embodiment, plain.control_dt, plain.cameras, plain.state, (wide,))
    first = arm_stats(plain)
    columns = {path: dict(fields) for path, fields in first.columns.items()}
    for name, value in columns[ACTION].items():
        columns[ACTION][name] = value * stretch if name == "std" else value * stretch + shift
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y"])["policy"]
    out: list[np.ndarray] = []
    for stats in (first, NormStats(columns)):
        torch.manual_seed(0)
        policy = instantiate(node, spec=spec, stats=stats)
        out.append(act(policy, make_observations(policy, 1), [1])[0])
    np.testing.assert_allclose(out[1], out[0] * stretch + shift, atol=1e-5, rtol=1e-5)
    assert np.ptp(out[0]) > 0


def test_a_server_that_comes_back_with_other_statistics_is_another_one() -> None:
    with served(Echo(), service={"statistics": "a" * 64}) as first, remote(first.address) as there:
        there.close()
        with served(Echo(), service={"statistics": "b" * 64}) as second, remote(second.address) as other:
            there._dial = other._dial
            with pytest.raises(SpecError, match="other normalisation statistics"):
                _ = there.terms


# --- normalised actions ----------------------------------------------------------------------------------------


def seen() -> Observation:
    return StickBody().observe()


@pytest.mark.parametrize("row", [0, 7, 15])
@pytest.mark.parametrize("z", [-1.0, 0.13, 2.5, 1e300])
def test_normalised_increments_are_refused_by_name(row: int, z: float) -> None:
    chunk = Steady(0.02).chunk_for(seen(), 0)
    actions = chunk.actions.astype(np.float64)
    actions[row, 1] = z
    convert = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    with pytest.raises(SpecError, match=r"'dy' is far outside its bounds: normalised, or not in m"):
        convert(ActionChunk(actions, chunk.times, chunk.observed_at), seen())


def test_a_little_beyond_the_bounds_is_clipped_and_inside_nothing_changes() -> None:
    wheels = ActionGroup("base", "base_velocity", (Element("v", "m/s"), Element("w", "rad/s")), (0.0, -1.0), (0.5, 1.0))
    spec = spec_of(wheels)
    inside = np.random.default_rng(0).uniform(spec.action_lower, spec.action_upper, (99, 2))
    assert (bounded(inside, spec) == inside).all()
    assert bounded(np.array([[0.9, -2.9], [-0.4, 1.1]]), spec).tolist() == [[0.5, -1.0], [0.0, 1.0]]
    with pytest.raises(SpecError, match="'w'"):
        bounded(np.array([[0.0, 0.0], [0.0, 3.1]]), spec)


def foreign(spec: EnvSpec, actions: Callable[[float], np.ndarray]) -> Any:
    """A server of somebody else's whose actions [H A] are of a time [s]; everything else about it is right."""

    def answer(request: dict[str, Any], k: int) -> list[bytes | str]:
        t = request.get("observation.times.state", 0.0)
        a = actions(t)
        told = {
            "sequence": request.get(SEQUENCE),
            "observed_at": t,
            "times": [t + 0.05 * (i + 1) for i in range(len(a))],
        }
        return [wire.pack({"actions": a, "wayhand": told})]

    return fake(answer, Terms(spec, 16, "", EXTENSIONS, 0).to_metadata())


def test_a_server_that_forgets_to_denormalise_moves_nothing() -> None:
    """From 0.4 s on its increments are those that a network puts out."""
    z = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)

    def actions(t: float) -> np.ndarray:
        return z if t > 0.399 else Steady(0.02).chunk_for(seen(), 0).actions

    body = StickBody(goal=9.0)
    with foreign(CARTESIAN, actions) as address, remote(address) as policy:
        targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
        planner = Planner(policy=policy, spec=CARTESIAN, targets=targets)
        with pytest.raises(SpecError, match="normalised"):
            run_virtual(Episode(0, {}, 8, 0.0), body, planner, LoopSettings())
    path = np.array(body.trace)
    assert len(path) == pytest.approx(0.4 / 0.002, abs=5), "it ends with the first of them"
    assert (np.ptp(path[:, 1:], axis=0) == 0).all() and path[-1, 0] == pytest.approx(START[0] + 0.16, abs=0.01)


def test_normalised_joint_targets_end_in_a_latch_and_never_leave_the_limits() -> None:
    """They may be joint positions, so nobody can refuse them; but the robot is not there."""
    mean, std = np.array([1.8, -1.6, 0.06]), np.array([0.05, 0.05, 0.01])

    class Elsewhere(StickBody):
        def reset(self, seed: int, options: Any) -> None:
            super().reset(seed, options)
            self._q = mean.copy()

    class Joints(Steady):
        def chunk_for(self, observation: Observation, call: int) -> ActionChunk:
            chunk = super().chunk_for(observation, call)
            raw = np.tile(mean, (self.chunk, 1))
            return ActionChunk(raw if call < 5 else (raw - mean) / std, chunk.times, chunk.observed_at)

    body = Elsewhere(goal=9.0)
    planner = Planner(policy=Joints(0.0, ROBOT), spec=ROBOT, targets=JointTargets(policy=ROBOT, robot=ROBOT))
    outcome, loop = run_virtual(Episode(0, {}, 1, 0.0), body, planner, LoopSettings())
    assert outcome.reason == "actions beyond the limits of 'q1' for 0.50 s" and loop.report()["limited_ticks"] >= 50
    assert outcome.seconds <= 5 * 0.05 + 0.5 + 0.05 + 1e-9
    path = np.array(body.trace)
    assert (np.abs(np.diff(path, axis=0)) <= LIMITS.velocity * 0.002 + 1e-9).all()
