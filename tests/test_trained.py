"""A run's policy in its faster form is the same policy, and one that has none is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_policies import make_batch, make_policy, make_spec, make_stats
from test_serve import saved

from wayhand.policies.expert_flow import ExpertFlowPolicy
from wayhand.scripts.compose import CONF
from wayhand.scripts.trained import load_trained
from wayhand.vla import checkpoint
from wayhand.vla.backbones.kernels import build
from wayhand.vla.config import compose
from wayhand.vla.errors import ConfigError


def run_of(recipe: str, out: Path) -> Path:
    """A checkpoint of an untrained policy."""
    node = compose(CONF, "train", [f"policy={recipe}", "data=x", "out=y"])["policy"].to_dict()
    parts, spec = {"model": make_policy(recipe).state_dict()}, make_spec()
    told = {"specs": {spec.embodiment: spec}, "statistics": {spec.embodiment: make_stats(spec)}}
    checkpoint.save(out, 1, parts=parts, policy=node, config={}, trainer={}, **told)
    return out


@pytest.mark.skipif(build.compiler() is None, reason="the kernels need a C++ compiler")
@torch.no_grad()
def test_the_kernels_of_a_run_give_its_actions(tmp_path: Path) -> None:
    run = run_of("smolvla_tiny", tmp_path / "run")
    plain, quick = load_trained(run), load_trained(run, fast="kernels")
    assert isinstance(plain, ExpertFlowPolicy) and isinstance(quick, ExpertFlowPolicy)
    batch, noise = make_batch(plain), torch.randn(4, plain.chunk, plain.room)
    torch.testing.assert_close(quick.denoise(batch, noise), plain.denoise(batch, noise), atol=1e-4, rtol=0.0)


def test_a_policy_without_a_faster_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RegressionPolicy"):
        load_trained(saved(tmp_path / "run"), fast="kernels")
