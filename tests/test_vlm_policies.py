"""Policies that decode actions with a vision-language model: words and back, equal searches, budgets of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_policies import make_batch, make_observations, make_policy, make_spec, make_stats

from wayhand.policies.action_tokens import ActionTokenPolicy
from wayhand.policies.deer import DeeRPolicy
from wayhand.scripts.compose import CONF
from wayhand.vla.config import compose, instantiate
from wayhand.vla.errors import ConfigError


def make(recipe: str, *overrides: str) -> torch.nn.Module:
    torch.manual_seed(0)
    spec = make_spec()
    overrides = tuple(f"policy.{o}" for o in overrides)
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y", *overrides])["policy"]
    return instantiate(node, spec=spec, stats=make_stats(spec))


def token_policy(*overrides: str) -> ActionTokenPolicy:
    policy = make("action_tokens_tiny", *overrides)
    assert isinstance(policy, ActionTokenPolicy)
    return policy.eval()


def deer_policy() -> DeeRPolicy:
    policy = make_policy("deer_tiny")
    assert isinstance(policy, DeeRPolicy)
    return policy


def test_words_say_an_action_to_half_a_bin() -> None:
    policy = token_policy()
    low, span = policy.get_buffer("low"), policy.get_buffer("span")
    share = torch.rand(3, 8, 2, generator=torch.Generator().manual_seed(0))
    actions = low + share * span
    words = policy.encode(actions)
    assert words.shape == (3, 16)
    assert float(((policy.decode(words) - actions).abs() / span).max()) <= 0.5 / 32 + 1e-6
    assert torch.equal(policy.encode(policy.decode(words)), words)


def test_the_ends_of_the_range_and_beyond_are_the_outer_words() -> None:
    policy = token_policy()
    low, span = policy.get_buffer("low"), policy.get_buffer("span")
    first, last = policy.get_buffer("words")[[0, -1]].tolist()
    vocabulary = policy.vlm.language.vocabulary
    assert (first, last) == (vocabulary - 32, vocabulary - 1)
    for share, word in ((0.0, first), (-9.0, first), (1.0, last), (9.0, last)):
        assert policy.encode((low + share * span).expand(1, 8, 2)).unique().tolist() == [word]


def test_both_searches_act_alike() -> None:
    one, other = token_policy(), token_policy("decoding=fixed_point")
    other.load_state_dict(one.state_dict())
    batch = make_batch(one)
    with torch.no_grad():
        assert torch.equal(one.predict(batch, []), other.predict(batch, []))


def test_words_that_were_learned_are_spoken() -> None:
    """Teacher forcing and decoding see the same thing: the likeliest words of the loss are those that are decoded."""
    policy = token_policy()
    batch = make_batch(policy)
    with torch.no_grad():
        spoken = policy.predict(batch, [])
        raw = spoken * policy.get_buffer("action_scale") + policy.get_buffer("action_shift")
        terms = policy.loss({**batch, "action": raw})[1]
    # Among all words of the vocabulary, not only those of actions, some other may be likelier still.
    words = policy.get_buffer("words")
    logits = policy._logits(policy.vlm.prefix(*policy.inputs(batch)), policy.encode(spoken))
    assert torch.equal(words[logits[..., words].argmax(-1)], policy.encode(spoken))
    assert 0 <= float(terms["accuracy"]) <= 1


def test_all_words_in_one_pass_learn_too() -> None:
    policy = token_policy("decoding=parallel").train()
    batch = make_batch(policy)
    loss, _ = policy.loss(batch)
    loss.backward()
    assert policy.placeholders is not None
    assert policy.placeholders.grad is not None
    assert bool(policy.placeholders.grad.any())
    assert policy.eval().predict(batch, []).shape == (4, 8, 2)


def test_more_bins_than_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="words"):
        token_policy("bins=9999")


def test_a_budget_of_layers_is_kept_on_what_was_seen() -> None:
    policy = deer_policy().train()
    batch = make_batch(policy)
    for _ in range(4):
        policy.loss(batch)
    policy.eval()
    with torch.no_grad():
        found = policy.exits.act(policy.composed, policy.composed.embed(*policy.inputs(batch)))
    layers = torch.tensor(policy.exits.layers)[found.exit].float()
    assert layers.mean() <= policy.budget + 1e-6
    assert 2.0 in layers.tolist()


def test_thresholds_come_back_with_the_weights() -> None:
    policy, other = deer_policy().train(), deer_policy()
    policy.loss(make_batch(policy))
    other.load_state_dict(policy.state_dict(), strict=True)
    observations = make_observations(policy, 2)
    for a, b in zip(act(policy, observations), act(other, observations), strict=True):
        assert (a == b).all()
    assert torch.equal(policy.exits.thresholds, other.exits.thresholds)


def act(policy: DeeRPolicy, observations: list) -> list:
    rng = [np.random.default_rng(0) for _ in observations]
    return [c.actions for c in policy.act(observations, (), rng=rng)[0]]


def test_a_budget_below_the_second_exit_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget"):
        make("deer_tiny", "budget=1.5")
