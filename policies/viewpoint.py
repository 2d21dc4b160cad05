"""An agent on viewpoint graphs: a small cross-modal transformer over panorama, history and words.

A compact relative of HAMT (Chen et al. 2021: one history token per hop, no recurrence, so that a whole episode trains
in parallel) and of DUET's local branch (Chen et al. 2022). It scores the candidates of the present viewpoint, stop
among them.

Axis legend: B rows, K candidates, S numbers that say what a view shows, L words, T hops so far, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..vla.backbones.attention import CrossLayer, EncoderLayer
from ..vla.backbones.text import TextEncoder
from ..vla.contract import ActionChunk, EnvSpec, Memory, Observation
from ..vla.learning.batch import Batch, collate
from ..vla.normalize import NormStats

PANORAMA = "observation.extras.panorama"
_EXTRAS = "observation.extras.candidate_"
HEADINGS = 12
FAR = 10.0  # metres that count as 1


KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Journey:
    """What the agent remembers of B episodes: the words, and every hop.

    Args:
        words: the words as keys and values of each layer; told: bool [B L], True where real.
        hops: float [B T W]; places: int [B T], ids of the viewpoints left behind.
    """

    words: tuple[KeysValues, ...]
    told: Tensor
    hops: Tensor
    places: Tensor

    def rows(self, index: Tensor) -> Journey:
        return Journey(picked(self.words, index), self.told[index], self.hops[index], self.places[index])


def picked(words: tuple[KeysValues, ...], index: Tensor) -> tuple[KeysValues, ...]:
    return tuple((keys[index], values[index]) for keys, values in words)


class ViewpointPolicy(nn.Module):
    """Scores of the candidates and of the place itself, which attend to 12 directions, to past hops and to words.

    Args:
        spec: a body of `graph_body`'s kind.
        stats: of `observation.extras.panorama`, one number per feature.
        text: encoder of the instruction.
        width, heads, text_depth, depth, dropout: of the transformer.
        see: numbers a view's features are first reduced to.
        buckets: parts in which a batch is learned from, by number of candidates, so that little of it is padding.
        max_hops: hops beyond it share one position.
        vision: False for an agent that sees the graph's geometry but no features.
        language: False for an agent that is told nothing.
        progress: weight of the auxiliary loss: the share of the way that is left (Ma et al. 2019).
    """

    def __init__(
        self,
        *,
        spec: EnvSpec,
        stats: NormStats,
        text: TextEncoder,
        width: int = 128,
        heads: int = 4,
        text_depth: int = 2,
        depth: int = 2,
        dropout: float = 0.1,
        see: int = 64,
        buckets: int = 4,
        max_hops: int = 20,
        vision: bool = True,
        language: bool = True,
        progress: float = 0.3,
    ) -> None:
        super().__init__()
        self._spec, self.stats = spec, stats
        self.width, self.max_hops, self.progress = width, max_hops, progress
        self.vision, self.language, self.buckets = vision, language, buckets
        features = spec.extras["panorama"].shape[1]
        stats.require(PANORAMA, features)
        affine = stats.affine(PANORAMA)
        self.register_buffer("_shift", torch.from_numpy(affine.shift).float(), persistent=False)
        self.register_buffer("_scale", torch.from_numpy(affine.scale).float(), persistent=False)
        self.text = text
        self.read_in = nn.Linear(text.width, width)
        self.readers = nn.ModuleList([EncoderLayer(width, heads, dropout) for _ in range(text_depth)])
        self.read_out = nn.LayerNorm(width)
        self.see = nn.Linear(features, see)
        self.directions = nn.Linear(3 * see + 2, width)
        self.candidates = nn.Linear(see + 7, width)
        self.place = nn.Linear(2 * see, width)
        self.hop = nn.Sequential(nn.Linear(2 * see + 4, width), nn.GELU(), nn.Linear(width, width))
        self.kinds = nn.Parameter(torch.randn(3, width) * 0.02)
        self.when = nn.Embedding(max_hops + 1, width)
        self.layers = nn.ModuleList([CrossLayer(width, heads, dropout) for _ in range(depth)])
        self.blur = nn.Dropout(dropout)
        self.context_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.left = nn.Linear(width, 1)

    # -- the contract --------------------------------------------------------------------------------------------------

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def device(self) -> torch.device:
        return self.get_buffer("_shift").device

    def init(self, spec: EnvSpec, seeds: Sequence[int]) -> Memory:
        """An empty memory each; raises `SpecError` where the environment is not the one the policy was trained for."""
        self.spec.require_same(spec, "the policy (left) meets the environment (right)")
        return (None,) * len(seeds)

    def act(
        self,
        observations: Sequence[Observation],
        memory: Memory,
        *,
        rng: Sequence[np.random.Generator],
        prefix: Sequence[ActionChunk | None] | None = None,
        delay: int = 0,
    ) -> tuple[list[ActionChunk], Memory, dict[str, Any]]:
        """The best candidate of each row; `aux["logits"]` is float32 [B K], −inf where padded.

        Rows are computed one at a time, so that an episode does not depend on those beside it.
        """
        self.eval()
        chunks: list[ActionChunk] = []
        after: list[Journey] = []
        logits: list[np.ndarray] = []
        with torch.inference_mode():
            for observation, journey in zip(observations, memory, strict=True):
                batch = collate([observation], self.device)
                known = self.begin(batch) if journey is None else journey
                scores = self.decide(batch, known)
                chosen = scores.argmax(-1)
                after.append(self.remember(batch, known, chosen))
                time = observation.time
                actions = chosen[:, None].cpu().numpy().astype(np.float32)
                chunks.append(ActionChunk(actions, np.array([time + self.spec.control_dt]), time))
                logits.append(scores[0].float().cpu().numpy())
        return chunks, tuple(after), {"logits": np.stack(logits) if logits else np.zeros((0, 0), np.float32)}

    # -- imitation -----------------------------------------------------------------------------------------------------

    def begin(self, batch: Batch) -> Journey:
        """The memory at the start of B episodes."""
        words, told = self.read(batch["task"])
        empty = torch.zeros(len(told), 0, self.width, device=told.device)
        return Journey(words, told, empty, torch.zeros(len(told), 0, dtype=torch.long, device=told.device))

    def decide(self, batch: Batch, journey: Journey) -> Tensor:
        """Scores [B K] of the candidates, −inf where padded."""
        known = torch.ones(journey.places.shape, dtype=torch.bool, device=journey.places.device)
        been = self.been(batch, journey.places, known)
        step = torch.full((len(been),), journey.places.shape[1], device=been.device)
        views = self.panorama(batch)
        return self.think(batch, views, step, been, (journey.hops, known), journey.words, journey.told)[0]

    def remember(self, batch: Batch, journey: Journey, action: Tensor) -> Journey:
        """The memory after action [B]."""
        step = torch.full_like(action, journey.places.shape[1])
        hop = self.embed_hop(batch, self.panorama(batch), action, step)[:, None]
        here = batch[_EXTRAS + "id"][:, :1].long()
        return Journey(
            journey.words, journey.told, torch.cat([journey.hops, hop], 1), torch.cat([journey.places, here], 1)
        )

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """Cross-entropy to the expert over the decisions of whole episodes.

        Args:
            batch: columns [M …] of M decisions, sorted by episode and step; `owner`, `step`, `action`, `expert` int
                [M]; `left` float [M], the share of the way that is left; `task`: one instruction per episode.
        """
        owner, step, action = batch["owner"], batch["step"], batch["action"]
        episodes, longest = len(batch["task"]), int(step.max()) + 1
        words, told = self.read(batch["task"])
        views = self.panorama(batch)
        hops = torch.zeros(episodes, longest, self.width, device=told.device)
        hops = hops.index_put((owner, step), self.embed_hop(batch, views, action, step))
        places = torch.full((episodes, longest), -1, device=told.device)
        places[owner, step] = batch[_EXTRAS + "id"][:, 0].long()
        known = torch.arange(longest, device=told.device) < step[:, None]
        been = self.been(batch, places[owner], known)
        order = batch[_EXTRAS + "mask"].sum(1).argsort(stable=True)
        found: list[tuple[Tensor, Tensor]] = []
        for part in order.chunk(self.buckets):
            rows = {k: v[part] for k, v in batch.items() if k != "task"}
            who = owner[part]
            history = hops[who], known[part]
            found.append(self.think(rows, views[part], step[part], been[part], history, picked(words, who), told[who]))
        back = order.argsort()
        scores, left = torch.cat([f[0] for f in found])[back], torch.cat([f[1] for f in found])[back]
        imitation = nn.functional.cross_entropy(scores, batch["expert"])
        monitor = nn.functional.mse_loss(left, batch["left"])
        right = (scores.argmax(-1) == batch["expert"]).float().mean()
        terms = {"imitation": imitation.detach(), "monitor": monitor.detach(), "agreement": right}
        return imitation + self.progress * monitor, terms

    # -- parts ---------------------------------------------------------------------------------------------------------

    def read(self, texts: Sequence[str]) -> tuple[tuple[KeysValues, ...], Tensor]:
        """Keys and values of the words for each layer, and their mask [B L]; one word where language is off."""
        values, mask = self.text(texts if self.language else [""] * len(texts))
        values = self.read_in(values)
        for layer in self.readers:
            values = layer(values, mask)
        values = self.read_out(values)
        return tuple(layer.words.project(values) for layer in self._crosses), mask

    @property
    def _crosses(self) -> list[CrossLayer]:
        return [layer for layer in self.layers if isinstance(layer, CrossLayer)]

    def panorama(self, batch: Batch) -> Tensor:
        """What each view shows, float [B 36 S]; zeros where vision is off."""
        views = (batch[PANORAMA].float() - self.get_buffer("_shift")) / self.get_buffer("_scale")
        seen = self.blur(self.see(views))
        return seen if self.vision else torch.zeros_like(seen)

    def been(self, batch: Batch, places: Tensor, known: Tensor) -> Tensor:
        """bool [B K]: whether a candidate was visited before, from places [B T] where known."""
        ids = batch[_EXTRAS + "id"].long()
        return ((ids[:, :, None] == places[:, None]) & known[:, None]).any(-1)

    def embed_hop(self, batch: Batch, views: Tensor, action: Tensor, step: Tensor) -> Tensor:
        """[B W]: the place, what lay in the direction taken, and that direction."""
        row = torch.arange(len(views), device=views.device)
        ahead = views[row, batch[_EXTRAS + "view"][row, action].long()]
        token = torch.cat([views.mean(1), ahead, batch[_EXTRAS + "angles"][row, action]], -1)
        return self.hop(token) + self.when(step.clamp(max=self.max_hops))

    def think(
        self,
        batch: Batch,
        views: Tensor,
        step: Tensor,
        been: Tensor,
        history: tuple[Tensor, Tensor],
        words: tuple[KeysValues, ...],
        told: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Scores [B K] and the share of the way that is left [B]."""
        mask = batch[_EXTRAS + "mask"]
        used = int(mask.sum(1).max())  # real candidates come first: what is padding in every row costs nothing
        around = self.directions(torch.cat([self._rings(views), self._bearings(batch)], -1)) + self.kinds[0]
        options = self.candidates(self._options(batch, views, been)[:, :used]) + self.kinds[1]
        place = torch.cat([views.mean(1), views.amax(1)], -1)
        here = self.place(place) + self.kinds[2] + self.when(step.clamp(max=self.max_hops))
        # Candidate 0 is the place itself: to choose it is to stop.
        x = torch.cat([here[:, None], options[:, 1:]], 1)
        around = self.context_norm(torch.cat([around, history[0]], 1))
        known = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, HEADINGS), history[1]], 1)
        for layer, context in zip(self._crosses, words, strict=True):
            x = layer(x, mask[:, :used], (around, known), context, told)
        x = self.norm(x)
        scores = self.score(x)[..., 0].masked_fill(~mask[:, :used], float("-inf"))
        padding = (0, mask.shape[1] - used)
        return nn.functional.pad(scores, padding, value=float("-inf")), self.left(x[:, 0])[:, 0]

    @staticmethod
    def _rings(views: Tensor) -> Tensor:
        """[B 36 S] → [B 12 3S]: the three elevations of each heading side by side."""
        return views.unflatten(1, (3, HEADINGS)).transpose(1, 2).flatten(2)

    def _bearings(self, batch: Batch) -> Tensor:
        """[B 12 2]: sine and cosine of each heading relative to the agent's."""
        heading = batch["observation.state"][:, 3:4]
        angle = torch.arange(HEADINGS, device=heading.device) * (2 * torch.pi / HEADINGS) - heading
        return torch.stack([angle.sin(), angle.cos()], -1)

    @staticmethod
    def _options(batch: Mapping[str, Any], views: Tensor, been: Tensor) -> Tensor:
        """[B K S + 7]: what each candidate's view shows, where it lies, and whether it was visited."""
        index = batch[_EXTRAS + "view"].long()[..., None].expand(-1, -1, views.shape[-1])
        distance = batch[_EXTRAS + "distance"][..., None] / FAR
        flags = torch.stack([been, ~been], -1).float()
        return torch.cat([views.gather(1, index), batch[_EXTRAS + "angles"], distance, flags], -1)
