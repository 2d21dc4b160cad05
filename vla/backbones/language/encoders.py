"""Pretrained text encoders of transformers, and a cache of what frozen ones said of an instruction.

Shape legend: B batch, L words, D width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..hub import checked_settings, load_config, load_model, load_tokenizer
from ..text import CACHED_INSTRUCTIONS, TextEncoder
from .tokenizers import Tokenizer

# family → class of its encoder; of models with two towers, the one for text
ENCODERS = {
    "t5": "T5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "mpnet": "MPNetModel",
    "distilbert": "DistilBertModel",
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
}


class PretrainedText(TextEncoder):
    """T5 (Raffel et al. 2020), BERT and MiniLM, CLIP's or SigLIP's text tower: the last hidden state of each word.

    Args:
        source: folder or hub id of pretrained weights, checked by `hub.checked`; or else
        config: `model_type` and sizes as transformers names them, for random weights.
        revision: of a hub id.
        tokenizer: None for the model's own, with the signs it was trained to see; else this one's ids, ended by `eos`.
        length: longest text in tokens; what is beyond is cut off.
        frozen: no gradients for the weights, evaluation mode always.
    """

    def __init__(
        self,
        *,
        source: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        revision: str | None = None,
        tokenizer: Tokenizer | None = None,
        length: int = 64,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        if (source is None) == (config is None):
            raise ConfigError(
                "A text encoder is either pretrained or random", expected="`source` or `config`", got="both or none"
            )
        if source is None:
            if tokenizer is None:
                raise ConfigError("A random text encoder has no tokenizer of its own", run="give `tokenizer`")
            model: Any = _random(config or {})
        else:
            kind = load_config(source, revision).model_type
            # T5's decoder and other towers are no part of the encoder; poolers are unused.
            model = load_model(_class(kind), source, revision, may_lack=("*pooler*", "*position_ids"))
        self.model: Any = model
        self._own: Any = load_tokenizer(source, revision) if source is not None and tokenizer is None else None
        self._given = tokenizer
        if tokenizer is not None and tokenizer.vocabulary > model.config.vocab_size:
            raise ConfigError(
                "The text encoder has fewer words than its tokenizer",
                expected=f"at least {tokenizer.vocabulary}",
                got=str(model.config.vocab_size),
            )
        self.width, self.length = model.config.hidden_size, length
        self._frozen = frozen
        if frozen:
            self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> PretrainedText:
        return super().train(mode and not self._frozen)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        device = next(self.parameters()).device
        ids, mask = (t.to(device) for t in self._encode(texts))
        return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state, mask

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        if self._given is not None:
            ids, mask = self._given.encode(texts, bos=False, eos=True)
            return ids[:, : self.length], mask[:, : self.length]
        found = self._own(list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        return found["input_ids"], found["attention_mask"].bool()


class CachedText(TextEncoder):
    """Remembers the features of the last instructions, so that a repeated one costs a dictionary lookup.

    Strings are encoded one by one: what is said of a text does not depend on its batch.

    Args:
        encoder: a frozen encoder; one that learns says something else each step, and is refused.
        size: instructions to remember.
    """

    def __init__(self, *, encoder: TextEncoder, size: int = CACHED_INSTRUCTIONS) -> None:
        super().__init__()
        if any(p.requires_grad for p in encoder.parameters()):
            raise ConfigError(
                "Only what a frozen text encoder says can be remembered",
                got=f"{type(encoder).__name__} with weights that are trained",
                run="frozen: true",
            )
        self.encoder, self.size, self.width = encoder, size, encoder.width
        self._said: OrderedDict[str, Tensor] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        for text in dict.fromkeys(texts):
            if text in self._said:
                self._said.move_to_end(text)
                continue
            # A remembered tensor may later meet autograd, which inference-mode tensors refuse.
            with torch.inference_mode(False), torch.no_grad():
                values, mask = self.encoder([text])
            self._said[text] = values[0][mask[0]]
        rows = [self._said[text] for text in texts]
        while len(self._said) > self.size:
            self._said.popitem(last=False)
        mask = torch.zeros(len(rows), max(1, *(len(r) for r in rows)), dtype=torch.bool, device=rows[0].device)
        values = torch.zeros(*mask.shape, self.width, device=rows[0].device, dtype=rows[0].dtype)
        for i, row in enumerate(rows):
            values[i, : len(row)], mask[i, : len(row)] = row, True
        return values, mask

    def _apply(self, fn: Any, recurse: bool = True) -> CachedText:
        self._said.clear()  # the weights go to another device or precision
        return super()._apply(fn, recurse)


def _forget(module: Any, _: Any) -> None:
    module._said.clear()


def _class(kind: str) -> Any:
    if kind not in ENCODERS:
        raise ConfigError(f"There is no text encoder of the family '{kind}'", exists=ENCODERS)
    import transformers

    return getattr(transformers, ENCODERS[kind])


def _random(config: Mapping[str, Any]) -> nn.Module:
    from transformers import AutoConfig

    settings = AutoConfig.for_model(**checked_settings(config))
    return _class(settings.model_type)(settings)
