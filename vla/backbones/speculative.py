"""Speculative decoding: a cheap draft proposes some tokens, the target checks them all in one pass (Leviathan 2023).

What comes out is what the target alone would have given: token for token where it is greedy, in distribution where
it samples.

Shape legend: B batch, G tokens proposed in a round, T decoded tokens, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .base import Sequenced
from .decoding import Decoded, Decoding, Reader, draw, probabilities, settle, uniforms

Choose = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Logits [B V] → tokens int [B] and the probabilities [B V] they were drawn from."""


class Draft(ABC):
    """Proposes tokens; knows of each round what was accepted."""

    @abstractmethod
    def begin(self, room: int, allowed: Tensor | None) -> None:
        """Forget everything behind the prefix; up to `room` tokens will follow."""

    @abstractmethod
    def propose(self, last: Tensor, count: int, choose: Choose) -> tuple[Tensor, Tensor]:
        """G = `count` tokens to follow `last` int [B], and the distributions [B G V] they were drawn from."""

    @abstractmethod
    def accept(self, accepted: Tensor, used: Tensor) -> None:
        """Of the round's `last` and proposals, the first 1 + accepted int [B] stand; `used` int [B] stand in all."""


class ModelDraft(Draft):
    """A smaller model behind its own prefix (of the same observation and words)."""

    def __init__(self, model: Reader, prefix: Sequenced) -> None:
        self._model, self._prefix = model, prefix
        self._stream: Decoding | None = None

    def begin(self, room: int, allowed: Tensor | None) -> None:
        self._stream = Decoding(self._model, self._prefix, room, allowed=allowed)

    def propose(self, last: Tensor, count: int, choose: Choose) -> tuple[Tensor, Tensor]:
        stream = self._begun()
        tokens, chances = [last], []
        for _ in range(count):
            token, chance = choose(stream.logits(stream.run(tokens[-1][:, None])[:, 0]))
            tokens.append(token)
            chances.append(chance)
        # The last proposal enters the cache too: a row that has all accepted goes on behind it.
        stream.run(tokens[-1][:, None])
        return torch.stack(tokens[1:], 1), torch.stack(chances, 1)

    def accept(self, accepted: Tensor, used: Tensor) -> None:
        self._begun().cache.keep(used)

    def _begun(self) -> Decoding:
        assert self._stream is not None, "begin() comes first"
        return self._stream


class PromptLookup(Draft):
    """Proposes what followed the last tokens where they stood before (prompt lookup, Saxena 2023); costs no model.

    Args:
        words: int [B L] to look in beside what was decoded: the tokens of an instruction, or the chunk before.
        vocabulary: V.
        longest: tokens to match, at most.
    """

    def __init__(self, words: Tensor, vocabulary: int, *, longest: int = 3) -> None:
        self._words, self._vocabulary, self._longest = words.tolist(), vocabulary, longest
        self._seen: list[list[int]] = []
        self._round = torch.zeros(0)

    def begin(self, room: int, allowed: Tensor | None) -> None:
        self._seen = [list(row) for row in self._words]

    def propose(self, last: Tensor, count: int, choose: Choose) -> tuple[Tensor, Tensor]:
        rows = [self._continue([*seen, token], count) for seen, token in zip(self._seen, last.tolist(), strict=True)]
        tokens = torch.tensor(rows, device=last.device)
        self._round = torch.cat([last[:, None], tokens], 1)
        return tokens, torch.nn.functional.one_hot(tokens, self._vocabulary).double()

    def accept(self, accepted: Tensor, used: Tensor) -> None:
        for seen, row, count in zip(self._seen, self._round.tolist(), accepted.tolist(), strict=True):
            seen += row[: 1 + count]

    def _continue(self, seen: list[int], count: int) -> list[int]:
        for length in range(min(self._longest, len(seen) - 1), 0, -1):
            tail = seen[-length:]
            for start in range(len(seen) - length - 1, -1, -1):
                if seen[start : start + length] == tail:
                    follow = seen[start + length : start + length + count]
                    return follow + [seen[-1]] * (count - len(follow))
        return [seen[-1]] * count


@torch.no_grad()
def speculative_greedy(
    model: Reader,
    prefix: Sequenced,
    count: int,
    draft: Draft,
    *,
    ahead: int = 4,
    stop: int | None = None,
    allowed: Tensor | None = None,
) -> Decoded:
    """What `greedy` gives, in fewer passes of `model` where the draft often proposes the same.

    Args:
        ahead: G.
    """

    def choose(logits: Tensor) -> tuple[Tensor, Tensor]:
        tokens = logits.argmax(-1)
        return tokens, torch.zeros_like(logits)

    def check(logits: Tensor, proposed: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
        best = logits.argmax(-1)
        accepted = (best[:, :-1] == proposed).long().cumprod(1).sum(1)
        return accepted, best.gather(1, accepted[:, None])[:, 0]

    return _rounds(
        Decoding(model, prefix, count + ahead + 1, allowed=allowed),
        count,
        draft,
        ahead,
        stop,
        allowed,
        choose,
        check,
    )


@torch.no_grad()
def speculative_sample(
    model: Reader,
    prefix: Sequenced,
    count: int,
    draft: Draft,
    rng: Sequence[np.random.Generator],
    *,
    temperature: float = 1.0,
    ahead: int = 4,
    stop: int | None = None,
    allowed: Tensor | None = None,
) -> Decoded:
    """Tokens with exactly the distribution that `sample` gives them; one generator per row."""
    device = prefix.mask.device

    def choose(logits: Tensor) -> tuple[Tensor, Tensor]:
        chances = probabilities(logits, temperature)
        return draw(chances, uniforms(rng, device)), chances

    def check(logits: Tensor, proposed: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
        keep = uniforms(rng, device, proposed.shape[1])
        return verify(probabilities(logits, temperature), chances, proposed, keep, uniforms(rng, device))

    return _rounds(
        Decoding(model, prefix, count + ahead + 1, allowed=allowed),
        count,
        draft,
        ahead,
        stop,
        allowed,
        choose,
        check,
    )


def verify(target: Tensor, drafted: Tensor, proposed: Tensor, keep: Tensor, again: Tensor) -> tuple[Tensor, Tensor]:
    """Which proposals stand, and the token that follows them, so that all have the target's distribution.

    A proposal x stands with probability min(1, p(x) / q(x)); the first that falls is replaced by a draw from
    max(0, p − q), and where none falls one more token is drawn from p (Leviathan et al. 2023, algorithm 1).

    Args:
        target: p, probabilities [B G+1 V]; drafted: q [B G V]; proposed: int [B G], drawn from q.
        keep: uniform [B G]; again: uniform [B]; independent of each other and of how `proposed` was drawn.

    Returns:
        accepted int [B], 0 to G; the token that follows, int [B].
    """
    p = target[:, :-1].gather(2, proposed[..., None])[..., 0]
    q = drafted.gather(2, proposed[..., None])[..., 0]
    accepted = (keep * q < p).long().cumprod(1).sum(1)
    rows = torch.arange(len(target), device=target.device)
    none = torch.zeros_like(drafted[:, :1])
    rest = (target[rows, accepted] - torch.cat([drafted, none], 1)[rows, accepted]).clamp_min(0)
    # Where p equals q up to rounding nothing is left of p − q, though a proposal may have fallen by that rounding.
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, target[rows, accepted])
    return accepted, draw(rest, again)


def _rounds(
    stream: Decoding,
    count: int,
    draft: Draft,
    ahead: int,
    stop: int | None,
    allowed: Tensor | None,
    choose: Choose,
    check: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Decoded:
    if ahead < 1:
        raise ConfigError("A draft proposes at least one token", got=f"ahead={ahead}")
    draft.begin(stream.cache.room, allowed)
    last, _ = choose(stream.logits(stream.first))
    tokens = torch.cat([last[:, None], last.new_zeros(len(last), count + ahead)], 1)
    done = torch.ones_like(last)
    places = torch.arange(ahead + 1, device=last.device)
    while bool((done < count).any()):
        proposed, chances = draft.propose(last, ahead, choose)
        logits = stream.logits(stream.run(torch.cat([last[:, None], proposed], 1)))
        accepted, follows = check(logits, proposed, chances)
        stands = torch.cat([proposed, proposed[:, -1:]], 1).scatter(1, accepted[:, None], follows[:, None])
        tokens.scatter_(1, done[:, None] + places, stands)
        # Rows that have enough stay where they are; the room behind `count` is for what is thrown away.
        done = (done + accepted + 1).clamp(max=count)
        last = tokens.gather(1, done[:, None] - 1)[:, 0]
        stream.cache.keep(done - 1)
        draft.accept(accepted, done - 1)
        if stop is not None:
            met = (tokens == stop) & (torch.arange(tokens.shape[1], device=last.device) < done[:, None])
            done = torch.where(met.any(1), count, done)
    return Decoded(settle(tokens[:, :count], stop), stream.passes)
