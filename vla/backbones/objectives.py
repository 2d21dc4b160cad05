"""Objectives that teach a vision-language model from pictures with words; each a small module over one shared pass.

Shape legend: B pictures, L words, D width of the language model, M tokens of a picture, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from .base import Sequenced
from .reading import Seen, dialogue, encoded, last, next_word_loss, select
from .vlm import Composition


class Objective(nn.Module, ABC):
    """One loss over pictures with words.

    Constructors take `vlm` as a keyword, for widths; the model itself comes with what is seen.
    """

    @abstractmethod
    def forward(self, seen: Seen) -> Tensor:
        """The loss, a mean over samples."""


class ContrastiveObjective(Objective):
    """Image–text contrast: a picture is nearer to its own caption than to the others of the batch.

    Args:
        vlm: gives the widths.
        width: of the space both are compared in.
        form: "softmax" over the batch in both directions (CLIP, Radford et al. 2021) or "sigmoid" of each pair
            (SigLIP, Zhai et al. 2023).
    """

    def __init__(self, *, vlm: Composition, width: int = 128, form: Literal["softmax", "sigmoid"] = "softmax") -> None:
        super().__init__()
        self.form = form
        self.picture = nn.Linear(vlm.language.width, width)
        self.words = nn.Linear(vlm.language.width, width)
        self.pool = AttentionPool(vlm.language.width)
        # SigLIP starts at scale 10 and bias −10: nearly all pairs do not belong together.
        self.scale = nn.Parameter(torch.tensor(10.0 if form == "sigmoid" else 1 / 0.07).log())
        self.bias = nn.Parameter(torch.tensor(-10.0 if form == "sigmoid" else 0.0))

    def embed_prefix(self, prefix: Sequenced) -> Tensor:
        """Pictures that the language model has read → [B width], of length one."""
        return normalize(self.picture(self.pool(prefix.hidden)).float(), dim=-1)

    def embed_texts(self, text: Tensor) -> Tensor:
        """[n D] of `read_text` → [n width], of length one."""
        return normalize(self.words(text).float(), dim=-1)

    def forward(self, seen: Seen) -> Tensor:
        similarity = self.embed_prefix(seen.prefix) @ self.embed_texts(seen.text).T
        logits = similarity * self.scale.exp().clamp(max=100.0)
        seen.similarity = logits.detach()
        return softmax_contrast(logits) if self.form == "softmax" else sigmoid_contrast(logits + self.bias)


class MatchingObjective(Objective):
    """Image–text matching with hard negatives (ALBEF, Li et al. 2021): does this caption belong to this picture?

    The wrong partner is drawn by contrastive similarity where there is one, else by chance.
    """

    def __init__(self, *, vlm: Composition) -> None:
        super().__init__()
        self.judge = nn.Linear(vlm.language.width, 1)

    def score(self, vlm: Composition, prefix: Sequenced, ids: Tensor, mask: Tensor) -> Tensor:
        """float [n]: logits that caption i belongs to the picture that prefix i has read."""
        found = vlm.extend(prefix, vlm.language.embed(ids), mask=mask, causal=False)
        return self.judge(last(found.hidden, mask))[:, 0].float()

    def forward(self, seen: Seen) -> Tensor:
        ids, mask = seen.told
        count = len(ids)
        own = torch.arange(count, device=ids.device)
        similarity = torch.zeros(count, count, device=ids.device) if seen.similarity is None else seen.similarity
        # Every pair once as it is and once with a wrong half: the caption of even ones, the picture of odd ones.
        even = own % 2 == 0
        picture = torch.cat([own, torch.where(even, own, hard_negatives(similarity.T))])
        words = torch.cat([own, torch.where(even, hard_negatives(similarity), own)])
        logits = self.score(seen.vlm, select(seen.prefix, picture), ids[words], mask[words])
        labels = (picture == words).to(logits.dtype)
        return -(labels * logsigmoid(logits) + (1 - labels) * logsigmoid(-logits)).mean()


class CaptioningObjective(Objective):
    """The caption, word after word, from the picture (Show and Tell, Vinyals et al. 2015; CoCa, Yu et al. 2022)."""

    def __init__(self, *, vlm: Composition) -> None:
        super().__init__()

    def forward(self, seen: Seen) -> Tensor:
        ids, mask = seen.told
        return (next_word_loss(seen.vlm, seen.prefix, ids, mask, mask[:, 1:])).mean()


class AnsweringObjective(Objective):
    """Questions about the picture, answered in words (visual instruction tuning, Liu et al. 2023).

    The loss is of the answer alone.
    """

    def __init__(self, *, vlm: Composition) -> None:
        super().__init__()

    def forward(self, seen: Seen) -> Tensor:
        if not seen.questions:
            return seen.tokens.values.sum() * 0.0
        ids, mask, answer = dialogue(seen.vlm, seen.questions, seen.answers)
        return next_word_loss(seen.vlm, select(seen.prefix, seen.about), ids, mask, answer[:, 1:]).mean()


class GroundingObjective(Objective):
    """Where in the picture the thing is that a phrase names, told from the phrase's last word, read behind the picture.

    Each of the two coordinates is a distribution over bins, and the loss its cross-entropy with the place, split
    between the two bins it lies between. Places as bins are those of Pix2Seq (Chen et al. 2022) and Kosmos-2 (Peng et
    al. 2023), which say them as words. They are read halfway through the decoder, so that its later layers have places
    to compare. Where the tokens of a picture lie in a grid, the phrase is also to choose the cells the place is in.

    Args:
        bins: along each side of the picture.
    """

    def __init__(self, *, vlm: Composition, bins: int = 24) -> None:
        super().__init__()
        width = vlm.language.width
        self.bins, self.layer = bins, (vlm.language.depth + 1) // 2
        self.norm = nn.LayerNorm(width)
        self.places = nn.Linear(width, 2 * bins)
        self.seek, self.cells = nn.Linear(width, width), nn.Linear(vlm.connector.width, width)

    def read(self, vlm: Composition, prefix: Sequenced, phrases: Sequence[str]) -> Tensor:
        """[n D]: phrase i halfway through the decoder, behind prefix i."""
        ids, mask = encoded(vlm, phrases)
        found = vlm.extend(prefix, vlm.language.embed(ids), mask=mask, layers=True)
        return self.norm(last((*found.layers, found.hidden)[self.layer], mask))

    def score(self, read: Tensor) -> Tensor:
        """[n D] → [n 2 bins]: log-probabilities of x and y."""
        return self.places(read).float().unflatten(-1, (2, self.bins)).log_softmax(-1)

    def point(self, vlm: Composition, prefix: Sequenced, phrases: Sequence[str]) -> Tensor:
        """[n 2]: the mean place of what phrase i names in the picture of prefix i, as `Seen.places`."""
        scores = self.score(self.read(vlm, prefix, phrases))
        return scores.exp() @ torch.linspace(0, 1, self.bins, device=scores.device)

    def forward(self, seen: Seen) -> Tensor:
        if not seen.phrases:
            return seen.tokens.values.sum() * 0.0
        read = self.read(seen.vlm, select(seen.prefix, seen.pointed), seen.phrases)
        places = seen.places.to(read.device)
        exact = places.clamp(0, 1) * (self.bins - 1)
        loss = -split(self.score(read), exact).mean()
        tokens = seen.tokens.values
        grid = laid_out(seen.vlm.vision.grid(*seen.images.shape[1:3]), tokens.shape[1])
        if grid is None:
            return loss
        rows, columns = grid
        cells = self.cells(tokens).index_select(0, seen.pointed)
        chosen = torch.einsum("nd,nmd->nm", self.seek(read), cells).float() * cells.shape[-1] ** -0.5
        chosen = chosen.log_softmax(-1).unflatten(-1, (rows, columns))
        size = torch.tensor([columns, rows], device=places.device)
        across, down = ((places * size - 0.5).clamp(min=0).minimum(size - 1)).unbind(-1)
        return loss - split(split(chosen, down, 1), across).mean()


def split(values: Tensor, exact: Tensor, dim: int = -1) -> Tensor:
    """Values at indices `exact` along `dim`, of the dimensions before it, interpolated between whole indices."""
    low = exact.floor().clamp(max=values.shape[dim] - 2).clamp(min=0)
    share = exact - low
    high = (low + 1).clamp(max=values.shape[dim] - 1)
    after = [1] * (values.ndim - exact.ndim)
    shape = [*exact.shape, *values.shape[exact.ndim + 1 :]]

    def at(index: Tensor) -> Tensor:
        where = index.long().view(*exact.shape, *after).expand(*exact.shape, 1, *shape[exact.ndim :])
        return values.gather(dim, where).squeeze(dim)

    weight = share.view(*exact.shape, *after[1:])
    return at(low) * (1 - weight) + at(high) * weight


def laid_out(grid: tuple[int, int], count: int) -> tuple[int, int] | None:
    """Rows and columns of the tokens of a picture: the tower's grid, or one of the same shape; None where none fits."""
    for factor in range(1, min(grid) + 1):
        if grid[0] % factor == 0 and grid[1] % factor == 0 and grid[0] * grid[1] == count * factor**2:
            return grid[0] // factor, grid[1] // factor
    return None


class MaskedWordsObjective(Objective):
    """Hidden words of the caption from the others and the picture (BERT, Devlin et al. 2019; ALBEF).

    Args:
        share: of the words that are hidden.
    """

    def __init__(self, *, vlm: Composition, share: float = 0.4) -> None:
        super().__init__()
        self.share = share
        self.hidden = nn.Parameter(torch.randn(vlm.language.width) * vlm.language.width**-0.5)

    def forward(self, seen: Seen) -> Tensor:
        ids, mask = seen.told
        inner = mask.clone()
        inner[:, 0] = False
        hide = (torch.rand(ids.shape, device=ids.device) < self.share) & inner
        embedded = seen.vlm.language.embed(ids)
        embedded = torch.where(hide[..., None], self.hidden.to(embedded.dtype), embedded)
        found = seen.vlm.extend(seen.prefix, embedded, mask=mask, causal=False)
        logits = seen.vlm.language.logits(found.hidden[hide])
        return cross_entropy(logits.float(), ids[hide], reduction="sum") / hide.sum().clamp(min=1)


class MaskedPatchesObjective(Objective):
    """Pixels of hidden patches from the rest of the picture, L1 (SimMIM, Xie et al. 2022).

    Args:
        share: of the tower's cells that are hidden.
        side: of the square of pixels behind a cell.
    """

    def __init__(self, *, vlm: Composition, share: float = 0.5, side: int = 8) -> None:
        super().__init__()
        self.share, self.side = share, side
        self.paint = nn.Linear(vlm.vision.width, 3 * side**2)

    def forward(self, seen: Seen) -> Tensor:
        images = seen.images
        rows, columns = seen.vlm.vision.grid(images.shape[1], images.shape[2])
        hide = torch.rand(len(images), rows, columns, device=images.device) < self.share
        covered = torch.where(stretched(hide, images.shape[1], images.shape[2])[..., None], MIDDLE_GREY, images)
        painted = self.paint(seen.vlm.vision(covered))
        wanted = patches(images, rows, columns, self.side).to(painted.dtype) / 127.5 - 1
        apart = (painted - wanted).abs().mean(-1).float() * hide.flatten(1)
        return apart.sum() / hide.sum().clamp(min=1)


MIDDLE_GREY = 127


class AttentionPool(nn.Module):
    """Tokens [B N D] → [B D]: their mean, weighted by a softmax over learned scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return (self.score(tokens).softmax(1) * tokens).sum(1)


def softmax_contrast(logits: Tensor) -> Tensor:
    """InfoNCE in both directions (van den Oord et al. 2018); logits [B B], partners on the diagonal."""
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def sigmoid_contrast(logits: Tensor) -> Tensor:
    """−Σ log σ(±logit) / B, plus for partners on the diagonal and minus elsewhere (Zhai et al. 2023)."""
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -logsigmoid(sign * logits).sum() / len(logits)


def hard_negatives(similarity: Tensor) -> Tensor:
    """int [B]: for each row of [B B] a column not its own, drawn by the softmax of the row (a lone row: itself)."""
    if len(similarity) == 1:
        return torch.zeros(1, dtype=torch.long, device=similarity.device)
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return torch.multinomial(similarity.float().masked_fill(own, -torch.inf).softmax(-1), 1)[:, 0]


def stretched(cells: Tensor, height: int, width: int) -> Tensor:
    """[B rows columns] → [B height width], each cell over its share of the picture."""
    rows = torch.arange(height, device=cells.device) * cells.shape[1] // height
    columns = torch.arange(width, device=cells.device) * cells.shape[2] // width
    return cells[:, rows][:, :, columns]


def patches(images: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """uint8 [B h w 3] → float [B rows·columns 3·side²], the picture scaled to side × side pixels a cell."""
    x = images.permute(0, 3, 1, 2).float()
    if x.shape[-2:] != (rows * side, columns * side):
        x = nn.functional.interpolate(x, (rows * side, columns * side), mode="area")
    return nn.functional.unfold(x, side, stride=side).transpose(1, 2)
