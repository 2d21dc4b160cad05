"""How a pretrained model wants its images, as the library that saved it writes it down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from .pixels import HALF, Fit, Resample


@dataclass(frozen=True)
class Preparation:
    """What a tower does to images before the network; the fields are those of `Pixels`."""

    size: int | None
    fit: Fit
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    edge: int | None = None
    resample: Resample = "bicubic"


def prepared(folder: Path, default: Preparation) -> Preparation:
    """What `preprocessor_config.json` in a model folder says, over the family's defaults.

    Raises `ConfigError` for a filter or a scale that no tower applies.
    """
    said = read_json(folder / "preprocessor_config.json")
    if abs(said.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ConfigError("A tower scales pixels by 1/255", got=f"rescale_factor {said['rescale_factor']} in {folder}")
    how = replace(
        default,
        mean=tuple(said.get("image_mean") or default.mean),
        std=tuple(said.get("image_std") or default.std),
        resample=_filter(said["resample"]) if said.get("resample") is not None else default.resample,
    )
    if not said.get("do_resize", True):
        return replace(how, size=None)
    if "max_num_patches" in said:
        return replace(how, size=round(said["max_num_patches"] ** 0.5 * said.get("patch_size", 16)), fit="budget")
    size = _sides(said.get("size"))
    if said.get("do_center_crop", default.fit == "crop") and "crop_size" in said:
        crop = _sides(said["crop_size"])
        side = crop.get("height", crop.get("shortest_edge"))
        return replace(how, size=side, edge=size.get("shortest_edge", size.get("height", side)), fit="crop")
    if "height" in size:
        return replace(how, size=size["height"], edge=None, fit="stretch")
    if "longest_edge" in size and "shortest_edge" not in size:
        return replace(how, size=size["longest_edge"], edge=None)
    return how


def read_json(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file, empty where there is none."""
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def _sides(size: Any) -> dict[str, int]:
    """A size, which older files write as one number: the shortest edge."""
    if isinstance(size, Mapping):
        return {str(k): int(v) for k, v in size.items() if v is not None}
    return {} if size is None else {"shortest_edge": int(size)}


def _filter(number: int) -> Resample:
    """Pillow's number of a filter, as transformers writes it."""
    names: dict[int, Resample] = {2: "bilinear", 3: "bicubic"}
    if number not in names:
        raise ConfigError("No tower resizes with this filter", expected="2 (bilinear), 3 (bicubic)", got=str(number))
    return names[number]
