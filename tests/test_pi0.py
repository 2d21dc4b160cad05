"""π0 against the model of the same name in transformers, π0.5 against LeRobot's numbers."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_policies import make_spec, make_stats
from test_smolvla import golden_inputs, wave

from wayhand.policies.pi0 import Pi0Policy, state_bins
from wayhand.vla.backbones.connectors.projection import LinearConnector
from wayhand.vla.backbones.decoder import Decoder
from wayhand.vla.backbones.expert import ActionExpert
from wayhand.vla.backbones.inference import FastFlow
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer
from wayhand.vla.backbones.native import NativeVLM
from wayhand.vla.backbones.siglip import SiglipTower

IMAGE_TOKEN = 299


def make_theirs() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import PI0Config, PI0ForConditionalGeneration

        text = {"model_type": "gemma", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
        text |= {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 300}
        vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64}
        vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 16}
        vision |= {"vision_use_head": False}
        vlm = {"model_type": "paligemma", "text_config": text, "vision_config": vision, "projection_dim": 32}
        config = PI0Config(
            vlm_config={**vlm, "image_token_id": IMAGE_TOKEN},
            dit_config={**text, "hidden_size": 24, "intermediate_size": 48},
            chunk_size=6,
            max_state_dim=8,
            max_action_dim=8,
        )
        model = PI0ForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def make_ours() -> Pi0Policy:
    vlm = NativeVLM(
        vision=SiglipTower(size=32, patch=16, width=32, depth=2, heads=2, inner=64),
        connector=partial(LinearConnector),
        language=Decoder(
            vocabulary=300, width=32, depth=2, heads=4, kv_heads=1, head_width=16, inner=64, family="gemma", eps=1e-6
        ),
        tokenizer=ByteTokenizer(),
    )
    spec = make_spec()
    expert = partial(ActionExpert, width=24, inner=48, family="gemma", eps=1e-6)
    return Pi0Policy(spec=spec, stats=make_stats(spec), vlm=vlm, expert=expert, chunk=6, room=8)


def test_actions_are_those_of_transformers(tmp_path: Path) -> None:
    theirs, ours = make_theirs(), make_ours().eval()
    theirs.save_pretrained(tmp_path)
    ours.load_openpi(tmp_path / "model.safetensors")
    vlm, flow = ours.vlm, ours.flow
    assert isinstance(vlm, NativeVLM)
    g = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8, generator=g)
    ids, mask = torch.randint(0, 290, (2, 5), generator=g), torch.ones(2, 5, dtype=torch.bool)
    mask[0, 3:] = False
    state, noise = torch.randn(2, 8, generator=g), torch.randn(2, 6, 8, generator=g)
    pixels = torch.stack([vlm.pixels(images[:, c]) for c in range(2)], 1)
    with torch.no_grad():
        prefix = vlm.read(vlm.embed(pixels, ids, mask, None))
        actions = flow.sample(noise, flow.cache(prefix, state), 10)
    asked: dict[str, Any] = {
        "state": state,
        "input_ids": torch.cat([torch.full((2, 8), IMAGE_TOKEN), ids], 1),
        "attention_mask": torch.cat([torch.ones(2, 8, dtype=torch.long), mask.long()], 1),
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones(2, 2, dtype=torch.bool),
        "noise": noise,
    }
    # Their angles of time are in single precision, hundreds of turns: some 1e-5 of difference.
    torch.testing.assert_close(theirs.sample_actions(**asked), actions, atol=1e-4, rtol=0)
    fraction = torch.linspace(0, 1, 12, dtype=torch.float64)
    theirs.embed_action_time.sinusoid_embeds.sinusoid_freq = 2 * torch.pi / (4e-3 * 1000**fraction)
    torch.testing.assert_close(theirs.sample_actions(**asked), actions, atol=1e-5, rtol=0)


# Actions of LeRobot 0.6.1's PI05Pytorch.sample_actions (torch 2.11, transformers 5.5.4) with weights and inputs made by
# `wave`. They change only where LeRobot's own computation does.
GOLDEN_05 = [
    [
        [1.5442092418670654, 0.404202938079834, -0.6036609411239624, -0.9659050703048706],
        [-1.1327828168869019, -1.0290169715881348, -0.6693963408470154, 1.0375657081604004],
        [1.4973505735397339, 1.0745861530303955, 0.5551143288612366, -0.18895560503005981],
        [-1.0678905248641968, -1.3468674421310425, -1.4596718549728394, -0.1127065122127533],
    ],
    [
        [0.9696786999702454, 1.2335832118988037, 1.2138389348983765, 0.7946797609329224],
        [-0.2778065502643585, -1.1375659704208374, -1.8741445541381836, -1.026796579360962],
        [0.07522176206111908, 0.6876744031906128, 1.2653857469558716, 1.5641759634017944],
        [0.7681687474250793, -0.4194014370441437, -1.6528239250183105, -1.4098474979400635],
    ],
]


def lerobot_shapes() -> dict[str, tuple[int, ...]]:
    """The state dict of LeRobot's π0.5 at the size of the golden numbers, without output words."""
    body, expert = "paligemma_with_expert.paligemma.model.", "paligemma_with_expert.gemma_expert.model."
    speech, sight = f"{body}language_model.", f"{body}vision_tower.vision_model."
    both: dict[str, tuple[int, ...]] = {
        "action_in_proj": (12, 4),
        "action_out_proj": (4, 12),
        "time_mlp_in": (12, 12),
        "time_mlp_out": (12, 12),
        f"{expert}norm.dense": (36, 12),
        f"{body}multi_modal_projector.linear": (16, 8),
        f"{sight}embeddings.patch_embedding": (8, 3, 8, 8),
    }
    alone: dict[str, tuple[int, ...]] = {f"{speech}embed_tokens": (32, 16), f"{speech}norm": (16,)}
    alone |= {f"{sight}embeddings.position_embedding": (4, 8)}
    both |= {f"{sight}post_layernorm": (8,)}
    eye = {f"self_attn.{p}_proj": (8, 8) for p in ("q", "k", "v", "out")} | {"layer_norm1": (8,), "layer_norm2": (8,)}
    both |= {f"{sight}encoder.layers.0.{k}": v for k, v in {**eye, "mlp.fc1": (4304, 8), "mlp.fc2": (8, 4304)}.items()}
    for stem, width, inner in ((speech, 16, 24), (expert, 12, 20)):
        for i in range(2):
            layer = {"self_attn.q_proj": (16, width), "self_attn.o_proj": (width, 16)}
            layer |= {"self_attn.k_proj": (8, width), "self_attn.v_proj": (8, width)}
            layer |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
            alone |= {f"{stem}layers.{i}.{k}": v for k, v in layer.items()}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                name = f"{stem}layers.{i}.{norm}"
                if stem == expert:
                    both[f"{name}.dense"] = (36, 12)
                else:
                    alone[name] = (16,)
    shapes = {f"{name}.weight": shape for name, shape in {**alone, **both}.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in both.items()}


def test_actions_of_version_05_are_lerobots(tmp_path: Path) -> None:
    weights = {
        name: wave(*shape, step=0.37, start=k) * (0.3 if len(shape) > 1 else 0.1)
        for k, (name, shape) in enumerate(sorted(lerobot_shapes().items()))
    }
    save_file({f"model.{name}": value for name, value in weights.items()}, tmp_path / "model.safetensors")
    vlm = NativeVLM(
        vision=SiglipTower(size=16, patch=8, width=8, depth=1, heads=2, inner=4304),
        connector=partial(LinearConnector),
        language=Decoder(vocabulary=32, width=16, depth=2, heads=2, kv_heads=1, inner=24, family="gemma", eps=1e-6),
        tokenizer=ByteTokenizer(),
    )
    expert = partial(ActionExpert, width=12, inner=20, condition=12, family="gemma", eps=1e-6)
    spec = make_spec()
    policy = Pi0Policy(spec=spec, stats=make_stats(spec), vlm=vlm, expert=expert, version="0.5", chunk=4, room=4)
    policy.eval().load_openpi(tmp_path / "model.safetensors")
    inputs = golden_inputs()
    with torch.no_grad():
        pixels = torch.stack([vlm.pixels(inputs["images"][:, c]) for c in range(2)], 1)
        prefix = vlm.read(vlm.embed(pixels, inputs["ids"], inputs["mask"], None))
        actions = policy.flow.sample(inputs["noise"], policy.flow.cache(prefix), 10)
    torch.testing.assert_close(actions, torch.tensor(GOLDEN_05), atol=2e-5, rtol=0)
    fast = FastFlow(vlm, policy.flow, steps=10, count=4)
    torch.testing.assert_close(fast(**inputs), torch.tensor(GOLDEN_05), atol=2e-5, rtol=0)


def test_states_fall_into_equal_bins() -> None:
    state = torch.tensor([-2.0, -1.0, -0.9999, 0.0, 0.9999, 1.0, 3.0])
    assert state_bins(state).tolist() == [0, 0, 0, 128, 255, 255, 255]
    assert state_bins(torch.tensor(-1 + 2 * 37 / 256)).item() == 37


@pytest.mark.parametrize("frozen", ["vision", "vlm"])
def test_frozen_parts_take_no_gradient(frozen: Any) -> None:
    ours = make_ours()
    options: dict[str, Any] = {"spec": ours.spec, "stats": ours.stats, "vlm": ours.vlm, "chunk": 6, "room": 8}
    policy = Pi0Policy(**options, expert=partial(ActionExpert, width=24, inner=48, family="gemma"), frozen=frozen)
    assert not any(p.requires_grad for p in policy.vlm.get_submodule("vision").parameters())
    assert all(p.requires_grad == (frozen == "vision") for p in policy.vlm.language.parameters())
    assert all(p.requires_grad for p in policy.flow.parameters())
