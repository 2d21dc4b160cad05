"""What our way into a transformers decoder costs against the model itself, and what compression saves; one thread.

    python scripts/bench/language.py [rounds=9]

The peer is the same model called as transformers is called: a prefix of 128 tokens, then 16 tokens behind its cache.
Both sides run in turn and their logits are compared first. Compression is measured on a decoder of 25 M weights.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wayhand.vla.backbones.compression import compress
from wayhand.vla.backbones.language.causal import CausalLM
from wayhand.vla.backbones.language.scratch import ScratchLM

PREFIX, REST = 128, 16


def main(rounds: int = 9) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        overhead(rounds)
        compression(rounds)


def overhead(rounds: int) -> None:
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1024}
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes, **heads)).eval()
    lm = CausalLM(config={"model_type": "llama", **sizes, **heads}).eval()
    lm.decoder.load_state_dict(model.model.state_dict())
    lm.head.load_state_dict(model.lm_head.state_dict())
    ids = torch.randint(0, 1024, (1, PREFIX + REST))
    causal = torch.ones(1, PREFIX + REST, PREFIX + REST, dtype=torch.bool).tril()
    places = torch.arange(PREFIX + REST)[None]

    def peer() -> Tensor:
        cache = DynamicCache(config=model.config)
        model.model(input_ids=ids[:, :PREFIX], past_key_values=cache)
        return model(input_ids=ids[:, PREFIX:], past_key_values=cache).logits

    def ours() -> Tensor:
        first = lm(lm.embed(ids[:, :PREFIX]), causal[:, :PREFIX, :PREFIX], places[:, :PREFIX])
        rest = lm(lm.embed(ids[:, PREFIX:]), causal[:, PREFIX:], places[:, PREFIX:], first.keys_values)
        return lm.logits(rest.hidden)

    gap = (ours() - peer()).abs().max().item()
    assert gap < 1e-5, gap
    mine, theirs = alternately([ours, peer], rounds)
    print(f"prefix {PREFIX} + {REST}: CausalLM {mine:.1f} ms, transformers {theirs:.1f} ms, ratio {theirs / mine:.2f}")


def compression(rounds: int) -> None:
    sizes = {"vocabulary": 1024, "width": 512, "depth": 8, "heads": 8, "kv_heads": 2}
    x = torch.randn(1, 64, 512)
    attend, places = torch.ones(1, 64, 64, dtype=torch.bool).tril(), torch.arange(64)[None]
    plain = ScratchLM(**sizes).eval()
    expected = plain(x, attend, places).hidden
    for kind in ("int8", "int4"):
        small = ScratchLM(**sizes).eval()
        small.load_state_dict(plain.state_dict())
        report = compress(small, kind)
        error = ((small(x, attend, places).hidden - expected).norm() / expected.norm()).item()
        mine, theirs = alternately([lambda s=small: s(x, attend, places), lambda: plain(x, attend, places)], rounds)
        print(
            f"{kind}: {report.before / 2**20:.0f} → {report.after / 2**20:.0f} MiB, error {error:.3f}, "
            f"64 tokens {mine:.1f} ms (float32 {theirs:.1f})"
        )


def alternately(calls: list[Callable[[], Any]], rounds: int) -> list[float]:
    """Median milliseconds of each call, taken in turn so that a busy machine is busy for all."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, row in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            row.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(row) for row in times]


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
