"""Laws of the policies: determinism, independence of the batch, closed forms of flow matching, every recipe trains."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wayhand.policies.flow import FlowPolicy, VelocityField
from wayhand.scripts.compose import CONF
from wayhand.vla.backbones.flow import NoiseAtOne
from wayhand.vla.config import compose, instantiate
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec, Observation
from wayhand.vla.errors import SpecError
from wayhand.vla.learning.policy import TorchPolicy
from wayhand.vla.normalize import FIELDS, NormStats

RECIPES = sorted(p.stem for p in (CONF / "policy").glob("*_tiny.yaml"))


def make_spec() -> EnvSpec:
    arm = ActionGroup("arm", "ee_delta", (Element("dx", "m"), Element("dy", "m")), (-0.1,) * 2, (0.1,) * 2, "world")
    cameras = (Camera("front", 32, 32, 40.0, 40.0, 16.0, 16.0), Camera("wrist", 32, 32, 40.0, 40.0, 16.0, 16.0))
    return EnvSpec("toy", 0.05, cameras, (Element("x", "m"), Element("y", "m"), Element("z", "m")), (arm,))


def make_stats(spec: EnvSpec) -> NormStats:
    def column(size: int) -> dict:
        values = {f: np.zeros(size) for f in FIELDS}
        values.update(std=np.full(size, 0.05), min=np.full(size, -0.1), max=np.full(size, 0.1))
        return values

    return NormStats({"observation.state": column(spec.state_dim), "action": column(spec.action_dim)})


def make_policy(recipe: str) -> TorchPolicy:
    torch.manual_seed(0)
    spec = make_spec()
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y"])["policy"]
    return instantiate(node, spec=spec, stats=make_stats(spec))


def make_batch(policy: TorchPolicy, size: int = 4) -> dict:
    g = torch.Generator().manual_seed(3)
    batch: dict = {
        f"observation.images.{c.name}": torch.randint(
            0, 256, (size, c.height, c.width, 3), dtype=torch.uint8, generator=g
        )
        for c in policy.spec.cameras
    }
    batch["observation.state"] = torch.randn(size, policy.spec.state_dim, generator=g)
    batch["action"] = torch.randn(size, policy.chunk, policy.spec.action_dim, generator=g) * 0.05
    batch["action.is_pad"] = torch.zeros(size, policy.chunk, dtype=torch.bool)
    batch["task"] = ["push the red cube", "lift it"] * (size // 2)
    return batch


def make_observations(policy: TorchPolicy, size: int) -> list[Observation]:
    rng = np.random.default_rng(5)
    return [
        Observation(
            times={"front": 1.0 + i, "wrist": 1.0 + i, "state": 1.1 + i},
            images={c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in policy.spec.cameras},
            state=rng.normal(size=policy.spec.state_dim).astype(np.float32),
            instruction=f"push object {i}",
        )
        for i in range(size)
    ]


def act(policy: TorchPolicy, observations: list[Observation], seeds: list[int]) -> list[np.ndarray]:
    memory = policy.init(policy.spec, seeds)
    chunks, _, _ = policy.act(observations, memory, rng=[np.random.default_rng(s) for s in seeds])
    return [c.actions for c in chunks]


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_loss(recipe: str) -> None:
    policy = make_policy(recipe).train()
    batch = make_batch(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        torch.manual_seed(7)  # the same noise each time, so that the losses compare
        loss, terms = policy.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert terms and all(torch.isfinite(v).all() for v in terms.values())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_padding_does_not_reach_the_loss(recipe: str) -> None:
    policy = make_policy(recipe).eval()
    batch = make_batch(policy)
    batch["action.is_pad"][:, 5:] = True
    poisoned = {**batch, "action": batch["action"].clone()}
    poisoned["action"][:, 5:] = 0.0 if recipe.startswith("flow") else 1e6
    losses = []
    for b in (batch, poisoned):
        torch.manual_seed(7)
        losses.append(policy.loss(b)[0].item())
    if recipe.startswith("regression"):
        assert losses[0] == losses[1]
    else:  # a chunk is denoised as a whole: padding is seen as input but never asked for
        assert np.isfinite(losses).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_actions_do_not_depend_on_the_batch(recipe: str) -> None:
    policy = make_policy(recipe)
    observations = make_observations(policy, 4)
    together = act(policy, observations, [1, 2, 3, 4])
    for i in range(4):
        np.testing.assert_array_equal(act(policy, [observations[i]], [i + 1])[0], together[i])


@pytest.mark.parametrize("recipe", RECIPES)
def test_chunks_are_dated_and_within_limits(recipe: str) -> None:
    policy = make_policy(recipe)
    [observation] = make_observations(policy, 1)
    chunks, _, _ = policy.act([observation], policy.init(policy.spec, [0]), rng=[np.random.default_rng(0)])
    np.testing.assert_allclose(chunks[0].times, 1.0 + 0.05 * np.arange(1, policy.chunk + 1))
    assert (np.abs(chunks[0].actions) <= 0.1).all() and np.isfinite(chunks[0].actions).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_another_body_is_refused_by_name(recipe: str) -> None:
    policy = make_policy(recipe)
    other = EnvSpec("toy", 0.1, policy.spec.cameras, policy.spec.state, policy.spec.action)
    with pytest.raises(SpecError, match="control_dt"):
        policy.init(other, [0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_statistics_of_another_size_are_refused(recipe: str) -> None:
    spec = make_spec()
    narrow = EnvSpec("toy", 0.05, spec.cameras, spec.state[:2], spec.action)
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y"])["policy"]
    with pytest.raises(SpecError, match=r"observation\.state"):
        instantiate(node, spec=narrow, stats=make_stats(spec))


def test_the_exact_velocity_recovers_the_data_in_one_step() -> None:
    g = torch.Generator().manual_seed(0)
    data, noise = torch.randn(3, 4, 2, generator=g), torch.randn(3, 4, 2, generator=g)
    torch.testing.assert_close(NoiseAtOne.integrate(lambda x, t: noise - data, noise, 1), data)
    torch.testing.assert_close(NoiseAtOne.integrate(lambda x, t: noise - data, noise, 7), data)


def test_the_direction_carries_a_standard_normal_to_the_data() -> None:
    """For data N(m, s²), x_t is Gaussian and E[ε − a | x_t] is linear in x: integrating it must give N(m, s²)."""
    mean, deviation = 2.0, 0.5

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        t = t[:, None, None]
        variance = t**2 + ((1 - t) * deviation) ** 2
        centred = x - (1 - t) * mean
        return t / variance * centred - (mean + (1 - t) * deviation**2 / variance * centred)

    noise = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(0))
    data = NoiseAtOne.integrate(velocity, noise, 100)
    assert data.mean().item() == pytest.approx(mean, abs=0.02)
    assert data.std().item() == pytest.approx(deviation, abs=0.02)


def test_flow_draws_its_noise_from_the_callers_generators() -> None:
    policy = make_policy("flow_tiny")
    assert isinstance(policy, FlowPolicy)
    for parameter in policy.velocity.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    [observation] = make_observations(policy, 1)
    a, again, b = (act(policy, [observation], [s])[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(a, again)
    assert not np.array_equal(a, b)


def test_the_velocity_field_sees_time_and_condition() -> None:
    torch.manual_seed(0)
    field = VelocityField(chunk=3, actions=2, condition=8, width=16, depth=1)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, condition = torch.randn(1, 3, 2), torch.randn(1, 8)
    base = field(x, torch.tensor([0.5]), condition)
    assert not torch.allclose(base, field(x, torch.tensor([0.6]), condition))
    assert not torch.allclose(base, field(x, torch.tensor([0.5]), condition + 1))


def test_every_recipe_has_a_tiny_twin() -> None:
    recipes = {p.stem for p in Path(CONF / "policy").glob("*.yaml")}
    assert {f"{r}_tiny" for r in recipes if not r.endswith("_tiny")} <= recipes
