"""Images enter a frozen language model through gated cross-attention between its layers (Flamingo).

Axis legend: B batch, N text tokens, M image tokens, D width of the language model, C width of the image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .attention import Attention
from .base import Between, Connector, LanguageModel, Sequenced, Tokens, VisionTower
from .fusion import joined
from .language.tokenizers import Tokenizer
from .modalities import Modality, ModalityDropout
from .vlm import TEXT, Composition, among, places, whole


class GatedCrossAttention(nn.Module):
    """x + tanh(α)·attention(x → image), then x + tanh(β)·MLP(x); α = β = 0 at first, which changes nothing
    (Flamingo, Alayrac et al. 2022; RMS norms and a gated MLP as in IDEFICS, Laurençon et al. 2023).

    Args:
        width: D.
        context: C.
        heads: of the attention.
        hidden: width of the MLP.
        eps: of the norms.
    """

    def __init__(self, *, width: int, context: int, heads: int, hidden: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm, self.feed_norm = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)
        self.attention = Attention(width, heads, context, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.attention_gate = nn.Parameter(torch.zeros(1))
        self.feed_gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, seen: Tokens) -> Tensor:
        """x: [B N D]; seen: [B M C]; a row that sees nothing passes the attention unchanged."""
        context = self.attention.project(seen.values)
        x = x + self.attention_gate.tanh() * self.attention(self.norm(x), context, seen.mask)
        y = self.feed_norm(x)
        return x + self.feed_gate.tanh() * self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class GatedVLM(Composition):
    """Tower × connector × language model with gated cross-attention between its layers (Flamingo; IDEFICS).

    The prefix holds words and extra modalities alone. Image tokens take no place in it: its length, and the
    cost of every later token's self-attention, do not grow with the number of cameras.

    Args:
        vision: one tower, shared by all cameras.
        connector: class or partial, usually a resampler; `source` and `width` (both the tower's) are filled in here.
        language, tokenizer: the decoder, and what turns strings into its ids.
        every: a cross-attention stands before layers 0, every, 2·every, …
        hidden: width of its MLP; None is 4 D.
        frozen: keep the language model's weights as they are.
        cameras: names of those to look at; None takes all that are given.
        modalities: extra modality → class or partial of what makes tokens of it; `width` is filled in here.
        dropout: hides whole modalities in training.
        bos: begin the words with the tokenizer's `bos`.
    """

    def __init__(
        self,
        *,
        vision: VisionTower,
        connector: Callable[..., Connector],
        language: LanguageModel,
        tokenizer: Tokenizer,
        every: int = 1,
        hidden: int | None = None,
        frozen: bool = True,
        cameras: Sequence[str] | None = None,
        modalities: Mapping[str, Callable[..., Modality]] | None = None,
        dropout: ModalityDropout | None = None,
        bos: bool = False,
    ) -> None:
        super().__init__(
            vision=vision,
            connector=connector(source=vision.width, width=vision.width),
            language=language,
            tokenizer=tokenizer,
            cameras=cameras,
            modalities=modalities,
            dropout=dropout,
            bos=bos,
        )
        if not 1 <= every <= language.depth:
            raise ConfigError(
                "Cross-attention stands nowhere", expected=f"1 ≤ every ≤ {language.depth}, the layers", got=str(every)
            )
        self.every = every
        self.crosses = nn.ModuleList(
            GatedCrossAttention(
                width=language.width,
                context=self.connector.width,
                heads=language.heads,
                hidden=hidden or 4 * language.width,
            )
            for _ in range(language.depth // every)
        )
        if frozen:
            language.requires_grad_(False)

    def prefix(
        self,
        images: Mapping[str, Tensor],
        texts: Sequence[str],
        extra: Mapping[str, Tensor] | None = None,
        *,
        layers: bool = False,
    ) -> Sequenced:
        words = self.tell(texts)
        parts = self.hide({**self.see(images, words), **self.sense(extra or {}), TEXT: words})
        views = [part for name, part in parts.items() if name in images]
        seen = joined(views) if views else None
        told = joined(part for name, part in parts.items() if name not in images)
        attend = among(told.mask, causal=True)
        found = self.language(
            told.values, attend, places(told.mask), layers=layers, between=None if seen is None else self._look(seen)
        )
        return replace(found, mask=told.mask, seen=seen)

    def read(self, tokens: Tokens, *, layers: bool = False) -> Sequenced:
        """The tokenizer's begin alone, which looks at the tokens as Flamingo's image tag does."""
        begin = self.tokenizer.pad if self.tokenizer.bos is None else self.tokenizer.bos
        ids = torch.full((len(tokens.values), 1), begin, device=tokens.values.device)
        word = whole(self.language.embed(ids))
        attend, between = among(word.mask, causal=True), self._look(tokens)
        found = self.language(word.values, attend, places(word.mask), layers=layers, between=between)
        return replace(found, seen=tokens)

    def bridges(self) -> tuple[nn.Module, ...]:
        return self.connector, self.crosses

    def between(self, prefix: Sequenced) -> Between | None:
        return None if prefix.seen is None else self._look(prefix.seen)

    def _look(self, seen: Tokens) -> Between:
        def between(layer: int, x: Tensor) -> Tensor:
            place, rest = divmod(layer, self.every)
            return x if rest or place >= len(self.crosses) else self.crosses[place](x, seen)

        return between
