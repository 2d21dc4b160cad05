"""The agent on graphs: explicit memory, rows that do not touch each other, and imitation that learns and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nav_fixtures import Named, cross, episode, line

from wayhand.envs.graph import GraphNavigation
from wayhand.envs.graph_batch import GraphBatch
from wayhand.policies.viewpoint import PANORAMA, ViewpointPolicy
from wayhand.vla import checkpoint
from wayhand.vla.backbones.views import ViewTower
from wayhand.vla.backbones.words import WordEncoder, tokenize, vocabulary
from wayhand.vla.contract import Observation, Policy
from wayhand.vla.learning import dagger
from wayhand.vla.learning.loop import Settings, fit
from wayhand.vla.learning.policy import TorchPolicy
from wayhand.vla.normalize import NormStats

GRAPHS = {"cross": cross(), "line": line()}
EPISODES = [
    episode("cross", "abf", "walk north and go up the stairs"),
    episode("cross", "dacg", "walk north, then turn right and go on"),
    episode("cross", "ead", "turn right at the middle", heading=1.57),
    episode("line", "abcd", "go east three times", heading=1.57),
]
TINY = {"width": 16, "heads": 2, "text_depth": 1, "depth": 1, "dropout": 0.0}


def recipe(**more: Any) -> dict[str, Any]:
    words = list(vocabulary([i.text for e in EPISODES for i in e.instructions], least=1))
    text = {"_target_": "wayhand.vla.backbones.words.WordEncoder", "words": words, "width": 16}
    return {"_target_": "wayhand.policies.viewpoint.ViewpointPolicy", "text": text, **TINY, **more}


def practice(**more: Any) -> GraphBatch:
    given = {"graphs": GRAPHS, "episodes": EPISODES, "features": Named(), "batch_size": 4, "max_steps": 6}
    return GraphBatch(**(given | more))


def policy(batch: GraphBatch, **more: Any) -> ViewpointPolicy:
    torch.manual_seed(0)
    node = recipe(**more)
    text = WordEncoder(words=node["text"]["words"], width=16)
    stats = NormStats({PANORAMA: batch.statistics()})
    return ViewpointPolicy(spec=batch.spec, stats=stats, text=text, **TINY, **more)


def observations(count: int = 3) -> list[Observation]:
    env = GraphNavigation(graphs=GRAPHS, episodes=EPISODES, features=Named())
    return [Observation.from_nested(env.reset(seed=i)[0]) for i in range(count)]


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(count)]


# --- the policy ------------------------------------------------------------------------------------------------


def test_it_is_a_policy_whose_actions_are_candidates() -> None:
    agent = policy(practice())
    assert isinstance(agent, Policy)
    seen = observations(1)[0]
    chunks, memory, aux = agent.act([seen], agent.init(agent.spec, [0]), rng=rngs(1))
    assert chunks[0].actions.shape == (1, 1) and len(memory) == 1
    assert seen.extras["candidate_mask"][int(chunks[0].actions[0, 0])]
    assert (np.isfinite(aux["logits"][0]) == seen.extras["candidate_mask"]).all()


def test_rows_do_not_touch_each_other() -> None:
    agent = policy(practice())
    seen = observations(3)
    memory = agent.init(agent.spec, [0, 1, 2])
    for _ in range(2):
        _, together, aux = agent.act(seen, memory, rng=rngs(3))
        alone = [agent.act([o], (m,), rng=rngs(1)) for o, m in zip(seen, memory, strict=True)]
        assert all((aux["logits"][i] == alone[i][2]["logits"][0]).all() for i in range(3))
        memory = together


def test_memory_is_an_argument_and_matters() -> None:
    agent = policy(practice())
    seen = observations(2)
    _, after, first = agent.act(seen, agent.init(agent.spec, [0, 1]), rng=rngs(2))
    twice = [agent.act(seen, after, rng=rngs(2))[2]["logits"] for _ in range(2)]
    assert (twice[0] == twice[1]).all() and (twice[0] != first["logits"]).any()
    fresh = agent.act(seen, agent.init(agent.spec, [0, 1]), rng=rngs(2))[2]["logits"]
    assert (fresh == first["logits"]).all()


def test_training_sees_what_acting_sees() -> None:
    batch = practice()
    agent = policy(batch).eval()
    flat = dagger.rollout(agent, batch, 0, 1.0, 0)
    with torch.no_grad():
        whole, _ = agent.loss(flat)
    right, nll = 0, []
    for index in batch._episodes(0):  # pyright: ignore[reportPrivateUsage]
        env = GraphNavigation(graphs=GRAPHS, episodes=EPISODES, features=Named())
        nested, _ = env.reset(options={"episode": int(index)})
        memory: Any = agent.init(agent.spec, [0])
        over = False
        while not over:
            expert = env.oracle(np.random.default_rng(0))
            seen = Observation.from_nested(nested)
            chunks, _, aux = agent.act([seen], memory, rng=rngs(1))
            logits = torch.from_numpy(aux["logits"][0])
            nll.append(float(-logits.log_softmax(-1)[int(expert[0])]))
            right += int(chunks[0].actions[0, 0] == expert[0])
            with torch.inference_mode():
                columns = dagger.to_tensors({k: v[None] for k, v in seen.columns().items()}) | {
                    "task": [seen.instruction]
                }
                known = agent.begin(columns) if memory[0] is None else memory[0]
                memory = (agent.remember(columns, known, torch.tensor([int(expert[0])])),)
            nested, _, terminated, truncated, _ = env.step(expert)
            over = terminated or truncated
    terms = agent.loss(flat)[1]
    assert len(nll) == len(flat["expert"]) and float(terms["agreement"]) == pytest.approx(right / len(nll))
    # features are kept in half precision for training
    assert float(terms["imitation"]) == pytest.approx(np.mean(nll), abs=2e-3) and torch.isfinite(whole)


@pytest.mark.parametrize(("switch", "path"), [("vision", PANORAMA), ("language", "task")])
def test_what_is_switched_off_has_no_influence(switch: str, path: str) -> None:
    batch = practice()
    for value in (True, False):
        agent = policy(batch, **{switch: value}).eval()
        flat = dagger.rollout(agent, batch, 0, 1.0, 0)
        other = {**flat, path: ["stop"] * 4 if path == "task" else flat[path] + 1}
        same = bool(agent.loss(flat)[0] == agent.loss(other)[0])
        assert same is not value


# --- imitation -------------------------------------------------------------------------------------------------


def test_rollouts_follow_from_seed_and_weights() -> None:
    batch = practice()
    agent = policy(batch).eval()
    first, again = (dagger.rollout(agent, batch, 3, 0.0, 0) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first if k != "task")
    led = dagger.rollout(agent, batch, 3, 1.0, 0)
    assert torch.equal(led["action"], led["expert"]) and float(led["left"].min()) == 0
    ends = [int(led["expert"][led["owner"] == i][-1]) for i in range(4)]
    assert ends == [0, 0, 0, 0]


def test_imitation_overfits_a_few_episodes(tmp_path: Path) -> None:
    batch = practice()
    agent = policy(batch)
    with torch.no_grad():
        before = float(agent.loss(dagger.rollout(agent.eval(), batch, 0, 1.0, 0))[0])
    settings = Settings(steps=60, lr=5e-3, warmup=5, ema=0.9)
    dagger.train(agent, batch, settings, tmp_path, recipe=recipe(), config={})
    terms = agent.eval().loss(dagger.rollout(agent, batch, 0, 1.0, 0))[1]
    assert float(terms["imitation"]) < 0.3 * before and float(terms["agreement"]) > 0.9
    loaded = TorchPolicy.from_checkpoint(tmp_path)
    env = GraphNavigation(graphs=GRAPHS, episodes=EPISODES, features=Named())
    won = 0
    for seed in range(len(EPISODES)):
        nested, _ = env.reset(seed=seed)
        memory, over, info = loaded.init(env.body, [0]), False, {}
        while not over:
            chunks, memory, _ = loaded.act([Observation.from_nested(nested)], memory, rng=rngs(1))
            nested, _, terminated, truncated, info = env.step(chunks[0].actions[0])
            over = terminated or truncated
        won += info["success"]
    assert won >= 3


def test_a_resumed_run_is_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    def run(out: Path, resume: checkpoint.Checkpoint | None = None) -> dict[str, torch.Tensor]:
        batch = practice(batch_size=3)
        agent = policy(batch)
        settings = Settings(steps=4, warmup=1, save_every=2, keep=2)
        dagger.train(agent, batch, settings, out, recipe=recipe(), config={}, resume=resume)
        return checkpoint.load(out).weights("model")

    whole = run(tmp_path / "whole")
    half = checkpoint.load(tmp_path / "whole" / "step-00000002")
    resumed = run(tmp_path / "resumed", half)
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_loaded_agent_is_the_saved_one(tmp_path: Path) -> None:
    batch = practice()
    agent = policy(batch)
    dagger.train(agent, batch, Settings(steps=2, ema=0.0), tmp_path, recipe=recipe(), config={})
    loaded = TorchPolicy.from_checkpoint(tmp_path, ema=False)
    seen = observations(2)
    before, after = (p.act(seen, (None, None), rng=rngs(2))[2]["logits"] for p in (agent, loaded))
    assert (before == after).all()


# --- words and views -------------------------------------------------------------------------------------------


def test_words_are_lower_case_and_unknown_ones_alike() -> None:
    assert tokenize("Turn left, at the TV.") == ["turn", "left", ",", "at", "the", "tv", "."]
    assert vocabulary(["b a b", "a c"], least=2) == ("a", "b")
    text = WordEncoder(words=("go", "left"), width=4).eval()
    values, mask = text(["go left", "GO xyzzy", ""])
    assert mask.tolist() == [[True, True], [True, True], [True, False]]
    assert torch.equal(values[0, 0], values[1, 0]) and not torch.equal(values[0, 1], values[1, 1])


def test_a_tower_learns_where_the_light_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    where = rng.integers(3, size=64)
    images = np.zeros((64, 12, 12, 3), np.uint8)
    for image, third in zip(images, where, strict=True):
        image[:, 4 * third : 4 * third + 4] = 255
    visible = np.eye(3, dtype=bool)[where][..., None]
    torch.manual_seed(0)
    tower = ViewTower(labels=("light",), channels=(8, 8), width=16)
    batch = {"images": torch.from_numpy(images), "visible": torch.from_numpy(visible), "index": where}
    node = {"_target_": "wayhand.vla.backbones.views.ViewTower", "labels": ["light"], "channels": [8, 8], "width": 16}
    settings = Settings(steps=60, lr=1e-2, warmup=5, ema=0.5)
    fit(tower, lambda k, share: batch, settings, tmp_path, recipe=node, config={})
    loaded = ViewTower.from_checkpoint(tmp_path)
    said = loaded.encode(torch.from_numpy(images)).detach().numpy()
    assert said.shape == (64, loaded.width) and ((said > 0.5) == visible[..., 0]).mean() > 0.95
