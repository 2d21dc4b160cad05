"""Low-rank adapters (LoRA, Hu et al. 2022) through peft: train little, save it alone, fold it in for inference.

An adapter adds α/r · B A to a linear map. B starts at zero, so that a model computes the same right after `apply`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from .base import Between, KeysValues, LanguageModel, Sequenced
from .hub import checked

WEIGHTS = "adapter.safetensors"
RECIPE = "adapter.json"
_MARK = "lora_"


class LoRA:
    """How a module is adapted.

    Args:
        rank: r.
        alpha: α; None for 2 r.
        dropout: share of an adapter's inputs that is zeroed in training.
        targets: last names of the linear maps to adapt, e.g. `("q_proj", "v_proj")`; empty for all but an output head.
    """

    def __init__(
        self, *, rank: int = 16, alpha: float | None = None, dropout: float = 0.0, targets: Sequence[str] = ()
    ) -> None:
        if rank < 1:
            raise ConfigError("An adapter needs a rank", expected="rank ≥ 1", got=str(rank))
        self.rank, self.dropout, self.targets = rank, dropout, tuple(targets)
        self.alpha = 2.0 * rank if alpha is None else alpha

    def apply(self, module: nn.Module) -> list[str]:
        """Adapt a module in place and freeze all else in it; returns the names of its adapted linear maps.

        Raises `ConfigError` if peft is not installed, or if no linear map has such a name.
        """
        names = self._places(module)
        peft = _peft()
        settings = peft.LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=names, bias="none"
        )
        training = module.training
        peft.inject_adapter_in_model(settings, module)
        for name, weight in module.named_parameters():
            weight.requires_grad_(_MARK in name)
        module.train(training)
        return names

    def _places(self, module: nn.Module) -> list[str]:
        linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        if any(_MARK in name for name in linear):
            raise ConfigError("The module has adapters already", run="merge(module) folds them in first")
        if any(type(part.weight) is not nn.Parameter for part in module.modules() if isinstance(part, nn.Linear)):
            raise ConfigError("The module is compressed already", run="apply adapters first, then compress")
        heads = ("head", "lm_head")
        names = [n for n in linear if (_last(n) in self.targets if self.targets else _last(n) not in heads)]
        if not names:
            raise ConfigError(
                "No linear map has such a name", got=", ".join(self.targets), exists=sorted({_last(n) for n in linear})
            )
        return names

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `LoRA(**values)` makes the same."""
        return {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout, "targets": list(self.targets)}


class AdaptedLM(LanguageModel):
    """A language model with adapters; all but they are frozen.

    Args:
        language: the model; it is adapted in place.
        rank, alpha, dropout, targets: as for `LoRA`.
    """

    def __init__(
        self,
        *,
        language: LanguageModel,
        rank: int = 16,
        alpha: float | None = None,
        dropout: float = 0.0,
        targets: Sequence[str] = (),
    ) -> None:
        super().__init__()
        LoRA(rank=rank, alpha=alpha, dropout=dropout, targets=targets).apply(language)
        self.language = language
        self.width, self.depth, self.vocabulary = language.width, language.depth, language.vocabulary
        self.heads, self.kv_heads, self.head_width = language.heads, language.kv_heads, language.head_width

    def embed(self, ids: Tensor) -> Tensor:
        return self.language.embed(ids)

    def forward(
        self,
        x: Tensor,
        attend: Tensor,
        positions: Tensor,
        past: KeysValues | None = None,
        *,
        layers: bool = False,
        between: Between | None = None,
    ) -> Sequenced:
        return self.language(x, attend, positions, past, layers=layers, between=between)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.language.logits(hidden)


def adapter_weights(module: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors alone, by their names in the module."""
    return {name: value for name, value in module.state_dict().items() if _MARK in name}


def save_adapter(module: nn.Module, lora: LoRA, folder: str | Path) -> None:
    """Write the adapters of a module and how they were made, without the model; the folder must not exist yet."""
    target = Path(folder)
    weights = adapter_weights(module)
    if not weights:
        raise CheckpointError("The module has no adapters to save", run="LoRA(…).apply(module)")
    if target.exists():
        raise CheckpointError("An adapter needs a folder of its own", expected="no such folder yet", got=str(target))
    staging = target.with_name(f".writing-{target.name}-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, staging / WEIGHTS)
    (staging / RECIPE).write_text(json.dumps(lora.to_dict(), indent=1), encoding="utf-8")
    staging.rename(target)


def load_adapter(module: nn.Module, folder: str | Path) -> LoRA:
    """Adapt a module as a saved adapter says, with its weights; returns how.

    Raises `CheckpointError` if the adapter was made for another model, and whatever `hub.checked` refuses.
    """
    source = checked(folder)
    missing = [name for name in (WEIGHTS, RECIPE) if not (source / name).is_file()]
    if missing:
        raise CheckpointError(f"There is no adapter in {source}", expected=f"{RECIPE} and {WEIGHTS}")
    lora = LoRA(**json.loads((source / RECIPE).read_text("utf-8")))
    weights = load_file(source / WEIGHTS)
    lora.apply(module)
    own = adapter_weights(module)
    wrong = sorted(n for n in own.keys() | weights.keys() if n not in own or n not in weights)
    wrong = wrong or sorted(n for n in own if own[n].shape != weights[n].shape)
    if wrong:
        raise CheckpointError(
            f"The adapter in {source} was made for another model",
            expected=f"{len(own)} tensors of this one's shapes",
            got=f"{len(weights)} tensors; the first that differs is '{wrong[0]}'",
        )
    module.load_state_dict(weights, strict=False)
    return lora


@torch.no_grad()
def merge(module: nn.Module) -> int:
    """Fold all adapters into the weights they adapt, and remove them; returns how many there were.

    Raises `ConfigError` if those weights are compressed.
    """
    from peft.tuners.lora import LoraLayer

    adapted = [(name, part) for name, part in module.named_modules() if isinstance(part, LoraLayer)]
    for name, part in adapted:
        layer: Any = part
        base = layer.get_base_layer()
        if not isinstance(base, nn.Linear) or type(base.weight) is not nn.Parameter:
            raise ConfigError("Adapters of compressed weights cannot be merged", got=f"{name}: {type(base).__name__}")
        layer.merge(safe_merge=True)
        parent = module.get_submodule(name.rpartition(".")[0])
        setattr(parent, _last(name), base)
    return len(adapted)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError("Adapters need peft", got=str(error), run="pip install peft") from error
    return peft
