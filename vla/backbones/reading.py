"""Pictures and words as objectives read them: one shared pass, and what follows from words behind a picture.

Shape legend: B pictures, n texts, L words, D width of the language model, M tokens of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .base import Sequenced, Tokens
from .vlm import Composition, among, places

CAMERA = "image"
"""The name of the one camera of a picture."""


class Seen:
    """Pictures and what is said about them, with everything that objectives share computed once, when it is asked for.

    Args:
        images: uint8 [B h w 3].
        captions: one a picture.
        questions, answers: n of each; about: int [n], the picture each is asked about.
        phrases: p names of things; places: float [p 2], where each is, from (0, 0), left and on top, to (1, 1);
            pointed: int [p], the picture each is in.

    Attributes:
        similarity: float [B B] of pictures (rows) and captions, where a contrastive objective ran before.
    """

    def __init__(
        self,
        vlm: Composition,
        images: Tensor,
        captions: Sequence[str],
        questions: Sequence[str] = (),
        answers: Sequence[str] = (),
        about: Tensor | None = None,
        phrases: Sequence[str] = (),
        places: Tensor | None = None,
        pointed: Tensor | None = None,
    ) -> None:
        self.vlm, self.images, self.captions = vlm, images, captions
        self.questions, self.answers = questions, answers
        self.about = torch.zeros(0, dtype=torch.long) if about is None else about
        self.phrases = phrases
        self.places = torch.zeros(0, 2) if places is None else places
        self.pointed = torch.zeros(0, dtype=torch.long) if pointed is None else pointed
        self.similarity: Tensor | None = None

    @cached_property
    def tokens(self) -> Tokens:
        """[B M D]: what the connector gives the language model."""
        (seen,) = self.vlm.see({CAMERA: self.images}).values()
        return seen

    @cached_property
    def prefix(self) -> Sequenced:
        """The pictures, read by the language model."""
        return self.vlm.read(self.tokens)

    @cached_property
    def told(self) -> tuple[Tensor, Tensor]:
        """Captions between their begin and end as ids [B L], and their mask."""
        return encoded(self.vlm, self.captions)

    @cached_property
    def text(self) -> Tensor:
        """[B D]: the last word's hidden state of each caption, read without its picture."""
        return read_text(self.vlm, *self.told)


def next_word_loss(vlm: Composition, prefix: Sequenced, ids: Tensor, mask: Tensor, learned: Tensor) -> Tensor:
    """float [n]: mean negative log-likelihood of the words ids[:, 1:] where `learned` [n L−1], behind each prefix."""
    found = vlm.extend(prefix, vlm.language.embed(ids[:, :-1]), mask=mask[:, :-1])
    logits = vlm.language.logits(found.hidden).float()
    losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * learned
    return losses.sum(1) / learned.sum(1).clamp(min=1)


def encoded(vlm: Composition, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids [n L] and mask, each text between its begin and its end."""
    ids, mask = vlm.tokenizer.encode(texts, bos=True, eos=True)
    device = next(vlm.parameters()).device
    return ids.to(device), mask.to(device)


def dialogue(vlm: Composition, questions: Sequence[str], answers: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Each question and its answer as ids [n L], their mask, and where the answer and its end are."""
    tokenizer = vlm.tokenizer
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    end = [] if tokenizer.eos is None else [tokenizer.eos]
    asked = [start + tokenizer.ids(q) for q in questions]
    said = [tokenizer.ids(a) + end for a in answers]
    size = max(len(a) + len(b) for a, b in zip(asked, said, strict=True))
    ids = torch.full((len(asked), size), tokenizer.pad, dtype=torch.long)
    mask, answer = torch.zeros(ids.shape, dtype=torch.bool), torch.zeros(ids.shape, dtype=torch.bool)
    for i, (a, b) in enumerate(zip(asked, said, strict=True)):
        ids[i, : len(a) + len(b)] = torch.tensor(a + b)
        mask[i, : len(a) + len(b)] = True
        answer[i, len(a) : len(a) + len(b)] = True
    device = next(vlm.parameters()).device
    return ids.to(device), mask.to(device), answer.to(device)


def read_text(vlm: Composition, ids: Tensor, mask: Tensor) -> Tensor:
    """[n D]: hidden state of the last word, read causally and without a picture."""
    found = vlm.language(vlm.language.embed(ids), among(mask, causal=True), places(mask))
    return last(found.hidden, mask)


def last(hidden: Tensor, mask: Tensor) -> Tensor:
    """[n L D] → [n D] at each row's last real word; padding is at the end."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def select(prefix: Sequenced, rows: Tensor) -> Sequenced:
    """The prefixes of some rows, repeated or left out."""
    # `index_select`, because the gradient of plain indexing is several times slower.
    seen = prefix.seen
    return Sequenced(
        prefix.hidden.index_select(0, rows),
        prefix.mask.index_select(0, rows),
        prefix.positions.index_select(0, rows),
        tuple((k.index_select(0, rows), v.index_select(0, rows)) for k, v in prefix.keys_values),
        seen=None if seen is None else Tokens(seen.values.index_select(0, rows), seen.mask.index_select(0, rows)),
    )


def stacked(prefixes: Sequence[Sequenced]) -> Sequenced:
    """The rows of several prefixes of one length, one below the other."""
    seen = [p.seen for p in prefixes if p.seen is not None]
    return Sequenced(
        torch.cat([p.hidden for p in prefixes]),
        torch.cat([p.mask for p in prefixes]),
        torch.cat([p.positions for p in prefixes]),
        tuple(
            (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer]))
            for layer in zip(*(p.keys_values for p in prefixes), strict=True)
        ),
        seen=Tokens(torch.cat([s.values for s in seen]), torch.cat([s.mask for s in seen])) if seen else None,
    )


def continued(first: Sequenced, second: Sequenced) -> Sequenced:
    """One sequence behind another, row by row."""
    pairs = zip(first.keys_values, second.keys_values, strict=True)
    return Sequenced(
        torch.cat([first.hidden, second.hidden], 1),
        torch.cat([first.mask, second.mask], 1),
        torch.cat([first.positions, second.positions], 1),
        tuple((torch.cat([a, c], 2), torch.cat([b, d], 2)) for (a, b), (c, d) in pairs),
        seen=first.seen,
    )
