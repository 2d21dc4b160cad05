"""Agents on graphs: trained by interactive imitation, walked through a split, and scored by the frozen protocol."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.features import FeatureCache
from ...datasets.formats import r2r
from ...envs.graph import GraphNavigation
from ...envs.graph_batch import GraphBatch
from ...policies.viewpoint import PANORAMA
from ...vla import checkpoint
from ...vla.backbones.words import vocabulary
from ...vla.config import Config, instantiate
from ...vla.contract import EnvSpec, Episode, Policy
from ...vla.errors import WayhandError
from ...vla.evaluation.nav_score import Score
from ...vla.evaluation.records import EpisodeRequest
from ...vla.evaluation.rollout import rollout
from ...vla.evaluation.statistics import wilson
from ...vla.learning import dagger
from ...vla.learning.loop import Progress, Settings
from ...vla.learning.policy import TorchPolicy
from ...vla.navigation import NavEpisode, NavResult, ViewpointGraph
from ...vla.normalize import NormStats
from .data import shown

AGENTS: Mapping[str, dict[str, bool]] = {
    "full": {},
    "blind": {"vision": False},
    "no_instruction": {"language": False},
}
"""The agents of a comparison: what each goes without, in training and in evaluation alike."""
MEASURES = ("sr", "osr", "spl", "ndtw", "ne", "tl")


def train_agent(
    out: Path,
    recipe: Config,
    switches: Mapping[str, bool],
    practice: GraphBatch,
    texts: Sequence[str],
    settings: Settings,
    teacher: tuple[float, float],
) -> Progress:
    """One agent into `out`; a run that is complete is left alone, an unfinished one goes on."""
    resume = checkpoint.load(out) if checkpoint.steps(out) else None
    if resume is not None and resume.step >= settings.steps:
        return Progress(step=resume.step, seconds=float(resume.trainer["seconds"]))
    node = {**recipe.to_dict(), **switches}
    if "words" in node["text"] and not node["text"]["words"]:
        node["text"] = {**node["text"], "words": list(vocabulary(texts))}
    torch.manual_seed(settings.seed)
    stats = NormStats({PANORAMA: practice.statistics()})
    policy = instantiate(node, spec=practice.spec, stats=stats)
    config = {"switches": dict(switches), "settings": vars(settings) | {"teacher": list(teacher)}}
    return dagger.train(policy, practice, settings, out, teacher=teacher, recipe=node, config=config, resume=resume)


def trained(path: Path, spec: EnvSpec) -> Policy:
    """The agent of a run; its averaged weights."""
    policy: Any = TorchPolicy.from_checkpoint(path)
    return policy


class Walks:
    """Collects where each whole episode went, as result files of R2R tell it."""

    def __init__(self, env: GraphNavigation) -> None:
        self._env = env
        self.results: list[NavResult] = []

    def append(self, episode: Episode) -> None:
        told, instruction = self._env.items[int(episode.provenance["seed"])]
        graph = self._env.atlas.graphs[told.scan]
        rows = [*episode.columns["observation.extras.candidate_id"][:, 0], episode.final.extras["candidate_id"][0]]
        states = [*episode.columns["observation.state"], episode.final.state]
        hops = [i for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]
        self.results.append(
            NavResult(
                instruction.id,
                path=tuple(graph.ids[int(rows[i])] for i in hops),
                headings=tuple(float(states[i][3]) for i in hops),
                elevations=tuple(float(states[i][4]) for i in hops),
                stopped=bool(episode.columns["action"][-1, 0] == 0),
            )
        )


def walk(
    path: Path,
    policy: Callable[[EnvSpec], Policy],
    graphs: Mapping[str, ViewpointGraph],
    episodes: Sequence[NavEpisode],
    features: FeatureCache,
) -> list[NavResult]:
    """Where an agent goes, one result per instruction; kept in `path`, a submission file, and read from there."""
    if path.exists():
        return r2r.load_results(path)
    env = GraphNavigation(graphs=graphs, episodes=episodes, features=features)
    walks = Walks(env)
    requests = [EpisodeRequest(seed) for seed in range(len(env.items))]
    agent = policy(env.body)
    for request in shown(requests, len(requests), path.stem, "episodes"):
        (result,) = rollout(lambda: env, lambda body: agent, [request], workers=0, execute=1, sink=walks)
        if result.error:
            raise WayhandError(f"Episode {request.seed} of '{path.stem}' failed", got=result.error)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".writing")
    r2r.save_results(aside, walks.results)
    aside.replace(path)
    return walks.results


def chosen(episodes: Sequence[NavEpisode], count: int | None, seed: int) -> list[NavEpisode]:
    """All of a split where `count` is None; else so many of its paths with one of their instructions each."""
    if count is None:
        return list(episodes)
    order = np.random.default_rng([seed, 2]).permutation(len(episodes))[:count]
    kept = [episodes[i] for i in sorted(order.tolist())]
    return [replace(e, instructions=(e.instructions[i % len(e.instructions)],)) for i, e in enumerate(kept)]


def swapped(text: str) -> str:
    """The instruction with left and right exchanged."""
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b(left|right|Left|Right)\b", lambda m: other[m[0]], text)


def retold(episodes: Sequence[NavEpisode], tell: Callable[[str], str]) -> list[NavEpisode]:
    """The same episodes in other words."""
    return [replace(e, instructions=tuple(replace(i, text=tell(i.text)) for i in e.instructions)) for e in episodes]


def shuffled(episodes: Sequence[NavEpisode], seed: int) -> list[NavEpisode]:
    """The same episodes, each told what another one is told."""
    order = np.random.default_rng([seed, 3]).permutation(len(episodes))
    # A cyclic shift of a random order: nobody keeps their own.
    other = {int(a): episodes[int(b)].instructions for a, b in zip(order, np.roll(order, 1), strict=True)}

    def told(i: int, episode: NavEpisode) -> NavEpisode:
        words = [x.text for x in other[i]]
        heard = [replace(x, text=words[k % len(words)]) for k, x in enumerate(episode.instructions)]
        return replace(episode, instructions=tuple(heard))

    return [told(i, e) for i, e in enumerate(episodes)]


def figures(scored: Score) -> dict[str, Any]:
    """JSON values of one row: means, intervals resampled by path, and Wilson's of the success rate."""
    successes, n = round(scored.metrics["sr"] * len(scored.rows)), len(scored.rows)
    return {
        "n": n,
        "id": scored.id,
        "metrics": {name: scored.metrics[name] for name in MEASURES},
        "intervals": {name: interval for name, interval in scored.intervals().items() if name in MEASURES},
        "sr_wilson": list(wilson(successes, n)),
    }
