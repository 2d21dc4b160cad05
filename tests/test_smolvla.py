"""SmolVLA against LeRobot's own numbers, and the laws of policies made of a VLM and an action expert."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_policies import make_batch, make_observations, make_policy, make_spec, make_stats
from torch import Tensor

from wayhand.policies.expert_flow import ExpertFlowPolicy
from wayhand.policies.smolvla import SmolVLAPolicy
from wayhand.vla.backbones.connectors.projection import MLPConnector
from wayhand.vla.backbones.decoder import Decoder
from wayhand.vla.backbones.expert import ActionExpert
from wayhand.vla.backbones.inference import FastFlow
from wayhand.vla.backbones.language.scratch import ScratchLM
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.modalities import FeatureTokens
from wayhand.vla.backbones.native import NativeVLM
from wayhand.vla.backbones.siglip import PixelShuffle, SiglipTower
from wayhand.vla.backbones.towers.vit import ViT
from wayhand.vla.backbones.vlm import ComposedVLM
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec
from wayhand.vla.errors import CheckpointError, ConfigError

RECIPES = ("smolvla_tiny", "pi0_tiny", "pi05_tiny")

# Actions of LeRobot 0.6.1's SmolVLAPolicy.predict_action_chunk (torch 2.11, transformers 5.5.4) with the weights and
# inputs made by `wave` below. They change only where LeRobot's own computation does.
GOLDEN = [
    [
        [2.265596389770508, -2.115211248397827, 0.030563276261091232, 1.2122547626495361],
        [-0.9647489190101624, -3.538066864013672, 0.5126047730445862, 2.910620927810669],
        [1.1722466945648193, 0.7212964296340942, 1.0703113079071045, -0.11287613213062286],
        [-3.1203088760375977, -0.8608719110488892, 0.33124840259552, -1.562335729598999],
    ],
    [
        [2.555575370788574, 1.185076117515564, -0.3459576964378357, 1.6824606657028198],
        [1.416237235069275, -1.4934355020523071, -3.376706838607788, 0.13755077123641968],
        [1.5991570949554443, 0.511617124080658, -0.16381923854351044, 2.509239912033081],
        [2.4342000484466553, -1.7368712425231934, -2.609968900680542, 0.4226294457912445],
    ],
]


def wave(*shape: int, step: float = 0.7, start: float = 0.0) -> Tensor:
    """Numbers every machine agrees on."""
    count = int(np.prod(shape))
    return torch.sin(step * torch.arange(count, dtype=torch.float64) + start).view(shape).float()


def lerobot_shapes() -> dict[str, tuple[int, ...]]:
    """The state dict of LeRobot's policy at the size of the golden numbers, name by name."""
    body, expert = "model.vlm_with_expert.vlm.model.", "model.vlm_with_expert.lm_expert."
    shapes: dict[str, tuple[int, ...]] = {
        "model.vlm_with_expert.vlm.lm_head.weight": (32, 16),
        f"{body}connector.modality_projection.proj.weight": (16, 32),
        f"{body}text_model.embed_tokens.weight": (32, 16),
        f"{body}text_model.norm.weight": (16,),
        f"{expert}norm.weight": (12,),
    }
    heads = {"action_in_proj": (12, 4), "action_out_proj": (4, 12), "state_proj": (16, 4)}
    heads |= {"action_time_mlp_in": (12, 24), "action_time_mlp_out": (12, 12)}
    eye = f"{body}vision_model."
    for name, shape in heads.items():
        shapes |= {f"model.{name}.weight": shape, f"model.{name}.bias": shape[:1]}
    for stem, width, inner in ((f"{body}text_model.", 16, 24), (expert, 12, 256)):
        for i in range(2):
            source = 8 if stem == expert and i == 1 else width
            layer = {"self_attn.q_proj": (16, width), "self_attn.o_proj": (width, 16)}
            layer |= {"self_attn.k_proj": (8, source), "self_attn.v_proj": (8, source)}
            layer |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
            norms = {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
            shapes |= {f"{stem}layers.{i}.{name}.weight": shape for name, shape in {**layer, **norms}.items()}
    shapes |= {f"{eye}embeddings.patch_embedding.weight": (8, 3, 4, 4), f"{eye}embeddings.patch_embedding.bias": (8,)}
    shapes |= {f"{eye}embeddings.position_embedding.weight": (16, 8)}
    shapes |= {f"{eye}post_layernorm.{kind}": (8,) for kind in ("weight", "bias")}
    sight = {f"self_attn.{p}_proj": (8, 8) for p in ("q", "k", "v", "out")} | {"mlp.fc1": (12, 8), "mlp.fc2": (8, 12)}
    for name, shape in {**sight, "layer_norm1": (8,), "layer_norm2": (8,)}.items():
        stem = f"{eye}encoder.layers.0.{name}"
        shapes |= {f"{stem}.weight": shape, f"{stem}.bias": shape[:1]}
    return shapes


def lerobot_weights() -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for k, (name, shape) in enumerate(sorted(lerobot_shapes().items())):
        values = wave(*shape, step=0.37, start=k)
        is_scale = "norm" in name and name.endswith("weight")
        out[name] = 0.3 * values if len(shape) > 1 else 0.1 * values + float(is_scale)
    return out


def golden_spec() -> EnvSpec:
    arm = ActionGroup(
        "arm", "joint_position", tuple(Element(f"q{i}", "rad") for i in range(4)), (-9.0,) * 4, (9.0,) * 4
    )
    cameras = tuple(Camera(name, 16, 16, 16.0, 16.0, 8.0, 8.0) for name in ("front", "wrist"))
    return EnvSpec("toy", 0.05, cameras, tuple(Element(f"s{i}", "rad") for i in range(4)), (arm,))


def golden_policy() -> SmolVLAPolicy:
    vlm = NativeVLM(
        vision=SiglipTower(size=16, patch=4, width=8, depth=1, heads=2, inner=12),
        connector=partial(PixelShuffle, factor=2),
        language=Decoder(vocabulary=32, width=16, depth=2, heads=2, kv_heads=1, inner=24),
        tokenizer=ByteTokenizer(),
        state=4,
        scaling="all",
    )
    expert = partial(ActionExpert, width=12, inner=256, alternate=2)
    spec = golden_spec()
    return SmolVLAPolicy(spec=spec, stats=make_stats(spec), vlm=vlm, expert=expert, chunk=4, steps=10, room=4)


def golden_inputs() -> dict[str, Tensor]:
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    return {
        "images": ((wave(2, 2, 16, 16, 3) + 1) * 127.5).to(torch.uint8),
        "ids": torch.arange(12).view(2, 6),
        "mask": mask,
        "state": wave(2, 4, start=1.0),
        "noise": wave(2, 4, 4, start=2.0) * 1.5,
    }


def test_actions_are_lerobots(tmp_path: Path) -> None:
    save_file(lerobot_weights(), tmp_path / "model.safetensors")
    policy = golden_policy().eval()
    policy.load_lerobot(tmp_path / "model.safetensors")
    inputs, vlm, flow = golden_inputs(), policy.vlm, policy.flow
    assert isinstance(vlm, NativeVLM)
    with torch.no_grad():
        pixels = torch.stack([vlm.pixels(inputs["images"][:, c]) for c in range(2)], 1)
        prefix = vlm.read(vlm.embed(pixels, inputs["ids"], inputs["mask"], inputs["state"]))
        actions = flow.sample(inputs["noise"], flow.cache(prefix), 10)
    torch.testing.assert_close(actions, torch.tensor(GOLDEN), atol=2e-5, rtol=0)
    fast = FastFlow(vlm, flow, steps=10, count=4)
    torch.testing.assert_close(fast(**inputs), torch.tensor(GOLDEN), atol=2e-5, rtol=0)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    weights, policy = lerobot_weights(), golden_policy()
    path = tmp_path / "model.safetensors"
    for change, message in (
        ({"model.surprise.weight": torch.zeros(1)}, "surprise.weight"),
        ({"model.state_proj.weight": torch.zeros(16, 5)}, r"vlm\.state\.weight: \[16, 5\] for \[16, 4\]"),
    ):
        save_file({**weights, **change}, path)
        with pytest.raises(CheckpointError, match=message):
            policy.load_lerobot(path)
    del weights["model.state_proj.bias"]
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"missing: vlm\.state\.bias"):
        policy.load_lerobot(path)


def test_the_reference_freezes_all_but_the_expert_and_the_state() -> None:
    policy = golden_policy()
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert all(name.startswith(("flow.", "vlm.state.")) for name in trained)
    assert {"vlm.state.weight", "flow.enter.weight"} <= trained


def make(recipe: str) -> ExpertFlowPolicy:
    policy = make_policy(recipe)
    assert isinstance(policy, ExpertFlowPolicy)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.15)
    return policy


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_steps_saved_and_loaded_equal(recipe: str, tmp_path: Path) -> None:
    policy = make(recipe).train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    before = {name: p.clone() for name, p in policy.named_parameters()}
    for _ in range(2):
        loss, _ = policy.loss(make_batch(policy))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert any(not torch.equal(p, before[name]) for name, p in policy.named_parameters())
    save_file({k: v.contiguous() for k, v in policy.state_dict().items()}, tmp_path / "weights.safetensors")
    from safetensors.torch import load_file

    other = make_policy(recipe)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    observations = make_observations(policy, 2)
    chunks = [
        p.act(observations, (), rng=[np.random.default_rng(i) for i in range(2)])[0] for p in (policy.eval(), other)
    ]
    for a, b in zip(*chunks, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_fast_path_acts_alike(recipe: str) -> None:
    policy = make(recipe).eval()
    batch, noise = make_batch(policy), torch.randn(4, policy.chunk, policy.room)
    with torch.no_grad():
        plain = policy.denoise(batch, noise)
        policy.accelerate()
        torch.testing.assert_close(policy.denoise(batch, noise), plain, atol=1e-4, rtol=0)
        policy.train().eval()  # training drops the folded weights
        assert torch.equal(policy.denoise(batch, noise), plain)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_body_alone_decides_the_loss(recipe: str) -> None:
    """Room beyond the body's own actions is noise that is never asked for."""
    policy = make(recipe)
    batch = make_batch(policy)
    torch.manual_seed(0)
    loss, _ = policy.loss(batch)
    loss.backward()
    gradient = policy.flow.leave.weight.grad
    assert gradient is not None
    assert (gradient[policy.spec.action_dim :] == 0).all() and (gradient[: policy.spec.action_dim] != 0).any()


def test_prompts() -> None:
    smol, pi0, pi05 = (make(recipe) for recipe in RECIPES)
    batch: dict[str, Any] = {"task": ["pick_it\nup "], "observation.state": torch.tensor([[-0.05, 0.0, 0.1]])}
    assert smol.prompts({"task": ["go", "stop\n"]}) == ["go\n", "stop\n"]
    assert pi0.prompts({"task": [" go "]}) == ["go\n"]
    assert pi05.prompts(batch) == ["Task: pick it up, State: 0 128 255;\nAction: "]


def test_another_vlm_takes_its_place() -> None:
    vlm = ComposedVLM(
        vision=ViT(width=32, depth=1, heads=2, patch=8),
        connector=partial(MLPConnector),
        language=ScratchLM(vocabulary=259, width=32, depth=2, heads=2),
        tokenizer=ByteTokenizer(),
        modalities={"state": partial(FeatureTokens, source=8)},
    )
    expert = partial(ActionExpert, width=24, inner=32, alternate=2)
    spec = make_spec()
    policy = SmolVLAPolicy(spec=spec, stats=make_stats(spec), vlm=vlm, expert=expert, chunk=8, steps=2, room=8)
    loss, _ = policy.loss(make_batch(policy))
    loss.backward()
    moved = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith("vlm.modalities.state") for name in moved)
    assert not any(name.startswith(("vlm.vision", "vlm.language", "vlm.connector")) for name in moved)
    [chunk, _] = policy.act(make_observations(policy, 2), (), rng=[np.random.default_rng(i) for i in range(2)])[0]
    assert chunk.actions.shape == (8, spec.action_dim)
    with pytest.raises(ConfigError, match="plain PyTorch parts"):
        policy.accelerate()


def test_what_cannot_be_is_refused() -> None:
    spec = golden_spec()
    policy = golden_policy()
    options: dict[str, Any] = {"spec": spec, "stats": make_stats(spec), "vlm": policy.vlm}
    with pytest.raises(ConfigError, match="no room"):
        SmolVLAPolicy(**options, expert=partial(ActionExpert, width=12, inner=16, alternate=2), room=3)
    with pytest.raises(ConfigError, match="CUDA"):
        policy.accelerate(graph=True)
