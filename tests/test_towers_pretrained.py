"""Golden parity: what transformers saves, a tower reads with the same pixels and the same features to 1e-5."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wayhand.vla.backbones.towers.clip import CLIPTower
from wayhand.vla.backbones.towers.compress import PixelShuffled
from wayhand.vla.backbones.towers.dino import DINOv2Tower, DINOv3Tower
from wayhand.vla.backbones.towers.efficientnet import EfficientNet, EfficientNetTower, load_in_order
from wayhand.vla.backbones.towers.pretrained import PretrainedTower
from wayhand.vla.backbones.towers.raw import RawPatches
from wayhand.vla.backbones.towers.resnet import ResNetTower
from wayhand.vla.backbones.towers.sam import SAMTower
from wayhand.vla.backbones.towers.siglip import SigLIP2Tower, SigLIPTower
from wayhand.vla.backbones.towers.tiled import TiledTower
from wayhand.vla.backbones.towers.weights import lite0_weights, read_pinned
from wayhand.vla.errors import ConfigError, CorruptDataError

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, patch_size=8, image_size=32
)
CLIP = {**SIZES, "projection_dim": 16}
PIL = {"do_resize": True, "do_rescale": True, "do_normalize": True}


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def picture(height: int, width: int) -> Tensor:
    """Smooth as a photograph is: on noise, filters that round between the two axes differ by several levels."""
    coarse = pixels(1, 5, 5).permute(0, 3, 1, 2).float()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def saved(model: Any, folder: Path, processor: Any = None) -> Any:
    """The model with weights large enough to tell layers apart, saved as transformers saves it."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.2 if p.ndim > 1 else 0.05) + ("norm" in name and name.endswith("weight")))
    model.eval().save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return model


def processed(processor: Any, images: Tensor) -> Tensor:
    """Pixels as the reference processor, on Pillow and NumPy, prepares them."""
    made = processor(
        images=[np.asarray(image) for image in images], return_tensors="pt", input_data_format="channels_last"
    )
    return made["pixel_values"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()


# --- vision transformers ---------------------------------------------------------------------------------------


def family(name: str, folder: Path) -> tuple[Any, PretrainedTower, Any, int]:
    """A saved model, the tower that read it, its reference processor and how many tokens precede the patches."""
    t = transformers
    if name == "clip":
        processor = t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        model = t.CLIPVisionModel(t.CLIPVisionConfig(**CLIP))
        return saved(model, folder, processor), CLIPTower(path=str(folder)), processor, 1
    if name == "siglip":
        processor = t.SiglipImageProcessorPil(size={"height": 32, "width": 32})
        model = t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES))
        return saved(model, folder, processor), SigLIPTower(path=str(folder)), processor, 0
    normal = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    if name.startswith("dinov2"):
        processor = t.BitImageProcessorPil(
            size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, resample=3, **normal
        )
        if name == "dinov2":
            model = t.Dinov2Model(t.Dinov2Config(**SIZES))
        else:
            model = t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3))
        return saved(model, folder, processor), DINOv2Tower(path=str(folder)), processor, 1 + 3 * (name != "dinov2")
    # DINOv3's own processor needs torchvision; on an image of the right size it scales and normalises as this one.
    processor = t.ViTImageProcessorPil(size={"height": 32, "width": 32}, **normal)
    model = t.DINOv3ViTModel(t.DINOv3ViTConfig(**SIZES, num_register_tokens=2))
    return saved(model, folder), DINOv3Tower(path=str(folder)), processor, 3


FAMILIES = ["clip", "siglip", "dinov2", "dinov2_registers", "dinov3"]


@pytest.mark.parametrize("name", FAMILIES)
def test_features_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    model, tower, processor, leading = family(name, tmp_path)
    side = 36 if name.startswith("dinov2") else 32
    images = pixels(2, side, side)
    prepared = processed(processor, images)
    close(tower.pixels(images), prepared)
    with torch.no_grad():
        out = model(prepared, output_hidden_states=True)
    close(tower(images), out.last_hidden_state[:, leading:])
    cls: Any = type(tower)
    for layer in (-2, 0, 2):
        early = cls(path=str(tmp_path), layer=layer)
        close(early(images), out.hidden_states[layer][:, leading:])
        assert len(early.state_dict()) < len(tower.state_dict()) or layer == 2
    if leading:
        whole = cls(path=str(tmp_path), cls=True)
        close(whole(images)[:, 0], out.last_hidden_state[:, 0])
        assert whole.grid(side, side) == (1, 17) and whole(images).shape == (2, 17, 32)


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2"])
@pytest.mark.parametrize("size", [(48, 64), (20, 32), (53, 41)])
def test_images_of_other_sizes_are_prepared_as_the_processor_does(
    name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    _, tower, processor, _ = family(name, tmp_path)
    images = picture(*size)
    levels = (tower.pixels(images) - processed(processor, images)) * tower.pixels.std * 255
    assert levels.abs().max() < 2.01 and levels.abs().mean() < 0.25


@pytest.mark.parametrize("size", [(40, 56), (64, 64), (24, 90)])
def test_native_aspect_equals_siglip2(size: tuple[int, int], tmp_path: Path) -> None:
    t = transformers
    config = t.Siglip2VisionConfig(**{k: v for k, v in SIZES.items() if k != "image_size"}, num_patches=49)
    processor = t.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=49)
    model = saved(t.Siglip2VisionModel(config), tmp_path, processor)
    tower = SigLIP2Tower(path=str(tmp_path))
    rows, columns = tower.grid(*size)
    right = pixels(2, 8 * rows, 8 * columns)
    inputs = processor(images=[np.asarray(i) for i in right], return_tensors="pt", input_data_format="channels_last")
    assert inputs["spatial_shapes"].tolist() == [[rows, columns]] * 2
    with torch.no_grad():
        wanted = model(**inputs).last_hidden_state[:, : rows * columns]
    close(tower(right), wanted)
    assert tower(pixels(1, *size)).shape == (1, rows * columns, 32)
    theirs = processor(images=[np.asarray(pixels(*size))], return_tensors="pt", input_data_format="channels_last")
    assert theirs["spatial_shapes"].tolist() == [[rows, columns]]


def test_a_tower_reads_the_vision_half_of_a_whole_model(tmp_path: Path) -> None:
    t = transformers
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    images = pixels(1, 32, 32)
    whole = saved(t.CLIPModel(t.CLIPConfig(vision_config=CLIP, text_config=text)), tmp_path / "clip")
    tower = CLIPTower(path=str(tmp_path / "clip"))
    with torch.no_grad():
        close(tower(images), whole.vision_model(tower.pixels(images)).last_hidden_state[:, 1:])
    whole = saved(t.SiglipModel(t.SiglipConfig(vision_config=SIZES, text_config=text)), tmp_path / "siglip")
    tower = SigLIPTower(path=str(tmp_path / "siglip"))
    with torch.no_grad():
        close(tower(images), whole.vision_model(tower.pixels(images)).last_hidden_state)


def test_another_resolution_interpolates_positions_as_transformers_does(tmp_path: Path) -> None:
    t = transformers
    model = saved(t.SiglipVisionModel(t.SiglipVisionConfig(**SIZES)), tmp_path)
    tower, images = SigLIPTower(path=str(tmp_path), size=48), pixels(1, 48, 48)
    with torch.no_grad():
        wanted = model(tower.pixels(images), interpolate_pos_encoding=True).last_hidden_state
    close(tower(images), wanted)
    assert tower.grid(100, 60) == (6, 6)


# --- convolutions and dense features ---------------------------------------------------------------------------

RESNET: dict[str, Any] = dict(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1])


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_resnet_features_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    t = transformers
    model = saved(t.ResNetModel(t.ResNetConfig(**RESNET, layer_type=kind)), tmp_path)
    images = pixels(2, 50, 64)
    for stage in (2, 4):
        tower = ResNetTower(path=str(tmp_path), stage=stage)
        with torch.no_grad():
            wanted = model(tower.pixels(images), output_hidden_states=True).hidden_states[stage]
        close(tower(images), wanted.flatten(2).transpose(1, 2))
        assert tower.grid(50, 64) == tuple(wanted.shape[2:])


def test_statistics_stay_unless_they_are_to_be_estimated() -> None:
    images = pixels(2, 32, 32)
    for norm, changes in (("frozen", False), ("batch", True)):
        tower = ResNetTower(config=RESNET, norm=norm).train()
        before = {k: v.clone() for k, v in tower.state_dict().items() if "running" in k}
        tower(images)
        assert before and changes != all(torch.equal(tower.state_dict()[k], v) for k, v in before.items())
    assert not any("running" in k for k in ResNetTower(config=RESNET, norm="group").state_dict())


def test_dense_features_equal_those_of_sam(tmp_path: Path) -> None:
    t = transformers
    vision = dict(
        hidden_size=16, output_channels=8, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        window_size=2, global_attn_indexes=[1], mlp_dim=24,
    )  # fmt: skip
    processor = t.SamImageProcessorPil(size={"longest_edge": 32}, pad_size={"height": 32, "width": 32})
    model = saved(t.SamVisionModel(t.SamVisionConfig(**vision)), tmp_path, processor)
    tower, images = SAMTower(path=str(tmp_path)), pixels(2, 24, 32)
    prepared = processed(processor, images)
    close(tower.pixels(images), prepared)
    with torch.no_grad():
        close(tower(images), model(prepared).last_hidden_state.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(("wide", "deep"), [(0.5, 1.0), (1.2, 1.4)])
def test_efficientnet_equals_transformers(wide: float, deep: float) -> None:
    t = transformers
    torch.manual_seed(0)
    config = t.EfficientNetConfig(width_coefficient=wide, depth_coefficient=deep, hidden_dim=rounded_head(wide))
    model = t.EfficientNetModel(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.02, 0.05)
    tower = EfficientNetTower(wide=wide, deep=deep).eval()
    load_in_order(tower.network, dict(model.state_dict()))
    images = pixels(1, 64, 64)
    with torch.no_grad():
        wanted = model(tower.pixels(images)).last_hidden_state.flatten(2).transpose(1, 2)
        assert wanted.std() > 1e-3
        close(tower(images), wanted)


def rounded_head(wide: float) -> int:
    return {0.5: 640, 1.2: 1536}[wide]


def test_a_file_of_another_network_is_named() -> None:
    network = EfficientNet(wide=0.1, deep=0.1, lite=True)
    with pytest.raises(ConfigError, match="another network"):
        load_in_order(network, dict(EfficientNet(wide=0.2, deep=0.1, lite=True).state_dict()))
    with pytest.raises(ConfigError, match="Lite0 fit no other"):
        EfficientNetTower(weights="lite0")


def test_a_file_is_read_only_if_its_hash_is_known(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"stem": torch.ones(2), "_fc.weight": torch.ones(3)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert list(read_pinned(file, digest)) == ["stem"]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CorruptDataError, match=digest):
        read_pinned(file, digest)


def test_imagenet_weights_name_the_classes_of_pictures() -> None:
    try:
        weights = lite0_weights()
    except ConfigError as error:
        pytest.skip(str(error.what))
    tower = EfficientNetTower(lite=True, weights="lite0", frozen=True)
    assert tower(pixels(1, 64, 64)).shape == (1, 4, 1280) and len(weights) > 200


# --- tiles, patches, shuffles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (40, 70), (90, 30), (64, 64), (33, 100)])
def test_tiles_equal_those_of_llava_next(size: tuple[int, int]) -> None:
    t = transformers
    pinpoints = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
    processor = t.LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints
    )
    images = picture(*size)
    inner = CLIPTower(config=CLIP)
    tower = TiledTower(tower=inner, tile=32)
    wanted = processed(processor, images)[0]
    mine = inner.pixels(tower.tiles(images)[0])
    assert mine.shape == wanted.shape
    assert ((mine - wanted) * inner.pixels.std * 255).abs().max() < 1.01

    text = dict(model_type="llama", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
                vocab_size=9)  # fmt: skip
    vision = dict(CLIP, model_type="clip_vision_model")
    config = t.LlavaNextConfig(vision_config=vision, text_config=text, image_grid_pinpoints=pinpoints)
    packer = t.LlavaNextModel(config)
    with torch.no_grad():
        features = inner(tower.tiles(images)[0])
        packed, _ = packer.pack_image_features([features], torch.tensor([size]), "default", tower.newline)
        close(tower(images)[0], packed[0])


def test_raw_patches_are_those_of_fuyu() -> None:
    processor = transformers.FuyuImageProcessorPil(patch_size={"height": 8, "width": 8})
    images = pixels(2, 24, 16)
    tower = RawPatches(patch=8)
    wanted = processor.patchify_image(tower.pixels(images).numpy())
    np.testing.assert_allclose(tower(images).numpy(), np.asarray(wanted).reshape(2, 6, 192), atol=1e-6)


def test_shuffled_tokens_are_those_of_idefics3() -> None:
    from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

    inner, images = SigLIPTower(config=SIZES), pixels(2, 32, 32)
    wanted = Idefics3Connector.pixel_shuffle(None, inner(images), 2)  # pyright: ignore[reportArgumentType]
    assert torch.equal(PixelShuffled(tower=inner, factor=2)(images), wanted)


# --- what is refused -------------------------------------------------------------------------------------------


def test_either_weights_or_a_configuration() -> None:
    with pytest.raises(ConfigError, match="neither"):
        SigLIPTower()
    with pytest.raises(ConfigError, match="both"):
        SigLIPTower(path="x", config=SIZES)
    with pytest.raises(ConfigError, match="no such layer"):
        SigLIPTower(config=SIZES, layer=5)
    with pytest.raises(ConfigError, match="no class token"):
        SigLIPTower(config=SIZES, cls=True)


def test_a_configuration_cannot_name_code() -> None:
    for key, value in (("auto_map", {"AutoModel": "x.Y"}), ("_attn_implementation_internal", "someone/kernel")):
        with pytest.raises(ConfigError, match=key):
            SigLIPTower(config={**SIZES, key: value})


def test_a_pickle_beside_the_weights_is_refused_by_name(tmp_path: Path) -> None:
    saved(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES)), tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="pytorch_model.bin"):
        SigLIPTower(path=str(tmp_path))


def test_a_processor_no_tower_follows_is_refused(tmp_path: Path) -> None:
    saved(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES)), tmp_path)
    for said, named in (({"resample": 0}, "filter"), ({"rescale_factor": 1.0}, "1/255")):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
        with pytest.raises(ConfigError, match=named):
            SigLIPTower(path=str(tmp_path))


def test_a_frozen_tower_stays_frozen_in_training_and_a_trained_one_learns() -> None:
    config, images = {**SIZES, "attention_dropout": 0.5}, pixels(1, 32, 32)
    frozen = SigLIPTower(config=config).train()
    assert torch.equal(frozen(images), frozen(images)) and not frozen(images).requires_grad
    trained = SigLIPTower(config=config, frozen=False).train()
    assert not torch.equal(trained(images), trained(images))
    trained(images).sum().backward()
    assert trained.model.embeddings.patch_embedding.weight.grad is not None
