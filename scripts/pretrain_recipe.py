"""What a run of `wayhand pretrain` trains: the node of its model and objectives, and the weights it starts from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..vla import checkpoint
from ..vla.backbones.language.tokenizers import WordTokenizer
from ..vla.backbones.vlm import Composition
from ..vla.config import TARGET, Config, options, resolve
from ..vla.errors import CheckpointError, ConfigError
from ..vla.learning.pretraining import Pretrainer
from ..vla.pairs import Pairs
from .compose import CONF
from .parts import swapped

if TYPE_CHECKING:
    from .pretrain import PretrainConfig

SAMPLED = 4000
"""Pictures whose texts give the vocabulary."""


def require_composition(vlm: Config) -> None:
    """Raises `ConfigError` where the objectives cannot work on a model, naming those they can."""
    if issubclass(resolve(str(vlm[TARGET])), Composition):
        return
    raise ConfigError(
        "Objectives read a picture apart from the words, which this model does not offer",
        expected="a tower, a connector and a language model",
        got=str(vlm[TARGET]),
        exists=[f"vlm={name}" for name in options(CONF, "vlm") if issubclass(resolve(built(name)), Composition)],
        run="one of those, its parts swapped by vision=…, connector=…, language=…",
    )


def built(vlm: str) -> str:
    """The class that a file of `conf/vlm` names."""
    found = re.search(rf"^{TARGET}: (\S+)", (CONF / "vlm" / f"{vlm}.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""


def recipe(cfg: PretrainConfig, sources: Mapping[str, Pairs]) -> dict[str, Any]:
    """The node of what is trained, its vocabulary fitted to the texts where it is one of words."""
    vlm = swapped(cfg.vlm, vision=cfg.vision, connector=cfg.connector, language=cfg.language, tokenizer=cfg.tokenizer)
    if "words" in vlm["tokenizer"] and not vlm["tokenizer"]["words"]:
        words = WordTokenizer.fitted(spoken(sources))
        vlm["tokenizer"] = {**vlm["tokenizer"], "words": list(words.words)}
        if "vocabulary" in vlm["language"]:
            vlm["language"] = {**vlm["language"], "vocabulary": words.vocabulary}
    objectives = cfg.objectives.to_dict()
    for name in cfg.without:
        if name not in objectives:
            raise ConfigError(f"There is no objective '{name}' to leave out", exists=objectives)
        del objectives[name]
    return {
        "_target_": f"{Pretrainer.__module__}.{Pretrainer.__name__}",
        "vlm": vlm,
        "objectives": objectives,
        "balance": None if cfg.balance is None else weighing(cfg.balance.to_dict(), objectives),
        "stage": cfg.stage,
        "lora": None if cfg.lora is None else cfg.lora.to_dict(),
        "precision": cfg.precision,
        "blind": cfg.blind,
    }


def weighing(node: dict[str, Any], objectives: Mapping[str, Any]) -> dict[str, Any]:
    """The node of a balance without weights for objectives that are left out."""
    weights = node.get("weights")
    if not isinstance(weights, Mapping):
        return node
    return {**node, "weights": {name: weight for name, weight in weights.items() if name in objectives}}


def spoken(sources: Mapping[str, Pairs]) -> list[str]:
    """All sentences of the first pictures of each source."""
    found: list[str] = []
    for pairs in sources.values():
        for i in range(min(len(pairs), SAMPLED)):
            texts = pairs.texts(i)
            found += [*texts.captions, *(q.question for q in texts.questions), *(q.answer for q in texts.questions)]
    return found


def start_from(model: Pretrainer, path: Path) -> None:
    """Copy the averaged weights of the model of another run; objectives that it lacks start fresh."""
    plain = checkpoint.load(path).weights("ema")
    # An adapted linear map keeps its own weight as its `base_layer`.
    weights = {name: plain[own] for name in model.state_dict() if (own := name.replace(".base_layer", "")) in plain}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise CheckpointError(f"The weights of {path} do not fit this model", got=str(error)) from error
    lacking = [key for key in missing if key.startswith("vlm.") and "lora_" not in key]
    if lacking:
        raise CheckpointError(f"{path} lacks weights of this model", got=", ".join(lacking[:5]))
