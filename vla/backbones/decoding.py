"""Decoding tokens behind a prefix, one after another, with keys and values kept in memory that is reserved once.

Shape legend: B batch, P prefix tokens, R room behind the prefix, N tokens of one pass, T decoded tokens, D width,
K key-value heads, E width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .base import VLM, KeysValues, LanguageModel, Sequenced

Reader = LanguageModel | VLM
"""What decodes: a language model alone, or as the part of a VLM that read the prefix."""


@dataclass(frozen=True)
class Decoded:
    """What a decoder produced.

    Args:
        tokens: int [B T]; behind a row's first stop token there are only stop tokens.
        passes: how often the (target) language model ran.
        logits: float [B T V], what each token was chosen from, where the method gives them.
    """

    tokens: Tensor
    passes: int
    logits: Tensor | None = None


class StaticCache:
    """Keys and values of a prefix and of up to R tokens behind it, whose shapes and addresses never change.

    The prefix is copied once and stays as it is. Rows may hold different numbers of tokens, so that a row can take
    back some of what it decoded without the others. Slots that hold nothing are masked, never read.

    Args:
        prefix: what the tokens stand behind.
        room: R.

    Attributes:
        keys_values: [B K P+R E] of each layer.
        used: int [B], slots behind the prefix that are taken.
    """

    keys_values: KeysValues
    used: Tensor

    def __init__(self, prefix: Sequenced, room: int) -> None:
        if room < 1:
            raise ConfigError("A cache needs room for a token", expected="room of at least 1", got=str(room))
        self._prefix_mask, self._length, self.room = prefix.mask, prefix.mask.shape[1], room
        self._start = VLM.next_position(prefix)
        self.used = torch.zeros_like(self._start)
        self.keys_values = tuple((_roomy(k, room), _roomy(v, room)) for k, v in prefix.keys_values)
        self._slots = torch.arange(room, device=prefix.mask.device)

    @property
    def mask(self) -> Tensor:
        """bool [B P+R], True where there is something to attend to."""
        return torch.cat([self._prefix_mask, self._slots < self.used[:, None]], 1)

    def positions(self, count: int) -> Tensor:
        """int [B count] of the next tokens."""
        return (self._start + self.used)[:, None] + torch.arange(count, device=self.used.device)

    def attend(self, count: int, *, causal: bool = True) -> Tensor:
        """bool [B count P+R+count]: the next tokens to what is cached, and to each other."""
        own = torch.ones(count, count, dtype=torch.bool, device=self.used.device)
        own = own.tril() if causal else own
        batch = len(self.used)
        return torch.cat([self.mask[:, None].expand(-1, count, -1), own.expand(batch, -1, -1)], -1)

    def append(self, keys_values: KeysValues) -> None:
        """Take in N tokens [B K N E] of each layer, at each row's next slots; R must have room for them."""
        count = keys_values[0][0].shape[2]
        slots = (self._length + self.used)[:, None] + torch.arange(count, device=self.used.device)
        rows = torch.arange(len(slots), device=slots.device)[:, None]
        for (keys, values), (new_keys, new_values) in zip(self.keys_values, keys_values, strict=True):
            keys[rows, :, slots] = new_keys.transpose(1, 2).to(keys.dtype)
            values[rows, :, slots] = new_values.transpose(1, 2).to(values.dtype)
        self.used = self.used + count

    def keep(self, used: Tensor) -> None:
        """Forget what lies beyond `used` int [B] slots of each row."""
        self.used = used


class Decoding:
    """A language model behind a prefix: each pass reads what is cached and adds its tokens to it.

    Args:
        model: the decoder, or the VLM whose decoder it is.
        prefix: what it computed for what was seen and told.
        room: how many tokens may follow.
        allowed: int [·]: the only tokens that may be produced (action tokens, say); by default all.
    """

    def __init__(self, model: Reader, prefix: Sequenced, room: int, *, allowed: Tensor | None = None) -> None:
        self.language = model.language if isinstance(model, VLM) else model
        self._between = model.between(prefix) if isinstance(model, VLM) else None
        self.cache = StaticCache(prefix, room)
        self.first = last_hidden(prefix)
        self.passes = 0
        self._barred: Tensor | None = None
        if allowed is not None:
            barred = torch.ones(self.language.vocabulary, dtype=torch.bool, device=prefix.mask.device)
            self._barred = barred.index_fill(0, allowed.to(barred.device), False)

    def run(self, tokens: Tensor, *, keep: bool = True) -> Tensor:
        """int [B N], causal among themselves → hidden states [B N D]; `keep` leaves them in the cache."""
        return self.see(self.language.embed(tokens), keep=keep)

    def see(self, x: Tensor, *, causal: bool = True, keep: bool = True) -> Tensor:
        """Embeddings [B N D] → hidden states [B N D]."""
        count, cache = x.shape[1], self.cache
        attend, positions = cache.attend(count, causal=causal), cache.positions(count)
        done = self.language(x, attend, positions, cache.keys_values, between=self._between)
        if keep:
            cache.append(done.keys_values)
        self.passes += 1
        return done.hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """[… D] → [… V], minus infinity where a token may not be produced."""
        found = self.language.logits(hidden)
        return found if self._barred is None else found.masked_fill(self._barred, -torch.inf)


@torch.no_grad()
def greedy(
    model: Reader,
    prefix: Sequenced,
    count: int,
    *,
    stop: int | None = None,
    allowed: Tensor | None = None,
) -> Decoded:
    """T = `count` tokens, each the likeliest after those before it; fewer where all rows have met `stop` earlier."""
    stream = Decoding(model, prefix, count, allowed=allowed)
    logits = [stream.logits(stream.first)]
    tokens = [logits[0].argmax(-1)]
    while len(tokens) < count and not _all_stopped(tokens, stop):
        logits.append(stream.logits(stream.run(tokens[-1][:, None])[:, 0]))
        tokens.append(logits[-1].argmax(-1))
    return Decoded(settle(torch.stack(tokens, 1), stop), stream.passes, torch.stack(logits, 1))


@torch.no_grad()
def sample(
    model: Reader,
    prefix: Sequenced,
    count: int,
    rng: Sequence[np.random.Generator],
    *,
    temperature: float = 1.0,
    stop: int | None = None,
    allowed: Tensor | None = None,
) -> Decoded:
    """As `greedy`, each token drawn from softmax(logits / temperature); one generator per row."""
    stream = Decoding(model, prefix, count, allowed=allowed)
    logits = [stream.logits(stream.first)]
    tokens = [draw(probabilities(logits[0], temperature), uniforms(rng, logits[0].device))]
    while len(tokens) < count and not _all_stopped(tokens, stop):
        logits.append(stream.logits(stream.run(tokens[-1][:, None])[:, 0]))
        tokens.append(draw(probabilities(logits[-1], temperature), uniforms(rng, logits[-1].device)))
    return Decoded(settle(torch.stack(tokens, 1), stop), stream.passes, torch.stack(logits, 1))


def last_hidden(prefix: Sequenced) -> Tensor:
    """[B D]: the hidden state of each row's last real token, wherever the padding lies."""
    return prefix.hidden[torch.arange(len(prefix.mask), device=prefix.mask.device), last_place(prefix.mask)]


def last_place(mask: Tensor) -> Tensor:
    """bool [B N] → int [B]: where each row's last real token is."""
    places = torch.arange(mask.shape[1], device=mask.device)
    return places.where(mask, -1).amax(1).clamp(min=0)


def continued(prefix: Sequenced, more: Sequenced) -> Sequenced:
    """One prefix of a prefix and what `VLM.extend` found behind it: a question behind what is seen, say."""
    layers = zip(prefix.keys_values, more.keys_values, strict=True)
    return replace(
        prefix,
        hidden=torch.cat([prefix.hidden, more.hidden], 1),
        mask=torch.cat([prefix.mask, more.mask], 1),
        positions=torch.cat([prefix.positions, _axes_of(prefix.positions, more.positions)], 1),
        keys_values=tuple((torch.cat([a, c], 2), torch.cat([b, d], 2)) for (a, b), (c, d) in layers),
        layers=tuple(torch.cat(pair, 1) for pair in zip(prefix.layers, more.layers, strict=False)),
    )


def _axes_of(positions: Tensor, others: Tensor) -> Tensor:
    """`others` with as many axes of space and time as `positions`: a word is at the same place on all of them."""
    if positions.ndim == others.ndim:
        return others
    return others[..., None].expand(*others.shape, positions.shape[-1])


def settle(tokens: Tensor, stop: int | None) -> Tensor:
    """int [B T] with every token behind a row's first stop token replaced by it."""
    if stop is None:
        return tokens
    ended = (tokens == stop).long().cumsum(1) - (tokens == stop).long()
    return tokens.masked_fill(ended > 0, stop)


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature), in double precision so that a draw by `draw` follows it closely."""
    if temperature <= 0:
        raise ConfigError("A temperature must be positive", got=str(temperature), run="use greedy decoding instead")
    return (logits.double() / temperature).softmax(-1)


def uniforms(rng: Sequence[np.random.Generator], device: torch.device, count: int | None = None) -> Tensor:
    """Uniform numbers in [0, 1), double [B] or [B count], each row from its own generator."""
    return torch.from_numpy(np.stack([g.random(count) for g in rng])).to(device)


def draw(chances: Tensor, uniform: Tensor) -> Tensor:
    """int [B]: the inverse of the distribution function of chances [B V], which may lack normalisation, at [B]."""
    heights = chances.double().cumsum(-1)
    found = torch.searchsorted(heights, uniform.double()[:, None] * heights[:, -1:], right=True)[:, 0]
    # Rounding may leave the last step of the ladder below 1: the last token that has a chance takes the rest.
    last = (chances > 0).long().mul(torch.arange(1, chances.shape[-1] + 1, device=chances.device)).amax(-1) - 1
    return torch.minimum(found, last)


def _all_stopped(tokens: list[Tensor], stop: int | None) -> bool:
    # Asking makes an accelerator wait, so it is asked only where there is something to win.
    return stop is not None and bool((torch.stack(tokens, 1) == stop).any(1).all())


def _roomy(values: Tensor, room: int) -> Tensor:
    """[B K P E] → [B K P+R E], copied; the rest is zero, since a masked value must still be a number."""
    return torch.nn.functional.pad(values.detach(), (0, 0, 0, room))
