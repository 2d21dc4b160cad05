"""Real-time chunking of policies made of a VLM and an action expert: guided and trained prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_policies import make_batch, make_observations, make_spec, make_stats
from torch import Tensor, nn

from wayhand.policies.expert_flow import ExpertFlowPolicy
from wayhand.scripts.compose import CONF
from wayhand.vla.backbones.expert import PrefixCache
from wayhand.vla.backbones.guidance import Prefix
from wayhand.vla.config import compose, instantiate
from wayhand.vla.contract import ActionChunk
from wayhand.vla.errors import ConfigError

RECIPES = ("smolvla_tiny", "pi0_tiny", "pi05_tiny")
TRAINED: dict[str, Any] = {"guidance": "trained", "longest_delay": 4}


def make(recipe: str, **options: Any) -> ExpertFlowPolicy:
    """Random weights, actions small enough not to be clipped."""
    torch.manual_seed(0)
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y"])["policy"]
    spec = make_spec()
    policy = instantiate(node, spec=spec, stats=make_stats(spec), **options)
    assert isinstance(policy, ExpertFlowPolicy)
    for parameter in policy.parameters():
        nn.init.normal_(parameter, std=0.2)
    return policy.eval()


def old_chunk(n: int = 5) -> ActionChunk:
    actions = np.random.default_rng(2).uniform(-0.05, 0.05, (n, 2)).astype(np.float32)
    return ActionChunk(actions, 1.0 + 0.05 * np.arange(1, n + 1), 0.8)


def act(policy: ExpertFlowPolicy, old: ActionChunk | None = None, delay: int = 0, *, prefix: bool = True) -> np.ndarray:
    before: Sequence[ActionChunk | None] | None = [old] if prefix else None
    rng = [np.random.default_rng(1)]
    return policy.act(make_observations(policy, 1), (), rng=rng, prefix=before, delay=delay)[0][0].actions


def first_rows(policy: ExpertFlowPolicy, rows: int) -> dict[str, Any]:
    return {name: value[:rows] for name, value in make_batch(policy, 2).items()}


def read(policy: ExpertFlowPolicy, rows: int = 2) -> tuple[PrefixCache, Tensor]:
    """A cache and noise."""
    with torch.no_grad():
        cache = policy.read(first_rows(policy, rows))
    return cache, torch.randn(rows, policy.chunk, policy.room, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("options", [{}, {"guidance": "identity"}, TRAINED])
def test_an_empty_prefix_is_the_plain_sampler(recipe: str, options: dict[str, Any]) -> None:
    policy = make(recipe, **options)
    plain = act(policy, prefix=False)
    np.testing.assert_array_equal(act(policy, None, 3), plain)
    np.testing.assert_array_equal(act(policy, ActionChunk(np.zeros((0, 2)), np.zeros(0), 0.8), 3), plain)
    assert not np.array_equal(act(policy, old_chunk(), 3), plain)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("guidance", ["exact", "identity"])
def test_one_guided_step_is_the_closed_form(recipe: str, guidance: Any) -> None:
    """From pure noise, where the weight is its limit β: x − v + β·Jᵀe, with J of the real expert written out."""
    policy = make(recipe, guidance=guidance, guidance_limit=0.7)
    policy.steps = 1
    cache, noise = read(policy, 1)
    old = Prefix(torch.zeros_like(noise), [5], 3, policy.spec.action_dim)
    old.actions[0, :5, :2] = torch.randn(5, 2, generator=torch.Generator().manual_seed(6))

    def clean(x: Tensor) -> Tensor:
        return x - policy.flow(x, torch.ones(1), cache)

    error = (old.actions - clean(noise)) * old.weights("exp")
    assert not error[..., policy.spec.action_dim :].any() and error[0, :3, :2].all()
    jacobian = torch.autograd.functional.jacobian(clean, noise).flatten(0, 2).flatten(1)
    pulled = (error.flatten() @ jacobian).view_as(noise) if guidance == "exact" else error
    with torch.inference_mode():
        found = policy._continue(first_rows(policy, 1), noise, old)
    torch.testing.assert_close(found, (clean(noise) + 0.7 * pulled).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("guidance", ["exact", "identity"])
def test_the_guided_policy_follows_its_prefix_in_raw_units(recipe: str, guidance: Any) -> None:
    policy = make(recipe, guidance=guidance)
    policy.steps = 10
    old = old_chunk()
    plain, guided = act(policy, prefix=False), act(policy, old, 3)
    assert np.abs(guided[:3] - old.actions[:3]).max() < 0.15 * np.abs(plain[:3] - old.actions[:3]).max()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("options", [{}, TRAINED])
def test_a_batch_continues_its_rows_by_their_own_prefixes(recipe: str, options: dict[str, Any]) -> None:
    policy = make(recipe, **options)
    batch = make_batch(policy, 2)
    with torch.inference_mode():
        found = policy.predict(batch, [np.random.default_rng(i) for i in (1, 2)], [None, old_chunk()], 2)
        plain = policy.predict(batch, [np.random.default_rng(i) for i in (1, 2)])
    torch.testing.assert_close(found[0], plain[0], atol=1e-5, rtol=0)
    assert not torch.allclose(found[1], plain[1], atol=1e-3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_trained_prefix_is_reproduced_exactly(recipe: str) -> None:
    policy = make(recipe, **TRAINED)
    old = old_chunk()
    for delay, kept in ((0, 0), (3, 3), (4, 4), (6, 4)):  # a longer delay is cut to the trained one
        got = act(policy, old, delay)
        np.testing.assert_allclose(got[:kept], old.actions[:kept], rtol=0, atol=1e-6)
        assert (np.abs(got[kept:5] - old.actions[kept:]) > 1e-5).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_follows_a_trained_prefix_depends_on_it_accelerated_or_not(recipe: str) -> None:
    policy = make(recipe, **TRAINED)
    other = ActionChunk(-old_chunk().actions, old_chunk().times, 0.8)
    continued = act(policy, old_chunk(), 3)
    assert not np.allclose(act(policy, other, 3)[3:], continued[3:], rtol=0, atol=1e-5)
    policy.accelerate()
    np.testing.assert_array_equal(act(policy, old_chunk(), 3), continued)


@pytest.mark.parametrize("recipe", RECIPES)
@torch.no_grad()
def test_times_of_their_own_that_are_equal_are_one_time(recipe: str) -> None:
    policy = make(recipe)
    cache, x = read(policy)
    t = torch.tensor([0.3, 0.8])
    own = t[:, None].expand(-1, policy.chunk)
    torch.testing.assert_close(policy.flow(x, own, cache), policy.flow(x, t, cache), atol=1e-5, rtol=0)
    mixed = own.clone()
    mixed[:, 5:] = 0.1
    same = torch.isclose(policy.flow(x, mixed, cache), policy.flow(x, t, cache), atol=1e-5).all(-1)
    assert not same[:, 5:].any() and same[:, :5].all() == policy.flow.causal


def test_a_prefix_that_was_not_trained_is_said() -> None:
    with pytest.raises(ConfigError, match="not trained"):
        make("pi0_tiny", guidance="trained")
    with pytest.raises(ConfigError, match="longest_delay"):
        make("smolvla_tiny", guidance="trained", longest_delay=8)
    policy = make("smolvla_tiny", **TRAINED)
    trained = act(policy, old_chunk(), 3)
    policy.continue_by("exact")
    assert not np.array_equal(act(policy, old_chunk(), 3), trained)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_gives_the_prefix_clean_and_asks_only_for_the_rest(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make(recipe, **TRAINED)
    batch = make_batch(policy, 32)
    actions, size = policy.actions(batch), policy.spec.action_dim
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(x: Tensor, t: Tensor, cache: PrefixCache) -> Tensor:
        seen.append((x, t))
        return torch.where(t == 0, 1e3, 0.0)[..., None].expand_as(x)  # whatever is said of the prefix costs nothing

    monkeypatch.setattr(policy.flow, "forward", spy)
    loss, _ = policy.loss(batch)
    assert loss < 10
    [(x, t)] = seen
    clean = t == 0
    assert set(clean.sum(1).tolist()) == {0, 1, 2, 3, 4} and (clean.long().diff(dim=1) <= 0).all()
    assert torch.equal(x[clean][:, :size], actions[clean]) and not x[clean][:, size:].any()
    assert not torch.isclose(x[~clean][:, :size], actions[~clean]).all(1).any()


def test_a_trained_policy_learns_to_continue() -> None:
    """Chunks are constants drawn at random: only the prefix tells which, and the rest must follow it."""
    policy = make("smolvla_tiny", **TRAINED)
    policy.steps = 10
    cache, _ = read(policy, 2)
    rows = PrefixCache(
        tuple((k[:1].expand(48, -1, -1, -1), v[:1].expand(48, -1, -1, -1)) for k, v in cache.keys_values),
        cache.mask[:1].expand(48, -1),
        cache.start[:1].expand(48),
    )
    one = PrefixCache(tuple((k[:1], v[:1]) for k, v in cache.keys_values), cache.mask[:1], cache.start[:1])
    policy.read = lambda batch: rows if "action" in batch else one  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(policy.flow.parameters(), lr=5e-3)
    batch: dict[str, Any] = {"action.is_pad": torch.zeros(48, policy.chunk, dtype=torch.bool)}
    for _ in range(120):
        batch["action"] = (0.03 * torch.randn(48, 1, 2)).expand(48, policy.chunk, 2)
        optimizer.zero_grad()
        policy.loss(batch)[0].backward()
        optimizer.step()
    gaps, plain = [], []
    for level in (-0.06, 0.02, 0.06):
        old = ActionChunk(np.full((4, 2), level, np.float32), 1.0 + 0.05 * np.arange(1, 5), 0.8)
        gaps.append(np.abs(act(policy, old, 3)[3:] - level).mean())
        plain.append(np.abs(act(policy, None, 3)[3:] - level).mean())
    assert np.mean(gaps) < 0.5 * np.mean(plain), (gaps, plain)
