"""Any decoder of transformers, with embeddings, attention, positions and the past in the caller's hands.

Shape legend: B batch, P tokens of the past, N tokens, D width, K key-value heads, E width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..base import Between, KeysValues, LanguageModel, Sequenced
from ..hub import checked_settings, load_config, load_model
from .attending import LayerMasks, Memory, itself

KNOWN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3", "olmo2", "phi3")
Precision = Literal["float32", "bfloat16", "float16"]


class TransformersLM(LanguageModel):
    """A decoder of transformers that is there already, for instance inside a complete vision-language model.

    Args:
        decoder: the module that maps embeddings to hidden states, e.g. a `LlamaModel`.
        head: from hidden states to logits; None where it is the transposed embedding.
    """

    def __init__(self, *, decoder: Any, head: nn.Module | None) -> None:
        super().__init__()
        settings = decoder.config
        self.width, self.depth = settings.hidden_size, settings.num_hidden_layers
        self.heads = settings.num_attention_heads
        self.kv_heads = getattr(settings, "num_key_value_heads", None) or self.heads
        self.head_width = getattr(settings, "head_dim", None) or self.width // self.heads
        self.vocabulary = decoder.get_input_embeddings().weight.shape[0]
        self.decoder = decoder
        self.head = head
        self._softcap: float | None = getattr(settings, "final_logit_softcapping", None)
        self._masks = LayerMasks(settings)

    def embed(self, ids: Tensor) -> Tensor:
        return self.decoder.get_input_embeddings()(ids)

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
        """As the base class says. A token is real if it may attend to itself.

        The layers of a sliding window see the last tokens of what `attend` allows. A token that may attend to
        nothing attends to all.
        """
        memory = Memory(past)
        with _reading(self.decoder, between, layers) as read:
            found = self.decoder(
                inputs_embeds=x,
                attention_mask=self._masks(attend, x.dtype),
                position_ids=positions if positions.ndim == 2 else positions.permute(2, 0, 1),
                past_key_values=memory,
                use_cache=True,
            )
        own = tuple(memory.own)
        return Sequenced(found.last_hidden_state, itself(attend), positions, own, tuple(read[: self.depth]))

    def logits(self, hidden: Tensor) -> Tensor:
        if self.head is None:
            scores = nn.functional.linear(hidden, self.decoder.get_input_embeddings().weight)
        else:
            scores = self.head(hidden)
        return scores if self._softcap is None else self._softcap * torch.tanh(scores / self._softcap)

    def keep(self, depth: int) -> None:
        """Drop all layers after the first `depth`; the last norm stays. Raises `ConfigError` if there are fewer."""
        if not 0 < depth <= self.depth:
            raise ConfigError("There are not so many layers to keep", expected=f"1 to {self.depth}", got=str(depth))
        self.decoder.layers = self.decoder.layers[:depth]
        self.decoder.config.num_hidden_layers = self.depth = depth


class CausalLM(TransformersLM):
    """A causal language model of transformers: Llama and SmolLM, Qwen 2 and 3, Gemma 1 to 3, Mistral and others.

    On construction a few tokens run through the model's own forward and through this one, so that a family whose
    arithmetic this class does not know is refused and never computes something else.

    Args:
        source: folder or hub id of pretrained weights, checked by `hub.checked`; or else
        config: `model_type` and sizes as transformers names them, for random weights.
        revision: of a hub id.
        depth: keep the first layers only (SmolVLA keeps half of its model's).
        precision: of the weights.
        frozen: no gradients for the weights, evaluation mode always; gradients still pass through to the embeddings.
    """

    def __init__(
        self,
        *,
        source: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        revision: str | None = None,
        depth: int | None = None,
        precision: Precision = "float32",
        frozen: bool = False,
    ) -> None:
        if (source is None) == (config is None):
            raise ConfigError(
                "A language model is either pretrained or random", expected="`source` or `config`", got="both or none"
            )
        dtype = getattr(torch, precision)
        model = _pretrained(source, revision, dtype) if source is not None else _random(config or {}, dtype)
        if not isinstance(getattr(model.base_model, "layers", None), nn.ModuleList):
            raise ConfigError(
                f"The family '{model.config.model_type}' is not a stack of layers and a norm that CausalLM knows",
                exists=KNOWN,
            )
        # Tied weights would stand twice in a checkpoint, so the head of such a model is its embedding.
        head = None if model.config.tie_word_embeddings else model.get_output_embeddings()
        super().__init__(decoder=model.base_model, head=head)
        self._frozen = False
        _agree(self, model)
        if depth is not None:
            self.keep(depth)
        self._frozen = frozen
        if frozen:
            self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> CausalLM:
        return super().train(mode and not self._frozen)


@torch.no_grad()
def _agree(ours: CausalLM, model: Any) -> None:
    """Raise `ConfigError` unless our path gives the logits that the model gives by itself."""
    model.eval()
    ours.eval()
    count = min(8, ours.vocabulary)
    ids = torch.arange(count, device=model.device).flip(0)[None]
    expected = model(input_ids=ids, use_cache=False).logits.float()
    causal = torch.ones(1, count, count, dtype=torch.bool, device=model.device).tril()
    found = ours.logits(ours(ours.embed(ids), causal, torch.arange(count, device=model.device)[None]).hidden).float()
    gap, scale = (found - expected).abs().max(), expected.abs().max()
    if not gap <= (1e-4 if model.dtype == torch.float32 else 5e-2) * scale:
        raise ConfigError(
            f"The family '{model.config.model_type}' computes in a way that CausalLM does not reproduce",
            expected="the logits of its own forward",
            got=f"a difference of {gap.item():.2g} at logits up to {scale.item():.2g}",
            exists=KNOWN,
        )


@contextmanager
def _reading(decoder: Any, between: Between | None, layers: bool) -> Iterator[list[Tensor]]:
    """Within, what a layer or the last norm reads has passed `between`; a list of it, where `layers` asks for it."""
    read: list[Tensor] = []

    def reads(i: int, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0] if between is None else between(i, inputs[0])
        if layers:
            read.append(x)
        return (x, *inputs[1:])

    handles: list[Any] = []
    if between is not None or layers:
        for i, module in enumerate((*decoder.layers, decoder.norm)):
            handles.append(module.register_forward_pre_hook(partial(reads, i)))
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _attention(settings: Any) -> str:
    # The fused kernel knows no soft cap on attention scores (Gemma 2).
    return "eager" if getattr(settings, "attn_logit_softcapping", None) else "sdpa"


def _pretrained(source: str | Path, revision: str | None, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    attention = _attention(load_config(source, revision))
    return load_model(AutoModelForCausalLM, source, revision, dtype=dtype, attention=attention)


def _random(config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = AutoConfig.for_model(**checked_settings(config))
    return AutoModelForCausalLM.from_config(
        settings, dtype=dtype, attn_implementation=_attention(settings), trust_remote_code=False
    )
