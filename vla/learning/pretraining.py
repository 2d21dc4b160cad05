"""What is pretrained: a vision-language model with its objectives, and what it can then be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import checkpoint
from ..backbones.adapters import LoRA
from ..backbones.base import Sequenced
from ..backbones.objectives import ContrastiveObjective, GroundingObjective, MatchingObjective, Objective
from ..backbones.reading import CAMERA, Seen, continued, encoded, last, next_word_loss, read_text, select
from ..backbones.vlm import Composition
from ..config import instantiate
from ..errors import CheckpointError, ConfigError
from .balance import Balance, FixedWeights
from .batch import Batch
from .pair_batches import ABOUT, ANSWERS, CAPTIONS, IMAGES, PHRASES, PLACES, POINTED, QUESTIONS

Stage = Literal["all", "connector"]


class Pretrainer(nn.Module):
    """A vision-language model and the objectives it is trained by; a `Learner`.

    Args:
        vlm: what is trained.
        objectives: name → class or partial, run in this order; `vlm` is filled in here.
        balance: class or partial of what weighs the losses; `tasks` is filled in here. None: their plain sum.
        stage: "connector" trains what joins tower and language model and the objectives' own heads alone (stage 1 of
            LLaVA), "all" all that is not frozen.
        lora: adapters for the language model (stage 2 of LLaVA-1.5 with LoRA): it and the tower are frozen, the
            connector, the adapters and the heads are trained.
        precision: "bf16" computes under autocast, the weights stay fp32.
        blind: show a grey picture instead of each, the baseline that knows the words alone.
    """

    def __init__(
        self,
        *,
        vlm: Composition,
        objectives: Mapping[str, Callable[..., Objective]],
        balance: Callable[..., Balance] | None = None,
        stage: Stage = "all",
        lora: LoRA | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        blind: bool = False,
    ) -> None:
        super().__init__()
        if not objectives:
            raise ConfigError("Pretraining needs an objective", expected="objectives={name: …}")
        self.vlm = vlm
        self.objectives = nn.ModuleDict({name: make(vlm=vlm) for name, make in objectives.items()})
        self.balance = (balance or FixedWeights)(tasks=tuple(objectives))
        self.precision, self.blind = precision, blind
        if lora is not None:
            vlm.vision.requires_grad_(False)
            lora.apply(vlm.language)
        if stage == "connector":
            vlm.requires_grad_(False)
            for bridge in vlm.bridges():
                bridge.requires_grad_(True)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The balanced loss of a batch and that of each objective."""
        with self.autocast():
            seen = Seen(
                self.vlm,
                self.shown(batch[IMAGES]),
                batch[CAPTIONS],
                batch.get(QUESTIONS, ()),
                batch.get(ANSWERS, ()),
                batch.get(ABOUT),
                batch.get(PHRASES, ()),
                batch.get(PLACES),
                batch.get(POINTED),
            )
            losses = {name: objective(seen) for name, objective in self.objectives.items()}
        shared = [p for p in self.vlm.parameters() if p.requires_grad]
        total, weights = self.balance(losses, shared)
        shown = {name: value.detach() for name, value in losses.items()}
        if type(self.balance) is not FixedWeights:
            shown |= {f"weight/{name}": value for name, value in weights.items()}
        return total, shown

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision that is computed in."""
        device, reduced = next(self.parameters()).device.type, self.precision == "bf16"
        # On a CPU the fused attention's gradient in bf16 takes several times that of plain matrix products.
        plain = sdpa_kernel(SDPBackend.MATH) if reduced and device == "cpu" else nullcontext()
        with torch.autocast(device, torch.bfloat16, enabled=reduced), plain:
            yield

    def shown(self, images: Tensor) -> Tensor:
        """The pictures, or grey ones where the model is to be blind."""
        return torch.full_like(images, 127) if self.blind else images

    def objective(self, kind: type[Objective]) -> Objective | None:
        """The objective of a class, where it is one of those trained by."""
        return next((o for o in self.objectives.values() if isinstance(o, kind)), None)

    @torch.inference_mode()
    def see(self, images: Tensor) -> Sequenced:
        """The pictures uint8 [n h w 3], read by the language model."""
        with self.autocast():
            (tokens,) = self.vlm.see({CAMERA: self.shown(images)}).values()
            return self.vlm.read(tokens)

    @torch.inference_mode()
    def embed(self, prefix: Sequenced, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Pictures [n E] and texts [m E] in the contrastive space.

        Raises:
            ConfigError: if there is no contrastive objective.
        """
        contrast = self.objective(ContrastiveObjective)
        if not isinstance(contrast, ContrastiveObjective):
            raise ConfigError("Retrieval by embedding needs a contrastive objective", exists=list(self.objectives))
        with self.autocast():
            text = read_text(self.vlm, *encoded(self.vlm, texts))
            return contrast.embed_prefix(prefix), contrast.embed_texts(text)

    @property
    def retrieves(self) -> bool:
        """Whether a contrastive objective was trained, so that `embed` can be asked."""
        return isinstance(self.objective(ContrastiveObjective), ContrastiveObjective)

    @property
    def matches(self) -> bool:
        """Whether matching was trained, so that `match` can be asked."""
        return isinstance(self.objective(MatchingObjective), MatchingObjective)

    @torch.inference_mode()
    def match(self, prefix: Sequenced, rows: Tensor, texts: Sequence[str]) -> Tensor:
        """float [n]: logits that text i belongs to the picture `rows[i]`.

        Raises:
            ConfigError: if there is no matching objective.
        """
        matching = self.objective(MatchingObjective)
        if not isinstance(matching, MatchingObjective):
            raise ConfigError("Matching was not trained", exists=list(self.objectives))
        with self.autocast():
            return matching.score(self.vlm, select(prefix, rows), *encoded(self.vlm, texts))

    @property
    def points(self) -> bool:
        """Whether grounding was trained, so that `point` can be asked."""
        return isinstance(self.objective(GroundingObjective), GroundingObjective)

    @torch.inference_mode()
    def point(self, prefix: Sequenced, rows: Tensor, phrases: Sequence[str]) -> Tensor:
        """float [n 2]: x and y of what phrase i names in the picture `rows[i]`, from (0, 0) to (1, 1).

        Raises:
            ConfigError: if there is no grounding objective.
        """
        grounding = self.objective(GroundingObjective)
        if not isinstance(grounding, GroundingObjective):
            raise ConfigError("Grounding was not trained", exists=list(self.objectives))
        with self.autocast():
            return grounding.point(self.vlm, select(prefix, rows), phrases)

    @torch.inference_mode()
    def likelihood(self, prefix: Sequenced, rows: Tensor, texts: Sequence[str]) -> Tensor:
        """float [n]: mean log-likelihood a word of text i as the caption of the picture `rows[i]`."""
        with self.autocast():
            ids, mask = encoded(self.vlm, texts)
            return -next_word_loss(self.vlm, select(prefix, rows), ids, mask, mask[:, 1:])

    @torch.inference_mode()
    def answer(self, prefix: Sequenced, rows: Tensor, questions: Sequence[str], *, words: int = 4) -> list[str]:
        """The likeliest answer, greedily, to each question about the picture `rows[i]`."""
        ids, mask = self.vlm.tokenizer.encode(questions, bos=True)
        return self._said(select(prefix, rows), ids, mask, words)

    @torch.inference_mode()
    def describe(self, prefix: Sequenced, *, start: str = "", words: int = 48) -> list[str]:
        """A caption of each picture, greedily, up to so many words, beginning as told."""
        ids, mask = self.vlm.tokenizer.encode([start] * len(prefix.hidden), bos=True)
        said = self._said(prefix, ids, mask, words)
        return [f"{start} {text}".strip() for text in said]

    def _said(self, past: Sequenced, step: Tensor, mask: Tensor, words: int) -> list[str]:
        """What follows the words [n L] behind each prefix, up to its end."""
        vlm, device = self.vlm, past.hidden.device
        step, mask = step.to(device), mask.to(device)
        said: list[Tensor] = []
        done = torch.zeros(len(step), dtype=torch.bool, device=device)
        with self.autocast():
            for _ in range(words):
                found = vlm.extend(past, vlm.language.embed(step), mask=mask)
                best = vlm.language.logits(last(found.hidden, mask)).argmax(-1)
                said.append(best)
                done |= best == vlm.tokenizer.eos
                if done.all():
                    break
                past, step = continued(past, found), best[:, None]
                mask = torch.ones_like(step, dtype=torch.bool)
        return vlm.tokenizer.decode(torch.stack(said, 1))


def pretrained(path: str | Path) -> Pretrainer:
    """The model of a run with its averaged weights, ready to be asked.

    Raises:
        CheckpointError: there is none, or it holds something else.
    """
    found = checkpoint.load(path)
    model = instantiate(found.policy)
    if not isinstance(model, Pretrainer):
        raise CheckpointError(f"{path} is no pretrained model", got=type(model).__name__, run="wayhand pretrain …")
    model.load_state_dict(found.weights("ema"))
    return model.eval()
