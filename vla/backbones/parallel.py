"""Decoding many tokens in one pass: placeholders that see each other, and fixed points of greedy decoding.

Shape legend: B batch, H chunk, A action elements, T decoded tokens, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .base import VLM, Sequenced
from .decoding import Decoded, Decoding, Reader, settle


class ParallelActions(nn.Module):
    """A chunk of actions from one pass over placeholders that all attend to each other (OpenVLA-OFT, Kim et al. 2025).

    One placeholder per action element; the D·A numbers of an action step pass through a residual MLP.

    Args:
        width: D of the language model.
        chunk: H; actions: A.
        hidden: width of the MLP; blocks: its residual blocks.
    """

    def __init__(self, *, width: int, chunk: int, actions: int, hidden: int = 1024, blocks: int = 2) -> None:
        super().__init__()
        self.chunk, self.actions = chunk, actions
        self.placeholders = nn.Parameter(torch.zeros(chunk * actions, width))
        self.enter = nn.Sequential(nn.LayerNorm(actions * width), nn.Linear(actions * width, hidden), nn.ReLU())
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU()) for _ in range(blocks)]
        )
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, actions))

    def forward(self, vlm: VLM, prefix: Sequenced) -> Tensor:
        """Normalised actions [B H A], to be trained by their absolute error."""
        x = self.placeholders.to(prefix.hidden.dtype).expand(len(prefix.mask), -1, -1)
        hidden = vlm.extend(prefix, x, causal=False).hidden
        y = self.enter(hidden.reshape(len(hidden), self.chunk, -1))
        for block in self.blocks:
            y = y + block(y)
        return self.leave(y)


@torch.no_grad()
def parallel(model: Reader, prefix: Sequenced, placeholders: Tensor, *, allowed: Tensor | None = None) -> Decoded:
    """One token for each placeholder [T D] or [B T D], all at once, each the likeliest at its place."""
    x = placeholders.expand(len(prefix.mask), -1, -1)
    stream = Decoding(model, prefix, x.shape[1], allowed=allowed)
    logits = stream.logits(stream.see(x, causal=False, keep=False))
    return Decoded(logits.argmax(-1), stream.passes, logits)


@torch.no_grad()
def jacobi(
    model: Reader,
    prefix: Sequenced,
    count: int,
    *,
    guess: Tensor | None = None,
    stop: int | None = None,
    allowed: Tensor | None = None,
) -> Decoded:
    """What `greedy` gives, found as a fixed point in at most as many passes (Jacobi decoding, Santilli et al. 2023;
    for actions PD-VLA, Song et al. 2025).

    All T = `count` tokens are guessed, and each pass replaces each by the likeliest after the guesses before it. After
    k passes the first k + 1 are right whatever was guessed, and what no longer changes is right as a whole.

    Args:
        guess: int [B T] to start from (the chunk before, say); by default the first token, repeated.
    """
    stream = Decoding(model, prefix, max(count, 1), allowed=allowed)
    first = stream.logits(stream.first)
    tokens = first.argmax(-1, keepdim=True).expand(-1, count)
    logits = first[:, None]
    if guess is not None:
        if guess.shape != tokens.shape:
            raise ConfigError("A guess has the wrong shape", expected=str(list(tokens.shape)), got=str(guess.shape))
        tokens = torch.cat([tokens[:, :1], guess[:, 1:]], 1)
    for _ in range(count - 1):
        found = stream.logits(stream.run(tokens[:, :-1], keep=False))
        logits = torch.cat([first[:, None], found], 1)
        before, tokens = tokens, logits.argmax(-1)
        if torch.equal(settle(before, stop), settle(tokens, stop)):
            break
    return Decoded(settle(tokens, stop), stream.passes, logits)
