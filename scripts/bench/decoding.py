"""Seven action tokens behind a prefix: static cache, fixed points and speculation against running everything again.

    python scripts/bench/decoding.py [width=576] [depth=30] [heads=9] [kv_heads=3] [inner=1536] [vocabulary=49152]
                                     [prefix=200] [tokens=7] [rounds=5] [threads=1] [device=cpu]

The default is the shape of SmolLM2-135M with random weights. The peer runs the whole sequence for each token, as a
decoder without a cache does; ours reads the prefix and then decodes, and both are timed. Before anything is timed,
tokens must be equal and logits agree to 1e-4. The contenders take turns; a ratio is taken within a round. On a CPU
it is seconds of the processor that are counted, so that other programs matter little. How much fixed points and
speculation save hangs on how well tokens are guessed: both are shown with guesses that are all wrong and all right.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from wayhand.vla.backbones.base import Sequenced
from wayhand.vla.backbones.decoding import greedy
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.parallel import jacobi, parallel
from wayhand.vla.backbones.speculative import ModelDraft, PromptLookup, speculative_greedy

SIZES = {"width": 576, "depth": 30, "heads": 9, "kv_heads": 3, "inner": 1536, "vocabulary": 49152}
OTHERS = {"prefix": 200, "tokens": 7, "rounds": 5, "threads": 1}


def main(argv: list[str]) -> int:
    given = dict(a.split("=", 1) for a in argv)
    device = torch.device(given.pop("device", "cpu"))
    options = {**SIZES, **OTHERS, **{key: int(value) for key, value in given.items()}}
    torch.set_num_threads(options["threads"])
    torch.manual_seed(0)
    language = ScratchLM(**{key: options[key] for key in SIZES}).eval().to(device)
    draft = ScratchLM(**{**{key: options[key] for key in SIZES}, "depth": 2}).eval().to(device)
    for model in (language, draft):
        # Small word vectors, or a random model would say each word again and again, which is too easily guessed.
        model.words.weight.data.mul_(0.1)
    seen = torch.randn(1, options["prefix"], options["width"], device=device)
    with torch.inference_mode():
        contenders = make(language, draft, seen, options["tokens"])
        agree(language, seen, options["tokens"])
        weights = sum(p.numel() for p in language.parameters())
        print(
            f"{weights / 1e6:.0f} M parameters, {options['prefix']} prefix tokens, {options['tokens']} decoded, "
            f"{options['threads']} threads on {device}, torch {torch.__version__}"
        )
        compare(contenders, options["rounds"], device)
    return 0


def read(language: ScratchLM, x: Tensor) -> Sequenced:
    count = x.shape[1]
    attend = torch.ones(1, count, count, dtype=torch.bool, device=x.device).tril()
    return language(x, attend, torch.arange(count, device=x.device)[None])


def again(language: ScratchLM, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The peer: the whole sequence for each token. Tokens [1 T] and logits [1 T V]."""
    tokens: list[Tensor] = []
    logits: list[Tensor] = []
    for _ in range(count):
        logits.append(language.logits(read(language, x).hidden[:, -1]))
        tokens.append(logits[-1].argmax(-1))
        x = torch.cat([x, language.embed(tokens[-1][:, None])], 1)
    return torch.stack(tokens, 1), torch.stack(logits, 1)


def agree(language: ScratchLM, seen: Tensor, count: int) -> None:
    """Stop unless the cached path gives the peer's tokens, and its logits to 1e-4."""
    tokens, logits = again(language, seen, count)
    decoded = greedy(language, read(language, seen), count)
    fixed = jacobi(language, read(language, seen), count)
    assert decoded.logits is not None
    assert fixed.logits is not None
    apart = max(float((d - logits).abs().max()) for d in (decoded.logits, fixed.logits))
    if not (torch.equal(decoded.tokens, tokens) and torch.equal(fixed.tokens, tokens) and apart < 1e-4):
        raise SystemExit(f"the paths differ: {tokens.tolist()} and {decoded.tokens.tolist()}, logits by {apart:.2g}")
    print(f"equal tokens, logits within {apart:.1e} of logits up to {float(logits.abs().max()):.1f}")


def make(language: ScratchLM, draft: ScratchLM, seen: Tensor, count: int) -> dict[str, Callable[[], object]]:
    prefix, drafted = read(language, seen), read(draft, seen)
    right = greedy(language, prefix, count).tokens
    wrong = (right + 1) % language.vocabulary
    marks = torch.zeros(count, language.width, device=seen.device)

    def fixed(guess: Tensor) -> object:
        return jacobi(language, read(language, seen), count, guess=guess)

    def spoken(words: Tensor) -> object:
        # Behind the token that comes first the words continue; what they are decides how many are accepted.
        proposals = PromptLookup(torch.cat([right[:, :1], words[:, 1:]], 1), language.vocabulary)
        return speculative_greedy(language, read(language, seen), count, proposals, ahead=count - 1)

    return {
        "whole sequence for each token (peer)": lambda: again(language, seen, count),
        "static cache": lambda: greedy(language, read(language, seen), count),
        "fixed point, guess wrong": lambda: fixed(wrong),
        "fixed point, guess right": lambda: fixed(right),
        "speculation, lookup wrong": lambda: spoken(wrong),
        "speculation, lookup right": lambda: spoken(right),
        "speculation, random draft of 2 layers": lambda: speculative_greedy(
            language, read(language, seen), count, ModelDraft(draft, drafted), ahead=3
        ),
        "all placeholders at once": lambda: parallel(language, read(language, seen), marks),
        "reading the prefix alone": lambda: read(language, seen),
        "decoding alone, static cache": lambda: greedy(language, prefix, count),
    }


def compare(contenders: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> None:
    """Print the median time of each, and of its ratio to the first within a round, with quartiles."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            begun = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(clock() - begun)
    peer = next(iter(times.values()))[1:]
    for name, taken in times.items():
        ratios = [p / t for p, t in zip(peer, taken[1:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        print(f"{name:40s} {statistics.median(taken[1:]) * 1e3:9.1f} ms   {middle:5.2f} × ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
