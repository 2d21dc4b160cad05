"""Laws of adapters and compression: nothing changes at first, little is trained and saved, errors are bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wayhand.vla.backbones.adapters import AdaptedLM, LoRA, adapter_weights, load_adapter, merge, save_adapter
from wayhand.vla.backbones.base import LanguageModel
from wayhand.vla.backbones.compression import Int4Linear, compress, quantize_int4, stored_bytes
from wayhand.vla.backbones.language.causal import CausalLM
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.errors import CheckpointError, ConfigError

peft = pytest.importorskip("peft", reason="adapters need peft")


def make(kind: str = "scratch") -> LanguageModel:
    torch.manual_seed(0)
    if kind == "scratch":
        return ScratchLM(vocabulary=64, width=64, depth=2, heads=4, kv_heads=2, inner=128).eval()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "head_dim": 8}
    return CausalLM(config={"model_type": "qwen3", "vocab_size": 64, "eos_token_id": 2, **sizes, **heads}).eval()


@pytest.fixture(params=("scratch", "transformers"))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return make(request.param)


def logits(lm: LanguageModel) -> Tensor:
    ids = torch.randint(0, 64, (2, 7), generator=torch.Generator().manual_seed(2))
    attend = torch.ones(2, 7, 7, dtype=torch.bool).tril()
    return lm.logits(lm(lm.embed(ids), attend, torch.arange(7).expand(2, 7)).hidden)


def learn(module: nn.Module) -> None:
    """One step of the adapters away from where they are."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.1)


def test_an_adapter_changes_nothing_before_it_learns(lm: LanguageModel) -> None:
    before = logits(lm)
    names = LoRA(rank=4).apply(lm)
    assert torch.equal(logits(lm), before) and not any("head" in name for name in names)


def test_only_adapters_learn(lm: LanguageModel) -> None:
    LoRA(rank=4).apply(lm)
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    trained = [p for p in lm.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for _ in range(2):  # in the first step only B moves, as A meets a zero
        optimizer.zero_grad()
        logits(lm).logsumexp(-1).sum().backward()
        optimizer.step()
    moved = {name for name, value in lm.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(adapter_weights(lm))
    assert sum(p.numel() for p in trained) == sum(v.numel() for v in adapter_weights(lm).values())


def test_a_merged_model_computes_the_same_in_its_old_shape(lm: LanguageModel) -> None:
    names = list(lm.state_dict())
    LoRA(rank=4, alpha=3.0).apply(lm)
    learn(lm)
    before = logits(lm)
    assert merge(lm) > 0 and list(lm.state_dict()) == names and merge(lm) == 0
    torch.testing.assert_close(logits(lm), before, atol=1e-5, rtol=1e-5)


def test_an_adapter_is_saved_alone_and_loaded_again(lm: LanguageModel, tmp_path: Path) -> None:
    kind = "scratch" if isinstance(lm, ScratchLM) else "transformers"
    lora = LoRA(rank=2, dropout=0.1)
    lora.apply(lm)
    learn(lm)
    save_adapter(lm, lora, tmp_path / "adapter")
    fresh = make(kind)
    assert load_adapter(fresh, tmp_path / "adapter").to_dict() == lora.to_dict()
    assert torch.equal(logits(fresh), logits(lm))
    written = sum(p.stat().st_size for p in (tmp_path / "adapter").iterdir())
    assert written < stored_bytes(make(kind)) / 2
    with pytest.raises(CheckpointError, match="a folder of its own"):
        save_adapter(lm, lora, tmp_path / "adapter")


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    lm, lora = make(), LoRA(rank=2)
    lora.apply(lm)
    save_adapter(lm, lora, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="another model"):
        load_adapter(ScratchLM(vocabulary=64, width=32, depth=2, heads=4), tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="is a pickle"):
        load_adapter(make(), tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="no adapters to save"):
        save_adapter(make(), lora, tmp_path / "other")


def test_named_maps_alone_are_adapted_and_a_wrong_name_lists_what_exists() -> None:
    assert LoRA(rank=2, targets=["out"]).apply(make()) == ["layers.0.out", "layers.1.out"]
    with pytest.raises(ConfigError, match="gate_up"):
        LoRA(rank=2, targets=["q_proj"]).apply(make())
    with pytest.raises(ConfigError, match="rank"):
        LoRA(rank=0)
    twice = make()
    LoRA(rank=2).apply(twice)
    with pytest.raises(ConfigError, match="adapters already"):
        LoRA(rank=2).apply(twice)


def test_an_adapted_model_is_a_language_model() -> None:
    plain = make()
    adapted = AdaptedLM(language=make(), rank=2)
    assert torch.equal(logits(adapted), logits(plain))
    assert (adapted.width, adapted.depth, adapted.kv_heads) == (plain.width, plain.depth, plain.kv_heads)


# --- compression -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error", "share"), [("int8", 0.03, 0.35), ("int4", 0.25, 0.25)])
def test_compressed_weights_are_smaller_and_nearly_the_same(kind: str, error: float, share: float) -> None:
    if kind == "int8":
        pytest.importorskip("torchao", reason="int8 needs torchao")
    lm = make()
    before, words = logits(lm).detach(), lm.get_parameter("words.weight")
    report = compress(lm, kind)  # pyright: ignore[reportArgumentType]
    after = logits(lm).detach()
    assert len(report.names) == 8 and report.kept == () and report.after == stored_bytes(lm)
    maps = 4 * words.numel()  # bytes that are no linear map's
    assert report.after - maps < share * (report.before - maps)
    assert (after - before).norm() < error * before.norm()


def test_int4_rounds_each_weight_by_at_most_half_a_step() -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 64)
    codes, scales = quantize_int4(weight, 32)
    scale, offset = (scales[..., i].T.repeat_interleave(32, 1) for i in (0, 1))
    assert codes.min() >= 0 and codes.max() <= 15
    assert ((codes - 8) * scale + offset - weight).abs().sub(scale / 2).max() < 1e-5
    x = torch.randn(3, 64, requires_grad=True)
    linear = nn.Linear(64, 16)
    linear.weight.data.copy_(weight)
    packed = Int4Linear(linear, group=32)
    restored = (codes - 8) * scale + offset
    torch.testing.assert_close(packed(x), x @ restored.T + linear.bias, atol=1e-4, rtol=1e-4)
    packed(x).square().sum().backward()
    own = x.detach().requires_grad_()
    (own @ restored.T + linear.bias).square().sum().backward()
    torch.testing.assert_close(x.grad, own.grad, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_gradients_pass_through_compressed_maps_to_adapters(kind: str) -> None:
    if kind == "int8":
        pytest.importorskip("torchao", reason="int8 needs torchao")
    lm = make()
    LoRA(rank=2).apply(lm)
    report = compress(lm, kind)  # pyright: ignore[reportArgumentType]
    assert len(report.names) == 8 and not any("lora_" in name for name in report.names)
    logits(lm).sum().backward()
    grads = [p.grad for name, p in lm.named_parameters() if "lora_B" in name]
    assert len(grads) == 8 and all(g is not None and g.abs().sum() > 0 for g in grads)
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge(lm)


def test_maps_that_do_not_fit_the_kernel_stay() -> None:
    odd = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 7))
    report = compress(odd, "int4")
    assert report.names == ("0",) and report.kept == ("1",)


def test_fp8_says_what_it_needs_where_there_is_none() -> None:
    pytest.importorskip("torchao", reason="FP8 needs torchao")
    if torch.cuda.is_available():
        pytest.skip("this machine may have FP8")
    with pytest.raises(ConfigError, match=r"FP8[\s\S]*8\.9[\s\S]*int8, int4"):
        compress(make(), "fp8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FP8 needs a GPU of compute capability 8.9 or more")
def test_fp8_is_smaller_and_nearly_the_same() -> None:
    linear = nn.Linear(256, 256, bias=False).cuda().bfloat16()
    x = torch.randn(32, 256, device="cuda", dtype=torch.bfloat16)
    before = linear(x)
    report = compress(nn.Sequential(linear), "fp8")
    assert report.after < 0.6 * report.before
    assert (nn.Sequential(linear)(x) - before).norm() < 0.06 * before.norm()
