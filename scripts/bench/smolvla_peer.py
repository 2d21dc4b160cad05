"""LeRobot's side of the latency benchmark; runs in LeRobot's own environment (Python ≥ 3.12, `lerobot[smolvla]`).

    python smolvla_peer.py FOLDER DEVICE THREADS [compiled]

FOLDER holds `vlm/config.json`, `sizes.json` and `inputs.safetensors`. Makes the policy with random weights (or those
of `model.safetensors` there), saves weights and the actions of the given noise, then prints the seconds of one
`predict_action_chunk` for every line on the standard input. Its tokenizer is not needed: ids are given.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import lerobot
import numpy as np
import torch
import transformers
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from safetensors.torch import load_file, save_file


def make_policy(folder: Path, device: str, compiled: bool) -> SmolVLAPolicy:
    sizes = json.loads((folder / "sizes.json").read_text())
    tokenizer = SimpleNamespace(fake_image_token_id=0, global_image_token_id=0)
    smolvlm_with_expert.AutoProcessor = SimpleNamespace(from_pretrained=lambda *_: SimpleNamespace(tokenizer=tokenizer))
    side, bodies = sizes["image"], sizes["room"]
    features = {f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, side, side)) for c in sizes["cameras"]}
    config = SmolVLAConfig(
        input_features={**features, "observation.state": PolicyFeature(FeatureType.STATE, (bodies,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (bodies,))},
        chunk_size=sizes["chunk"],
        n_action_steps=sizes["chunk"],
        max_state_dim=bodies,
        max_action_dim=bodies,
        resize_imgs_with_padding=(side, side),
        num_steps=sizes["steps"],
        num_vlm_layers=sizes["depth"],
        expert_width_multiplier=sizes["expert"],
        self_attn_every_n_layers=sizes["alternate"],
        vlm_model_name=str(folder / "vlm"),
        device=device,
        compile_model=compiled,
    )
    torch.manual_seed(0)
    policy = SmolVLAPolicy(config)
    weights = folder / "model.safetensors"
    if weights.exists():
        policy.load_state_dict(load_file(weights))
    else:
        # What training would have moved away from one and zero, so that a norm or a bias left out would show.
        for name, value in policy.named_parameters():
            if value.ndim == 1:
                torch.nn.init.normal_(value, mean=float("norm" in name and "weight" in name), std=0.1)
        save_file({k: v.contiguous() for k, v in policy.state_dict().items()}, weights)
    # The projections around the transformer stay in single precision: its own code feeds them so.
    policy.model.vlm_with_expert.to(getattr(torch, sizes["dtype"]))
    return policy.to(device).eval()


def main() -> None:
    folder, device, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    compiled = sys.argv[4:] == ["compiled"]
    torch.set_num_threads(threads)
    policy = make_policy(folder, device, compiled)
    inputs = {k: v.to(device) for k, v in load_file(folder / "inputs.safetensors").items()}
    pixels = inputs["images"].permute(0, 1, 4, 2, 3).float() / 255
    names = [k for k in policy.config.input_features if "images" in k]
    batch = {
        **{name: pixels[:, i] for i, name in enumerate(names)},
        "observation.state": inputs["state"],
        "observation.language.tokens": inputs["ids"],
        "observation.language.attention_mask": inputs["mask"].bool(),
    }
    noise = inputs["noise"]

    def call() -> torch.Tensor:
        return policy.predict_action_chunk(dict(batch), noise=noise)

    def seconds() -> float:
        begin = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    begin = time.perf_counter()
    actions = call()
    first = time.perf_counter() - begin
    np.save(folder / ("compiled.npy" if compiled else "eager.npy"), actions.float().cpu().numpy())
    mode = f"compiled ({policy.config.compile_mode}, first call {first:.0f} s)" if compiled else "eager"
    print(
        f"peer: lerobot {lerobot.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {mode}"
    )
    sys.stdout.flush()
    for _ in sys.stdin:
        print(f"peer: {seconds()}", flush=True)


if __name__ == "__main__":
    main()
