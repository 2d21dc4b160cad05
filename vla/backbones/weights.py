"""Names of other people's checkpoints in terms of ours, so that their weights drive the same computation.

Sources: LeRobot's SmolVLA (0.6), and openpi's π0 and π0.5 as transformers (5.x) and LeRobot save them. Only tensors
pass; nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError

# Ours ← theirs, as regular expressions over the whole name. What matches nothing here is an error, not silence.
LAYER = {
    r"input_layernorm.weight": "enter.weight",
    r"post_attention_layernorm.weight": "middle.weight",
    r"self_attn.q_proj.weight": "attention.query.weight",
    r"self_attn.k_proj.weight": "attention.key.weight",
    r"self_attn.v_proj.weight": "attention.value.weight",
    r"self_attn.o_proj.weight": "attention.out.weight",
    r"mlp.gate_proj.weight": "feed.gate.weight",
    r"mlp.up_proj.weight": "feed.up.weight",
    r"mlp.down_proj.weight": "feed.down.weight",
}
VISION_LAYER = {
    r"layer_norm1.(weight|bias)": r"enter.\1",
    r"layer_norm2.(weight|bias)": r"middle.\1",
    r"self_attn.q_proj.(weight|bias)": r"query.\1",
    r"self_attn.k_proj.(weight|bias)": r"key.\1",
    r"self_attn.v_proj.(weight|bias)": r"value.\1",
    r"self_attn.out_proj.(weight|bias)": r"out.\1",
    r"mlp.fc1.(weight|bias)": r"up.\1",
    r"mlp.fc2.(weight|bias)": r"down.\1",
}
VISION = {
    r"embeddings.patch_embedding.(weight|bias)": r"embed.\1",
    r"embeddings.position_embedding.weight": "places",
    r"post_layernorm.(weight|bias)": r"norm.\1",
}
HEAD = {
    r"action_in_proj.(weight|bias)": r"flow.enter.\1",
    r"action_out_proj.(weight|bias)": r"flow.leave.\1",
    r"action_time_mlp_in.(weight|bias)": r"flow.time_in.\1",
    r"action_time_mlp_out.(weight|bias)": r"flow.time_out.\1",
}


def nested(theirs: str, ours: str, names: Mapping[str, str]) -> dict[str, str]:
    return {rf"{theirs}\.{name}": rf"{ours}.{to}" for name, to in names.items()}


def numbered(theirs: str, ours: str, names: Mapping[str, str]) -> dict[str, str]:
    """As `nested`, for layers: the number is the first group, so that those of `names` move up by one."""
    shifted = {name: re.sub(r"\\1", r"\\2", to) for name, to in names.items()}
    return {rf"{theirs}\.(\d+)\.{name}": rf"{ours}.\1.{to}" for name, to in shifted.items()}


_EYE, _TEXT, _EXPERT = (
    r"vlm_with_expert\.vlm\.model\.vision_model",
    r"vlm_with_expert\.vlm\.model\.text_model",
    r"vlm_with_expert\.lm_expert",
)
SMOLVLA: dict[str, str] = {
    **nested(_EYE, "vlm.vision", VISION),
    **numbered(rf"{_EYE}\.encoder\.layers", "vlm.vision.layers", VISION_LAYER),
    r"vlm_with_expert\.vlm\.model\.connector\.modality_projection\.proj\.weight": "vlm.connector.project.weight",
    rf"{_TEXT}\.embed_tokens\.weight": "vlm.language.words.weight",
    rf"{_TEXT}\.norm\.weight": "vlm.language.norm.weight",
    **numbered(rf"{_TEXT}\.layers", "vlm.language.layers", LAYER),
    rf"{_EXPERT}\.norm\.weight": "flow.expert.norm.weight",
    **numbered(rf"{_EXPERT}\.layers", "flow.expert.layers", LAYER),
    r"state_proj\.(weight|bias)": r"vlm.state.\1",
    **HEAD,
}
"""LeRobot's SmolVLA, without the "model." its policy puts before each name."""

_PALI, _GEMMA = r"paligemma_with_expert\.paligemma\.(?:model\.)?", r"paligemma_with_expert\.gemma_expert\.model"
_SIGHT, _SPEECH = rf"{_PALI}vision_tower\.(?:vision_model\.)?", rf"{_PALI}language_model\.(?:model\.)?"
MODULATED = {
    r"input_layernorm.dense.(weight|bias)": r"enter.project.\1",
    r"post_attention_layernorm.dense.(weight|bias)": r"middle.project.\1",
}
PI0: dict[str, str] = {
    **{rf"{_SIGHT}{name}": f"vlm.vision.{to}" for name, to in VISION.items()},
    **numbered(rf"{_SIGHT}encoder\.layers", "vlm.vision.layers", VISION_LAYER),
    rf"{_PALI}multi_modal_projector\.linear\.(weight|bias)": r"vlm.connector.project.\1",
    rf"{_SPEECH}embed_tokens\.weight": "vlm.language.words.weight",
    rf"{_SPEECH}norm\.weight": "vlm.language.norm.weight",
    **numbered(rf"{_SPEECH}layers", "vlm.language.layers", LAYER),
    rf"{_GEMMA}\.norm\.weight": "flow.expert.norm.weight",
    rf"{_GEMMA}\.norm\.dense\.(weight|bias)": r"flow.expert.norm.project.\1",
    **numbered(rf"{_GEMMA}\.layers", "flow.expert.layers", {**LAYER, **MODULATED}),
    r"state_proj\.(weight|bias)": r"flow.state.\1",
    **HEAD,
    r"time_mlp_in\.(weight|bias)": r"flow.time_in.\1",
    r"time_mlp_out\.(weight|bias)": r"flow.time_out.\1",
}
"""openpi's names of π0 and π0.5, under which transformers and LeRobot (there after "model.") save them."""

UNUSED = (
    r"vlm_with_expert\.vlm\.lm_head\.weight",  # actions are not words
    r"paligemma_with_expert\.(paligemma|gemma_expert)\.lm_head\.weight",  # nor does the expert read any
    r"paligemma_with_expert\.gemma_expert\.model\.embed_tokens\.weight",
    r"(un)?normalize_(inputs|targets)\..*",  # statistics are those of our own checkpoints
)


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Their state dict under our names.

    Raises:
        CheckpointError: for a tensor that has no place here; the message shows its name.
    """
    rules = [(re.compile(pattern), to) for pattern, to in names.items()]
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        if any(re.fullmatch(pattern, name) for pattern in UNUSED):
            continue
        match = next(((m, to) for rule, to in rules if (m := rule.fullmatch(name))), None)
        if match is None:
            raise CheckpointError(f"The tensor '{name}' has no place in this model", expected="names of a known layout")
        out[match[0].expand(match[1])] = value
    return out


def lerobot_smolvla(path: str | Path) -> dict[str, Tensor]:
    """The weights of a LeRobot SmolVLA policy's `model.safetensors` under our names, in single precision."""
    return renamed({name.removeprefix("model."): value for name, value in _tensors(path).items()}, SMOLVLA)


def openpi_pi0(path: str | Path) -> dict[str, Tensor]:
    """The weights of π0 or π0.5 from a `.safetensors` file under our names, in single precision."""
    weights = {name.removeprefix("model."): value for name, value in _tensors(path).items()}
    out = renamed(weights, PI0)
    tied = weights.get("paligemma_with_expert.paligemma.lm_head.weight")
    if tied is not None:  # word vectors and output weights are one tensor, of which some files hold either name
        out.setdefault("vlm.language.words.weight", tied)
    return out


def require_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], source: str | Path) -> None:
    """Raise `CheckpointError` with the names where two state dicts differ in names or shapes."""
    missing = sorted(set(ours) - set(theirs))
    extra = sorted(set(theirs) - set(ours))
    other = [
        f"{name}: {list(theirs[name].shape)} for {list(ours[name].shape)}"
        for name in sorted(set(ours) & set(theirs))
        if ours[name].shape != theirs[name].shape
    ]
    if missing or extra or other:
        raise CheckpointError(
            f"The weights in {source} do not fit this policy",
            expected="a recipe of the checkpoint's own sizes",
            got="; ".join(
                f"{what}: {', '.join(names[:4])}{' …' * (len(names) > 4)}"
                for what, names in (("missing", missing), ("unknown", extra), ("other shapes", other))
                if names
            ),
        )


def _tensors(path: str | Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: value.float() for name, value in load_file(path).items()}
