"""How long a flow VLA takes from images to a chunk of actions, against LeRobot's SmolVLA class in the same run.

    python scripts/bench/vla_latency.py [size=deep] [rounds=7] [threads=1] [batch=1] [device=cpu] [dtype=float32]
                                        [compiled=true] [lerobot=/path/to/an/environment/bin/python] [peers=eager]

Sizes: `wide` (16M), `deep` (17M, SmolVLA's own depths and ratios) and `small` (the same with its own number of tokens
too: 64 of each camera, 48 words) for a CPU; `smolvla` (450M) and `pi0` (3.3B, no LeRobot side) for a GPU. Weights are
LeRobot's own, random and identical on both sides; both start from images, ids, state and noise; actions are compared
before anything is timed. Rounds are interleaved and a ratio is taken within a round. The floor is the arithmetic at the
fastest matrix product measured in this run, plus the weights' bytes at the measured bandwidth of memory. "kernels" is
our own code on one thread of a CPU. "recomputed" reads the prefix anew at each of the ten steps, as a policy without a
cache would; how much a cache can save is told by the operations of both. For a compiled peer, which takes many minutes
to compile, add `peers=eager,compiled`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.decoder import Decoder
from wayhand.vla.backbones.expert import ActionExpert
from wayhand.vla.backbones.flow import FlowExpert, NoiseAtOne
from wayhand.vla.backbones.inference import FastFlow, FoldedFlow
from wayhand.vla.backbones.kernels.flow import KernelFlow
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.native import NativeVLM
from wayhand.vla.backbones.siglip import PixelShuffle, SiglipTower
from wayhand.vla.backbones.weights import lerobot_smolvla

CAMERAS, ROOM, STEPS = ("front", "wrist"), 32, 10


@dataclass(frozen=True)
class Size:
    """Of vision (image, patch, width, depth, heads, inner), language (the same) and expert (width, inner)."""

    vision: tuple[int, int, int, int, int, int]
    language: tuple[int, int, int, int, int]  # width, depth, heads, key-value heads, inner
    expert: tuple[int, int]
    factor: int = 2
    vocabulary: int = 4096
    words: int = 16
    chunk: int = 50
    family: str = "smolvla"


SIZES = {
    "wide": Size((128, 16, 256, 6, 4, 1024), (256, 8, 4, 2, 704), (192, 512)),
    "deep": Size((128, 16, 192, 12, 3, 768), (192, 16, 3, 1, 512), (144, 512)),
    "small": Size((256, 16, 192, 12, 3, 768), (192, 16, 3, 1, 512), (144, 512), words=48),
    "smolvla": Size((512, 16, 768, 12, 12, 3072), (960, 16, 15, 5, 2560), (720, 2048), 4, 49280, 48),
    "pi0": Size((224, 14, 1152, 27, 16, 4304), (2048, 18, 8, 1, 16384), (1024, 4096), 1, 257152, 48, family="pi0"),
}


class Model(nn.Module):
    """Our plain modules; also what FLOPs are counted on."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        image, patch, width, depth, heads, inner = size.vision
        language, layers, queries, keys, feed = size.language
        smol = size.family == "smolvla"
        self.vlm = NativeVLM(
            vision=SiglipTower(size=image, patch=patch, width=width, depth=depth, heads=heads, inner=inner),
            connector=partial(PixelShuffle, factor=size.factor) if smol else partial(LinearConnector),
            language=Decoder(
                vocabulary=size.vocabulary,
                width=language,
                depth=layers,
                heads=queries,
                kv_heads=keys,
                inner=feed,
                head_width=None if smol else 256,
                family="llama" if smol else "gemma",
                eps=1e-5 if smol else 1e-6,
            ),
            tokenizer=ByteTokenizer(),
            state=ROOM if smol else 0,
            scaling="all" if smol else "words",
        )
        expert = ActionExpert(
            language=self.vlm.language,
            width=size.expert[0],
            inner=size.expert[1],
            alternate=2 if smol else 0,
            family="llama" if smol else "gemma",
            eps=1e-5 if smol else 1e-6,
        )
        self.flow = FlowExpert(expert=expert, actions=ROOM, state=0 if smol else ROOM, causal=smol)

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """The plain path with its cache."""
        return self.flow.sample(noise, self.cache(images, ids, mask, state), STEPS)

    def cache(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor):
        pixels = torch.stack([self.vlm.pixels(images[:, c]) for c in range(images.shape[1])], 1)
        prefix = self.vlm.read(self.vlm.embed(pixels, ids, mask, state if self.vlm.state is not None else None))
        return self.flow.cache(prefix, state if self.flow.state is not None else None)

    def recomputed(self, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
        """The same actions without a cache: the prefix is read at every step."""
        return NoiseAtOne.integrate(lambda x, t: self.flow(x, t, self.cache(images, ids, mask, state)), noise, STEPS)


def recomputed(folded: FoldedFlow, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor) -> Tensor:
    """As `Model.recomputed`, over folded weights."""
    for when in folded.step.get_buffer("times"):
        noise = folded.step(noise, folded.reader(images, ids, mask, state), when, None)
    return noise


def kernels_recomputed(
    flow: KernelFlow, images: Tensor, ids: Tensor, mask: Tensor, state: Tensor, noise: Tensor
) -> Tensor:
    """As `Model.recomputed`, over the kernels."""
    for k in range(STEPS):
        prefix = flow.embedding(images, ids, mask, state)
        noise = flow.step(prefix, flow.read(prefix), state, noise, range(k, k + 1))
    return noise


def main(argv: list[str]) -> int:
    options = {"size": "deep", "rounds": "7", "threads": "1", "batch": "1", "device": "cpu", "dtype": "float32"}
    options |= {"compiled": "true", "lerobot": "", "peers": "eager"}
    options |= dict(a.split("=", 1) for a in argv)
    size, device, dtype = SIZES[options["size"]], options["device"], getattr(torch, options["dtype"])
    torch.set_num_threads(int(options["threads"]))
    inputs = make_inputs(size, int(options["batch"]))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        peers = start_peers(Path(folder), size, inputs, options) if size.family == "smolvla" else {}
        torch.manual_seed(0)
        model = Model(size)
        if peers:
            model.load_state_dict(lerobot_smolvla(Path(folder) / "model.safetensors"))
        model = model.eval().to(device)
        inputs = {name: value.to(device) for name, value in inputs.items()}
        contenders = make_contenders(model.to(dtype), size, inputs, dtype, options)
        check({name: call() for name, call in contenders.items()}, Path(folder), peers)
        print_table(model, contenders, peers, size, inputs, options)
        for peer in peers.values():
            peer.close()
    return 0


def make_contenders(
    model: Model, size: Size, inputs: dict[str, Tensor], dtype: torch.dtype, options: dict[str, str]
) -> dict[str, Callable[[], Tensor]]:
    cuda = options["device"] != "cpu"
    make = partial(FastFlow, model.vlm, model.flow, steps=STEPS, count=size.chunk)
    plain = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    out: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: model(**plain),
        "recomputed": lambda: model.recomputed(**plain),
    }
    fast = {"folded": make(dtype=dtype)}
    if options["compiled"] == "true":
        fast["compiled"] = make(dtype=dtype, compiled=True)
    if cuda:
        fast["graph"] = make(dtype=dtype, graph=True)
        if options["compiled"] == "true":
            fast["compiled + graph"] = make(dtype=dtype, compiled=True, graph=True)
    else:
        fast["folded, bf16"] = make(dtype=torch.bfloat16)
        if dtype == torch.float32:
            fast["kernels"] = make(kernels=True)
            kernels = KernelFlow(model.vlm, model.flow, steps=STEPS, count=size.chunk)
            out["kernels, recomputed"] = partial(kernels_recomputed, kernels, **inputs)
    out["folded, recomputed"] = partial(recomputed, fast["folded"].folded, **inputs)
    return out | {name: partial(call, **inputs) for name, call in fast.items()}


def make_inputs(size: Size, batch: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    mask = torch.ones(batch, size.words, dtype=torch.bool)
    mask[0, size.words * 3 // 4 :] = False
    side = size.vision[0]
    return {
        "images": torch.randint(0, 256, (batch, len(CAMERAS), side, side, 3), dtype=torch.uint8, generator=g),
        "ids": torch.randint(1, size.vocabulary - 1, (batch, size.words), generator=g),
        "mask": mask,
        "state": torch.randn(batch, ROOM, generator=g),
        "noise": torch.randn(batch, size.chunk, ROOM, generator=g),
    }


def check(actions: dict[str, Tensor], folder: Path, peers: dict[str, Peer]) -> None:
    """Differences of actions, before anything is timed."""
    theirs = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in peers}
    reference = next(iter(theirs.values()), actions["plain"].float().cpu())
    print(f"actions up to {reference.abs().max():.2f}; largest difference to {next(iter(theirs), 'plain')}:")
    for name, found in {**actions, **theirs}.items():
        print(f"  {name:<20} {(found.float().cpu() - reference).abs().max().item():.2e}")


def print_table(
    model: Model,
    contenders: dict[str, Callable[[], Tensor]],
    peers: dict[str, Peer],
    size: Size,
    inputs: dict[str, Tensor],
    options: dict[str, str],
) -> None:
    device, rounds = options["device"], int(options["rounds"])
    everyone = {name: timed(call, device) for name, call in contenders.items()}
    everyone |= {f"lerobot {name}": peer.seconds for name, peer in peers.items()}
    for seconds in everyone.values():
        seconds()
    times = {name: np.empty(rounds) for name in everyone}
    for i in range(rounds):
        for name, seconds in everyone.items():
            times[name][i] = seconds()
    floor = print_floor(model, size, inputs, device, getattr(torch, options["dtype"]))
    base = next((name for name in everyone if name.startswith("lerobot")), "plain")
    print(f"{'':<20} {'median':>9} {'p99':>9}   {base} ÷ it (quartiles)    × floor")
    for name, t in times.items():
        low, mid, high = np.quantile(times[base] / t, (0.25, 0.5, 0.75))
        print(
            f"{name:<20} {1e3 * np.median(t):>6.1f} ms {1e3 * np.quantile(t, 0.99):>6.1f} ms"
            f"   {mid:5.2f} ({low:.2f} … {high:.2f}) {'':<12} {np.median(t) / floor:5.2f}"
        )
    for name in ("plain", "folded", "kernels"):
        without = "recomputed" if name == "plain" else f"{name}, recomputed"
        if without in times:
            ratio = np.median(times[without] / times[name])
            print(f"{STEPS} steps with a cache ({name}) are {ratio:.2f} × as fast as reading the prefix at every step")
    print(f"  in operations alone, {reuse_in_operations(model, inputs):.2f} ×")


def reuse_in_operations(model: Model, inputs: dict[str, Tensor]) -> float:
    """How many times the operations of the cached path the path without a cache needs."""
    dtype = next(model.parameters()).dtype
    plain = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    return operations(partial(model.recomputed, **plain)) / operations(partial(model, **plain))


def operations(call: Callable[[], object]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def print_floor(model: Model, size: Size, inputs: dict[str, Tensor], device: str, dtype: torch.dtype) -> float:
    """Seconds below which no implementation of this arithmetic gets on this machine."""
    plain = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    flops, width = operations(partial(model, **plain)), next(model.parameters()).element_size()
    read = sum(p.numel() for p in model.vlm.parameters()) - model.vlm.decoder.words.weight.numel()
    weights = width * (read + STEPS * sum(p.numel() for p in model.flow.parameters()))
    product, bandwidth = measured_products(device, dtype), measured_bandwidth(device)
    best = max(product.values())
    seconds = flops / best + weights / bandwidth
    listed = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in product.items())
    count = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"\n{count:.1f}M parameters, {flops / 1e9:.2f} GFLOP, {weights / 1e6:.0f} MB of weights read a call")
    print(f"matrix products {listed} GFLOP/s; memory {bandwidth / 1e9:.1f} GB/s; floor {1e3 * seconds:.1f} ms")
    for name, rate in product.items():
        print(f"  floor with {name}: {1e3 * (flops / rate + weights / bandwidth):.1f} ms")
    return seconds


def measured_products(device: str, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of a large product by the default kernel and, on a CPU, by oneDNN's."""
    n = 1024 if device == "cpu" else 8192
    a, w = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    calls: dict[str, Callable[[], Tensor]] = {"default": lambda: nn.functional.linear(a, w)}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        from wayhand.vla.backbones.packed import PackedLinear

        calls["oneDNN"] = partial(PackedLinear(w, None, rows=n), a)
    out = {}
    for name, call in calls.items():
        seconds = timed(call, device)
        out[name] = 2 * n**3 / min(seconds() for _ in range(6))
    return out


def measured_bandwidth(device: str) -> float:
    """Bytes/s of reading memory that no cache holds."""
    x = torch.ones(1 << (26 if device == "cpu" else 30), device=device)
    seconds = timed(lambda: x.sum(), device)
    return x.numel() * x.element_size() / min(seconds() for _ in range(4))


def timed(call: Callable[[], Tensor], device: str) -> Callable[[], float]:
    def seconds() -> float:
        begin = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return seconds


class Peer:
    """A process of LeRobot's environment that answers each line with the seconds of one call."""

    def __init__(self, python: str, folder: Path, options: dict[str, str], mode: str) -> None:
        script = Path(__file__).with_name("smolvla_peer.py")
        command = [python, str(script), str(folder), options["device"], options["threads"]]
        self._process = subprocess.Popen(
            command + ([mode] if mode == "compiled" else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": options["threads"]},
        )
        print(self._line(), flush=True)

    def seconds(self) -> float:
        assert self._process.stdin is not None
        print("", file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("peer: "):
                return line.removeprefix("peer: ").strip()
        raise SystemExit(f"The LeRobot process ended with code {self._process.wait()}")


def start_peers(folder: Path, size: Size, inputs: dict[str, Tensor], options: dict[str, str]) -> dict[str, Peer]:
    if not options["lerobot"]:
        return {}
    image, patch, width, depth, heads, inner = size.vision
    language, layers, queries, keys, feed = size.language
    text = {"model_type": "llama", "hidden_size": language, "num_hidden_layers": layers, "intermediate_size": feed}
    text |= {"num_attention_heads": queries, "num_key_value_heads": keys, "head_dim": language // queries}
    text |= {"vocab_size": size.vocabulary, "rms_norm_eps": 1e-5, "pad_token_id": 0}
    vision = {"model_type": "smolvlm_vision", "hidden_size": width, "num_hidden_layers": depth}
    vision |= {"num_attention_heads": heads, "intermediate_size": inner, "image_size": image, "patch_size": patch}
    config = {"model_type": "smolvlm", "scale_factor": size.factor, "image_token_id": size.vocabulary - 1}
    (folder / "vlm").mkdir()
    (folder / "vlm" / "config.json").write_text(
        json.dumps({**config, "pad_token_id": 0, "text_config": text, "vision_config": vision})
    )
    sizes = {"image": image, "room": ROOM, "cameras": CAMERAS, "chunk": size.chunk, "steps": STEPS, "depth": layers}
    sizes |= {"expert": size.expert[0] / language, "alternate": 2, "dtype": options["dtype"]}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    save_file({**inputs, "mask": inputs["mask"].to(torch.uint8)}, folder / "inputs.safetensors")
    return {mode: Peer(options["lerobot"], folder, options, mode) for mode in options["peers"].split(",")}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
