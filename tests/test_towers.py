"""Laws of every vision tower: tokens where the grid says, the same alone or in a batch, whatever the pixels' size."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import Tensor, nn

from wayhand.scripts.compose import CONF
from wayhand.vla.backbones import VisionTower
from wayhand.vla.backbones.towers.compress import AveragePooled, PixelShuffled, TokenLearned
from wayhand.vla.backbones.towers.conv import ConvNetTower
from wayhand.vla.backbones.towers.depth import DepthTower
from wayhand.vla.backbones.towers.efficientnet import EfficientNetTower
from wayhand.vla.backbones.towers.fused import FusedTower
from wayhand.vla.backbones.towers.pixels import Pixels
from wayhand.vla.backbones.towers.raw import RawPatches
from wayhand.vla.backbones.towers.tiled import TiledTower
from wayhand.vla.backbones.towers.views import Views
from wayhand.vla.backbones.towers.vit import ViT, patches
from wayhand.vla.config import Config, instantiate
from wayhand.vla.errors import ConfigError, SpecError

TINY = sorted(p.stem for p in (CONF / "vision").glob("*_tiny.yaml"))


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def recipe(name: str) -> Config:
    return Config(yaml.safe_load((CONF / "vision" / f"{name}.yaml").read_text()))


def tiny(name: str) -> VisionTower:
    torch.manual_seed(0)
    tower = instantiate(recipe(name))
    assert isinstance(tower, VisionTower)
    return tower.eval()


def small(**more: int) -> ViT:
    torch.manual_seed(0)
    return ViT(width=16, depth=1, heads=2, patch=8, **more).eval()


# --- one suite for all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", [(32, 32), (32, 64)])
def test_the_grid_counts_the_tokens(name: str, size: tuple[int, int]) -> None:
    tower = tiny(name)
    rows, columns = tower.grid(*size)
    tokens = tower(pixels(2, *size))
    assert tokens.shape == (2, rows * columns, tower.width)
    assert tokens.isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_an_image_is_seen_alike_alone_and_among_others(name: str) -> None:
    tower, images = tiny(name), pixels(3, 32, 32)
    torch.testing.assert_close(tower(images)[1:2], tower(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_different_images_give_different_tokens(name: str) -> None:
    a, b = tiny(name)(pixels(2, 32, 32))
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("name", TINY)
def test_weights_saved_and_loaded_see_the_same(name: str) -> None:
    one, images = tiny(name), pixels(1, 32, 32)
    torch.manual_seed(1)
    other = instantiate(recipe(name)).eval()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(images), other(images))


@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_a_tower_unless_it_is_frozen(name: str) -> None:
    tower = tiny(name).train()
    learned = [p for p in tower.parameters() if p.requires_grad]
    tokens = tower(pixels(2, 32, 32))
    assert tokens.requires_grad == bool(learned)
    if learned:
        tokens.square().mean().backward()
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in learned)


def test_what_is_no_colour_image_of_bytes_is_refused() -> None:
    for wrong in (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1, 32, 32, 3), pixels(32, 32)):
        with pytest.raises(SpecError, match="uint8 \\[B h w 3\\]"):
            small()(wrong)


# --- pixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad", "corner"])
@pytest.mark.parametrize("size", [(20, 20), (16, 40), (40, 16)])
def test_every_fit_gives_the_square(fit: str, size: tuple[int, int]) -> None:
    made = Pixels(size=24, fit=fit)(pixels(1, *size))  # pyright: ignore[reportArgumentType]
    assert made.shape == (1, 3, 24, 24)


def test_padding_is_black_or_the_mean() -> None:
    white = torch.full((1, 10, 20, 3), 255, dtype=torch.uint8)
    centred = Pixels(size=20, fit="pad")(white)
    assert torch.equal(centred[0, 0, :, 7], torch.tensor([-1.0] * 5 + [1.0] * 10 + [-1.0] * 5))
    corner = Pixels(size=20, fit="corner")(white)
    assert torch.equal(corner[0, 0, :, 7], torch.tensor([1.0] * 10 + [0.0] * 10))


def test_a_budget_keeps_the_aspect_and_whole_patches() -> None:
    prepare = Pixels(size=64, fit="budget", patch=8)
    for height, width in ((30, 30), (30, 90), (200, 50), (7, 400)):
        tall, wide = prepare.shape(height, width)
        assert tall % 8 == 0 and wide % 8 == 0 and (tall // 8) * (wide // 8) <= 64
        assert prepare(pixels(1, height, width)).shape == (1, 3, tall, wide)
    assert prepare.shape(30, 30) == (64, 64)


# --- trained from nothing --------------------------------------------------------------------------------------


def test_patches_hold_what_the_image_holds() -> None:
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    cut = patches(x, 2)
    assert cut.shape == (2, 6, 12)
    assert cut[1, 4].tolist() == x[1, :, 2:4, 2:4].permute(1, 2, 0).flatten().tolist()


def test_a_transformer_refuses_parts_of_patches() -> None:
    with pytest.raises(SpecError, match="divisible by 8"):
        small()(pixels(1, 30, 32))
    assert small(size=32)(pixels(1, 30, 50)).shape == (1, 16, 16)


@pytest.mark.parametrize("height", [31, 32, 37, 48])
def test_a_convolution_reads_any_size(height: int) -> None:
    tower = ConvNetTower(channels=(8, 16), depths=(1, 0), layers=0)
    rows, columns = tower.grid(height, 40)
    assert tower(pixels(1, height, 40)).shape == (1, rows * columns, 16)


def test_a_convolution_sees_alike_in_training_and_acting() -> None:
    tower, images = ConvNetTower(channels=(8, 16), depths=(1, 1), layers=1), pixels(2, 32, 32)
    assert torch.equal(tower.train()(images), tower.eval()(images))


def test_an_image_moved_by_a_token_moves_the_tokens_of_a_convolution() -> None:
    torch.manual_seed(0)
    tower = ConvNetTower(channels=(8,), depths=(1,), layers=0)
    # Group norm looks at the whole image, so the frame around what moves must stay of one colour.
    image = torch.full((1, 64, 64, 3), 90, dtype=torch.uint8)
    image[:, 16:28, 16:28] = pixels(1, 12, 12)
    moved = image.roll((4, 8), (1, 2))
    before, after = (tower(x).unflatten(1, (16, 16)) for x in (image, moved))
    torch.testing.assert_close(after[:, 4:9, 5:10], before[:, 3:8, 3:8], rtol=1e-4, atol=1e-4)


def test_malformed_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="width 18"):
        ViT(width=18, heads=3)
    with pytest.raises(ConfigError, match="multiples of 8"):
        ConvNetTower(channels=(12,), depths=(1,))
    with pytest.raises(ConfigError, match="channels and a depth"):
        ConvNetTower(channels=(8, 16), depths=(1,))


# --- fused and compressed --------------------------------------------------------------------------------------


def test_a_fusion_joins_channels_of_one_place() -> None:
    a, b = small(), small()
    fused, images = FusedTower(towers=[a, b]), pixels(2, 32, 48)
    assert torch.equal(fused(images), torch.cat([a(images), b(images)], -1))
    with pytest.raises(ConfigError, match="4×6, 2×3"):
        FusedTower(towers=[small(), ViT(width=16, depth=1, heads=2, patch=16)])(images)


def test_averages_over_whole_cells_are_means() -> None:
    inner, images = small(), pixels(1, 32, 64)
    x = inner(images).unflatten(1, (2, 2, 2, 4))
    torch.testing.assert_close(AveragePooled(tower=inner, cells=2)(images), x.mean((2, 4)).flatten(1, 2))


def test_shuffled_tokens_are_the_same_numbers() -> None:
    inner, images = small(), pixels(1, 32, 64)
    shuffled = PixelShuffled(tower=inner, factor=2)(images)
    assert shuffled.shape == (1, 8, 64)
    square = inner(images).unflatten(1, (4, 8))[:, 2:4, 4:6]
    assert torch.equal(shuffled.unflatten(1, (2, 4))[0, 1, 2], square.flatten())
    with pytest.raises(SpecError, match="divisible by 2"):
        PixelShuffled(tower=inner, factor=2)(pixels(1, 24, 32))


def test_a_learned_token_is_a_mean_of_tokens_it_weighs() -> None:
    inner, images = small(), pixels(1, 32, 32)
    learned = TokenLearned(tower=inner, count=3)
    nn.init.zeros_(learned.maps[-1].weight)
    torch.testing.assert_close(learned(images), inner(images).mean(1, keepdim=True).expand(-1, 3, -1))


# --- instructions ----------------------------------------------------------------------------------------------


def modulated(**more: bool) -> EfficientNetTower:
    torch.manual_seed(0)
    return EfficientNetTower(wide=0.1, deep=0.1, condition=4, width=8, **more).eval()


def test_modulation_starts_as_the_identity_and_then_matters() -> None:
    tower, images, told = modulated(), pixels(2, 64, 64), torch.randn(2, 4)
    plain = tower(images)
    assert torch.equal(tower.conditioned(images, told), plain)
    nn.init.normal_(tower.films[3].project.weight)
    assert not torch.allclose(tower.conditioned(images, told), plain)
    assert torch.equal(tower(images), plain)


def test_a_frozen_network_is_modulated_but_not_changed() -> None:
    tower = modulated(frozen=True).train()
    before = {k: v.clone() for k, v in tower.network.state_dict().items()}
    tower.conditioned(pixels(2, 64, 64), torch.randn(2, 4)).square().mean().backward()
    assert all(torch.equal(v, before[k]) for k, v in tower.network.state_dict().items())
    assert all(p.grad is None for p in tower.network.parameters())
    assert tower.films[0].project.bias.grad is not None


def test_compression_passes_the_instruction_on() -> None:
    tower, images, told = modulated(), pixels(1, 64, 64), torch.randn(1, 4)
    nn.init.normal_(tower.films[3].project.weight)
    few = AveragePooled(tower=tower, cells=1)
    torch.testing.assert_close(few.conditioned(images, told), tower.conditioned(images, told).mean(1, keepdim=True))
    with pytest.raises(ConfigError, match="takes no instruction"):
        AveragePooled(tower=small(), cells=1).conditioned(images, told)
    with pytest.raises(ConfigError, match="condition=4"):
        EfficientNetTower(wide=0.1, deep=0.1).conditioned(images, told)


# --- tiles -----------------------------------------------------------------------------------------------------


def test_tiles_put_together_are_the_image() -> None:
    tower = TiledTower(tower=small(), tile=16, layouts=((2, 2), (1, 2)))
    image = pixels(1, 16, 32)
    tiles = tower.tiles(image)
    assert tower.layout(16, 32) == (1, 2)
    assert torch.equal(torch.cat(list(tiles[0, 1:]), 1), image[0])


def test_rows_that_saw_padding_alone_are_left_out() -> None:
    tower = TiledTower(tower=small(), tile=16, layouts=((2, 2),), newline=False)
    assert tower.grid(32, 32) == (1, 4 + 16)
    assert tower.grid(16, 32) == (1, 4 + 2 * 4)
    assert tower(pixels(1, 16, 32)).shape == (1, 12, 16)


# --- depth -----------------------------------------------------------------------------------------------------


def test_depth_becomes_ordered_levels_and_what_is_unseen_nothing() -> None:
    tower = DepthTower(tower=small(), near=0.1, far=10.0)
    metres = torch.tensor([0.01, 0.1, 0.5, 2.0, 10.0, 50.0, 0.0, -1.0, float("nan"), float("inf")]).view(1, 1, -1)
    levels = tower.channels(metres)[0, 0]
    assert levels[:6, 2].tolist() == [255] * 6 and not levels[6:].any()
    assert levels[0].tolist() == levels[1].tolist() == [255, 255, 255]
    assert levels[4].tolist() == levels[5].tolist() == [0, 0, 255]
    assert (levels[1:5, :2].int().diff(dim=0) < 0).all()


def test_depth_is_read_by_any_tower() -> None:
    tower = DepthTower(tower=small())
    assert tower(torch.rand(2, 32, 48) * 5).shape == (2, 24, 16)
    assert tower.grid(32, 48) == (4, 6)
    with pytest.raises(SpecError, match="metres"):
        tower(torch.zeros(2, 32, 48, dtype=torch.int32))


# --- several views ---------------------------------------------------------------------------------------------


def test_views_stand_in_order_and_the_newest_frame_does_not_depend_on_older_ones() -> None:
    views = Views(tower=small(), cameras=("front", "wrist"))
    front, wrist = pixels(2, 3, 32, 32), pixels(2, 16, 16, seed=1)
    tokens = views({"wrist": wrist, "front": front})
    assert tokens.values.shape == (2, 3 * 16 + 4, 16) and tokens.mask.all()
    newest = views({"front": front[:, -1]}).values
    torch.testing.assert_close(tokens.values[:, 32:48], newest)
    older = views({"front": front[:, :1].expand(-1, 3, -1, -1, -1)}).values.unflatten(1, (3, 16))
    assert (older[:, 0] - older[:, 2]).abs().max() > 0.1


def test_a_camera_nobody_announced_is_named() -> None:
    with pytest.raises(SpecError, match="front"):
        Views(tower=small(), cameras=("front",))({"back": pixels(1, 16, 16)})


def test_raw_patches_have_no_weights() -> None:
    tower = RawPatches(patch=8)
    assert not list(tower.parameters()) and tower.width == 192
    assert tower(torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)).eq(1).all()
