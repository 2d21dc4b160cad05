"""Real-time chunking: golden weights, closed forms on a linear denoiser, guided and trained prefixes end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from bridge_body import CARTESIAN, ROBOT, Plane, Steady, StickBody
from torch import Tensor

from wayhand.policies.flow import FlowPolicy
from wayhand.scripts.compose import CONF
from wayhand.vla.backbones.flow import NoiseAtOne
from wayhand.vla.backbones.guidance import Guidance, Prefix, guidance_weight, prefix_weights
from wayhand.vla.bridge.chunking import JointTargets
from wayhand.vla.bridge.planner import WAIT, LatencyEstimate, Planner, left_over, waited_for
from wayhand.vla.bridge.process import LoopSettings
from wayhand.vla.bridge.session import Episode
from wayhand.vla.bridge.virtual import run_virtual
from wayhand.vla.config import compose, instantiate
from wayhand.vla.contract import ActionChunk, ActionGroup, Camera, Element, EnvSpec, Memory, Observation
from wayhand.vla.errors import ConfigError, SpecError
from wayhand.vla.normalize import FIELDS, NormStats

DT = 0.05


# --- weights ---------------------------------------------------------------------------------------------------


def test_prefix_weights_are_the_reference_values() -> None:
    golden = {
        "linear": [1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0],
        "exp": [1, 1, 0.5706, 0.2871, 0.1145, 0.0258, 0, 0, 0, 0],
        "ones": [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        "zeros": [1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
    }
    for schedule, wanted in golden.items():
        np.testing.assert_allclose(prefix_weights(2, 6, 10, schedule), wanted, atol=5e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["exp", "linear", "ones", "zeros"])
def test_nothing_beyond_what_is_known_has_weight(schedule: Any) -> None:
    for start in range(9):
        for end in range(7):
            weights = prefix_weights(start, end, 6, schedule)
            assert (weights[: min(start, end)] > 1 - 1e-12).all() and (weights[end:] == 0).all()
            assert (weights.diff() <= 0).all()


def test_guidance_weights_are_the_reference_values() -> None:
    tau = {0.25: 10 / 3, 0.75: 10 / 3, 0.1: 9.1111, 0.5: 2.0}
    for t, wanted in tau.items():
        assert guidance_weight(1 - t, 100.0) == pytest.approx(wanted, abs=1e-4)
    assert guidance_weight(1.0, 5.0) == 5.0  # pure noise, τ = 0: the limit
    assert guidance_weight(0.9, 5.0) == 5.0 and guidance_weight(0.5, 5.0) == 2.0


def test_wrong_settings_are_said() -> None:
    for wrong in ({"jacobian": "numeric"}, {"schedule": "cosine"}, {"limit": -1.0}, {"limit": float("nan")}):
        with pytest.raises(ConfigError):
            Guidance(**wrong)  # type: ignore[arg-type]


# --- the correction --------------------------------------------------------------------------------------------


def linear_field(matrix: Tensor) -> Any:
    """v(x, t) = t M x on flattened chunks."""
    return lambda x, t: t[:, None, None] * (x.flatten(1) @ matrix.T).unflatten(1, x.shape[1:])


def test_the_exact_correction_is_the_closed_form_of_a_linear_denoiser() -> None:
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(8, 8, generator=g, dtype=torch.float64)
    x, old = (torch.randn(2, 4, 2, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.full((2,), 0.6, dtype=torch.float64)
    prefix = Prefix(old, [3, 2], 1)
    velocity = linear_field(matrix)
    jacobian = torch.eye(8, dtype=torch.float64) - 0.6 * 0.6 * matrix  # of x̂ = x − t·v(x)
    clean = (x.flatten(1) @ jacobian.T).unflatten(1, (4, 2))
    error = (old - clean) * prefix.weights("exp")
    scale = (0.6**2 + 0.4**2) / (0.6 * 0.4)
    exact = velocity(x, t) - scale * (error.flatten(1) @ jacobian).unflatten(1, (4, 2))
    torch.testing.assert_close(Guidance("exact").guide(velocity, prefix)(x, t), exact)
    identity = velocity(x, t) - scale * error
    torch.testing.assert_close(Guidance("identity").guide(velocity, prefix)(x, t), identity)
    with torch.inference_mode():
        torch.testing.assert_close(Guidance("exact").guide(velocity, prefix)(x, t), exact)


@pytest.mark.parametrize("jacobian", ["exact", "identity"])
def test_a_step_brings_the_clean_chunk_nearer(jacobian: Any) -> None:
    """The direction of time: Euler subtracts the velocity, so the correction must lower it."""
    field = lambda x, t: x - 1.0  # noqa: E731
    x, t = torch.zeros(1, 4, 2), torch.tensor([0.5])
    prefix = Prefix(torch.full((1, 4, 2), 3.0), [4], 4)
    plain, guided = field(x, t), Guidance(jacobian).guide(field, prefix)(x, t)
    assert ((x - 0.1 * guided) > (x - 0.1 * plain)).all()


@pytest.mark.parametrize("jacobian", ["exact", "identity"])
def test_what_follows_the_prefix_is_never_read(jacobian: Any) -> None:
    old = torch.full((2, 4, 2), torch.nan)
    old[0, :2] = 1.0
    x, t, field = torch.randn(2, 4, 2), torch.tensor([0.5, 0.5]), lambda x, t: 0.5 * x
    guided = Guidance(jacobian).guide(field, Prefix(old, [2, 0], 3))(x, t)
    assert torch.isfinite(guided).all()
    torch.testing.assert_close(guided[1], field(x, t)[1], rtol=0, atol=0)
    torch.testing.assert_close(guided[0, 2:], field(x, t)[0, 2:], rtol=0, atol=0)


@pytest.mark.parametrize("jacobian", ["exact", "identity"])
def test_a_prefix_the_data_allows_is_followed(jacobian: Any) -> None:
    """Data N(0, 1) at every action, independent: the field is known in closed form, and any prefix is possible."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None, None]
        return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x

    noise = torch.randn(64, 8, 1, generator=torch.Generator().manual_seed(0))
    old = torch.linspace(-1.5, 1.5, 8)[None, :, None].expand(64, 8, 1).contiguous()
    guided = NoiseAtOne.integrate(Guidance(jacobian).guide(field, Prefix(old, [6] * 64, 3)), noise, 20)
    plain = NoiseAtOne.integrate(field, noise, 20)
    committed = (guided - old)[:, :3].abs().mean()
    assert committed < 0.1 < 0.2 * (plain - old)[:, :3].abs().mean()
    near = (guided - old)[:, 3].abs().mean()
    assert committed < near < (plain - old)[:, 3].abs().mean()
    torch.testing.assert_close(guided[:, 6:], plain[:, 6:])


# --- the policy ------------------------------------------------------------------------------------------------


def make_policy(**options: Any) -> FlowPolicy:
    torch.manual_seed(0)
    arm = ActionGroup("arm", "joint_position", (Element("a", "rad"), Element("b", "rad")), (-9.0,) * 2, (9.0,) * 2)
    spec = EnvSpec("toy", DT, (Camera("front", 16, 16, 20.0, 20.0, 8.0, 8.0),), (Element("x", "m"),), (arm,))
    columns = {
        path: {**{f: np.zeros(n) for f in FIELDS}, "std": np.full(n, 0.5), "mean": np.full(n, 0.25)}
        for path, n in (("observation.state", 1), ("action", 2))
    }
    node = compose(CONF, "train", ["policy=flow_tiny", "data=x", "out=y"])["policy"]
    policy = instantiate(node, spec=spec, stats=NormStats(columns), **options)
    assert isinstance(policy, FlowPolicy)
    return policy


def observe(time: float = 1.0) -> Observation:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Observation({"state": time, "front": time}, {"front": image}, np.ones(1, np.float32), "push")


def act(policy: FlowPolicy, old: ActionChunk | None = None, delay: int = 0, *, prefix: bool = True) -> np.ndarray:
    before: Sequence[ActionChunk | None] | None = [old] if prefix else None
    return policy.act([observe()], (), rng=[np.random.default_rng(1)], prefix=before, delay=delay)[0][0].actions


def old_chunk(n: int = 5) -> ActionChunk:
    actions = np.random.default_rng(2).normal(size=(n, 2)).astype(np.float32)
    return ActionChunk(actions, 1.0 + DT * np.arange(1, n + 1), 0.8)


@pytest.mark.parametrize("options", [{}, {"guidance": "identity"}, {"guidance": "trained", "longest_delay": 4}])
def test_an_empty_prefix_is_the_plain_sampler(options: dict[str, Any]) -> None:
    policy = make_policy(**options)
    plain = act(policy, prefix=False)
    np.testing.assert_array_equal(act(policy, None, 3), plain)
    np.testing.assert_array_equal(act(policy, ActionChunk(np.zeros((0, 2)), np.zeros(0), 0.8), 3), plain)
    assert not np.array_equal(act(policy, old_chunk(), 3), plain)


@pytest.mark.parametrize("guidance", ["exact", "identity"])
def test_the_guided_policy_follows_its_prefix_in_raw_units(guidance: Any) -> None:
    policy = make_policy(guidance=guidance)
    policy.steps = 10
    old = old_chunk()
    plain, guided = act(policy, prefix=False), act(policy, old, 3)
    assert np.abs(guided[:3] - old.actions[:3]).max() < 0.15 * np.abs(plain[:3] - old.actions[:3]).max()


def test_a_batch_guides_its_rows_by_their_own_prefixes() -> None:
    policy = make_policy()
    batch = {**make_batch(policy, 2), "task": ["push", "push"]}
    rng = [np.random.default_rng(1), np.random.default_rng(2)]
    with torch.inference_mode():
        guided = policy.predict(batch, rng, [None, old_chunk()], 2)
        plain = policy.predict(batch, [np.random.default_rng(1), np.random.default_rng(2)])
    torch.testing.assert_close(guided[0], plain[0])
    assert not torch.allclose(guided[1], plain[1])


def test_a_trained_prefix_is_reproduced_exactly() -> None:
    policy = make_policy(guidance="trained", longest_delay=4)
    old = old_chunk()
    for delay, kept in ((0, 0), (3, 3), (4, 4), (6, 4)):  # a longer delay is cut to the trained one
        got = act(policy, old, delay)
        np.testing.assert_allclose(got[:kept], old.actions[:kept], rtol=0, atol=1e-6)
        assert (np.abs(got[kept:5] - old.actions[kept:]) > 1e-4).all()
    np.testing.assert_allclose(act(policy, old_chunk(2), 4)[:2], old_chunk(2).actions, rtol=0, atol=1e-6)


def test_what_follows_a_trained_prefix_depends_on_it() -> None:
    policy = make_policy(guidance="trained", longest_delay=4)
    other = ActionChunk(-old_chunk().actions, old_chunk().times, 0.8)
    assert not np.allclose(act(policy, old_chunk(), 3)[3:], act(policy, other, 3)[3:])


def test_a_broken_prefix_is_refused() -> None:
    policy = make_policy()
    for actions in (np.zeros((3, 5)), np.full((3, 2), np.nan)):
        with pytest.raises(SpecError, match="prefix"):
            act(policy, ActionChunk(actions, np.arange(3.0), 0.0), 1)


def test_a_prefix_that_was_not_trained_is_said() -> None:
    with pytest.raises(ConfigError, match="not trained"):
        make_policy(guidance="trained")
    with pytest.raises(ConfigError, match="longest_delay"):
        make_policy(guidance="trained", longest_delay=8)
    policy = make_policy(guidance="trained", longest_delay=4)
    trained = act(policy, old_chunk(), 3)
    policy.continue_by("exact")
    assert not np.array_equal(act(policy, old_chunk(), 3), trained)


@pytest.mark.parametrize("guidance", ["exact", "identity"])
def test_the_limit_of_guidance_can_be_chosen(guidance: Any) -> None:
    """Without weight nothing is followed; with less of it, less than with more."""
    policy, old = make_policy(guidance=guidance), old_chunk()
    free = act(policy, None, 3)
    away: list[float] = []
    for limit in (0.0, 0.5, None):
        policy.continue_by(guidance, limit)
        away.append(float(np.abs(act(policy, old, 3)[:3] - old.actions[:3]).mean()))
    assert away[0] == pytest.approx(float(np.abs(free[:3] - old.actions[:3]).mean()), rel=1e-5)
    assert away[0] > away[1] > away[2]


# --- training --------------------------------------------------------------------------------------------------


def make_batch(policy: FlowPolicy, size: int = 16) -> dict[str, Any]:
    g = torch.Generator().manual_seed(3)
    return {
        "observation.images.front": torch.randint(0, 256, (size, 16, 16, 3), dtype=torch.uint8, generator=g),
        "observation.state": torch.randn(size, 1, generator=g),
        "action": torch.randn(size, policy.chunk, 2, generator=g),
        "action.is_pad": torch.zeros(size, policy.chunk, dtype=torch.bool),
        "task": ["push"] * size,
    }


def test_training_gives_the_prefix_clean_and_asks_only_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(guidance="trained", longest_delay=4)
    batch = make_batch(policy, 32)
    actions = policy.actions(batch)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(x: Tensor, t: Tensor, condition: Tensor, clean: Tensor | None = None) -> Tensor:
        assert clean is not None
        seen.append((x, clean))
        return torch.where(clean[..., None], 1e3, 0.0)  # whatever is said of the prefix costs nothing

    monkeypatch.setattr(policy.velocity, "forward", spy)
    loss, _ = policy.loss(batch)
    assert loss < 10
    [(x, clean)] = seen
    assert set(clean.sum(1).tolist()) == {0, 1, 2, 3, 4}
    assert (clean.long().diff(dim=1) <= 0).all()  # from the first action on, without a gap
    assert torch.equal(x[clean], actions[clean]) and not torch.isclose(x[~clean], actions[~clean]).all(1).any()


def test_a_trained_policy_learns_to_continue() -> None:
    """Chunks are constants drawn at random: only the prefix tells which, and the rest must follow it."""
    policy = make_policy(guidance="trained", longest_delay=4)
    policy.steps = 10
    batch = {"action.is_pad": torch.zeros(128, policy.chunk, dtype=torch.bool), "task": ["push"] * 128}
    optimizer = torch.optim.Adam(policy.velocity.parameters(), lr=3e-3)
    blind = torch.zeros(128, 64)
    policy.condition = lambda batch: blind[: len(batch["task"])]  # type: ignore[method-assign]
    for _ in range(400):
        batch["action"] = (0.25 + 0.5 * torch.randn(128, 1, 2)).expand(128, policy.chunk, 2)
        optimizer.zero_grad()
        policy.loss(batch)[0].backward()
        optimizer.step()
    gaps, plain = [], []
    for level in (-0.4, 0.2, 0.8):
        old = ActionChunk(np.full((4, 2), level, np.float32), 1.0 + DT * np.arange(1, 5), 0.8)
        gaps.append(np.abs(act(policy, old, 3)[3:] - level).mean())
        plain.append(np.abs(act(policy, None, 3)[3:] - level).mean())
    assert np.mean(gaps) < 0.1 < np.mean(plain)


# --- the bridge ------------------------------------------------------------------------------------------------


class Asked(Steady):
    """Remembers what it was told."""

    supports_prefix = True

    def __init__(self) -> None:
        super().__init__(0.01, chunk=8)
        self.told: list[tuple[Observation, ActionChunk | None, int]] = []

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        assert prefix is not None
        self.told.append((observations[0], prefix[0], delay))
        return super().act(observations, memory, rng=rng, prefix=prefix, delay=delay)


def test_the_planner_tells_what_is_left_and_how_late_it_will_be() -> None:
    policy = Asked()
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=policy, spec=CARTESIAN, targets=targets, chunking="rtc")
    run_virtual(Episode(0, {}, 4, 0.12), StickBody(), planner, LoopSettings())
    assert policy.told[0][1] is None and {d for _, _, d in policy.told} == {3}
    for k, (observation, left, _) in enumerate(policy.told[1:]):
        rest = 7 if k == 0 else 4  # the first chunk begins when it comes, three periods late
        assert left is not None and left.actions.shape == (rest, CARTESIAN.action_dim)
        np.testing.assert_allclose(left.times, observation.time + DT * np.arange(1, rest + 1))
    planner.reset(1)
    planner.plan(policy.told[0][0], 0.1)
    assert policy.told[-1][1:] == (None, 2)


@pytest.mark.parametrize("latency", [0.05, 0.1, 0.2])
def test_chunks_that_come_late_go_on_from_one_another(latency: float) -> None:
    # A policy that always asks for the same step: whatever is in execution when it looks, the way is straight and even.
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=Steady(0.01), spec=CARTESIAN, targets=targets, chunking="rtc")
    body = StickBody()
    outcome, loop = run_virtual(Episode(0, {}, 4, latency), body, planner, LoopSettings())
    assert not outcome.reason and loop.report()["seam"]["max"] < 1e-9
    way = np.diff(np.array(body.trace)[:, 0])
    assert way.min() >= -1e-9 and way.max() <= 1.2 * 0.01 / DT * body.physics_dt
    moving = body.time_limit - latency
    assert body.trace[-1][0] - body.trace[0][0] == pytest.approx(0.01 * moving / DT, rel=0.1)


def test_a_robot_that_waits_executes_all_it_was_told_however_late() -> None:
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    ends: list[float] = []
    for latency in (0.0, 0.2):
        body = StickBody(goal=9.0)
        planner = Planner(policy=Steady(0.01), spec=CARTESIAN, targets=targets, chunking="synchronous")
        outcome, loop = run_virtual(Episode(0, {}, 4, latency), body, planner, LoopSettings())
        assert not outcome.reason and loop.report()["late_actions"] == 0
        # Four periods of 0.05 s and the wait, over and over, for 2 s.
        assert outcome.inferences == round(2.0 / (0.2 + latency))
        ends.append((body.trace[-1][0] - body.trace[0][0]) / outcome.inferences)
    assert ends[0] == pytest.approx(0.04, rel=0.1) and ends[1] == pytest.approx(0.04, rel=0.1)


def test_what_is_waited_for_is_shifted_and_ends_in_rest() -> None:
    chunk = ActionChunk(np.arange(4.0)[:, None], DT * np.arange(1, 5), 0.0)
    shifted = waited_for(chunk, 0.3, 2)
    assert shifted.actions[:, 0].tolist() == [0.0, 1.0, 1.0] and shifted.observed_at == 0.0
    np.testing.assert_allclose(shifted.times, [0.35, 0.4, 0.4 + WAIT])
    assert len(waited_for(chunk, 0.0)) == 5
    empty = ActionChunk(np.zeros((0, 1)), np.zeros(0), 0.0)
    assert len(waited_for(empty, 0.1)) == 0


def test_a_policy_is_warm_before_it_counts() -> None:
    policy = Asked()
    targets = JointTargets(policy=CARTESIAN, robot=ROBOT, kinematics=Plane())
    planner = Planner(policy=policy, spec=CARTESIAN, targets=targets, chunking="rtc")
    assert planner.warm_up() >= 0
    told = len(policy.told)
    assert told > 1 and policy.told[-1][1] is not None  # also how to continue a chunk
    planner.reset(0)
    planner.plan(StickBody().observe(), 0.1)
    assert policy.told[told][1] is None  # what was asked before is no prefix


def test_what_is_left_of_a_chunk_is_told_by_time() -> None:
    chunk = ActionChunk(np.arange(4.0)[:, None], DT * np.arange(1, 5), 0.0)
    assert left_over(None, 0.0, DT) is None
    for now, wanted in ((0.0, [0, 1, 2, 3]), (DT, [1, 2, 3]), (1.1 * DT, [1, 2, 3]), (1.9 * DT, [2, 3])):
        left = left_over(chunk, now, DT)
        assert left is not None and left.actions[:, 0].tolist() == wanted
    assert left_over(chunk, 4 * DT, DT) is None


def test_one_slow_answer_is_forgotten() -> None:
    estimate = LatencyEstimate(window=10)
    assert estimate.seconds == 0.0
    estimate.add(3.0)
    assert estimate.seconds == 3.0
    for _ in range(10):
        estimate.add(0.1)
    assert estimate.seconds == pytest.approx(0.1)
