"""Views of houses become features: rendered, labelled for the tower to learn from, and encoded into the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.features import FeatureCache, source_of
from ...envs.atlas import VIEWS, view_angles
from ...envs.house.house import House
from ...envs.house.labels import LABELS, ViewLabels
from ...envs.house.renderer import HouseRenderer
from ...vla import checkpoint
from ...vla.backbones.views import ViewTower
from ...vla.config import Config, instantiate
from ...vla.learning.loop import Settings, fit
from .data import World, pool, shown


@dataclass(frozen=True)
class Lens:
    """How views are taken: square pictures of `size` pixels and `hfov_deg` degrees."""

    size: int
    hfov_deg: float


class Painter:
    """Renders the 36 views of viewpoints; holds one renderer, to be closed."""

    def __init__(self, lens: Lens, sensors: tuple[str, ...]) -> None:
        self._renderer = HouseRenderer(lens.size, lens.size, lens.hfov_deg, sensors=sensors)
        self._loaded = ""

    def panoramas(self, house: House, positions: np.ndarray) -> Mapping[str, np.ndarray]:
        """Sensor → [n·36 …] for camera positions [n 3], the views of a viewpoint in MatterSim's order."""
        if house.digest != self._loaded:
            self._renderer.load(house)
            self._loaded = house.digest
        angles = np.tile(view_angles(), (len(positions), 1))
        return self._renderer.render(np.repeat(positions, VIEWS, 0), angles[:, 0], angles[:, 1])

    def close(self) -> None:
        self._renderer.close()


_painter: Painter | None = None
_tower: ViewTower | None = None


def _start(lens: Lens, sensors: tuple[str, ...], tower: Path | None) -> None:
    """Prepare a worker process; its renderer lives as long as it does."""
    global _painter, _tower
    _finish()
    torch.set_num_threads(1)
    _painter = Painter(lens, sensors)
    _tower = ViewTower.from_checkpoint(tower) if tower else None


def _finish() -> None:
    """Release the renderer of this process, if there is one."""
    global _painter
    if _painter is not None:
        _painter.close()
        _painter = None


def _labelled(task: tuple[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n h w 3] and labels bool [n 3 L] of one house's viewpoints."""
    assert _painter is not None
    house = House.from_json(task[0])
    seen = _painter.panoramas(house, task[1])
    return seen["rgb"], ViewLabels(house).visible(seen["semantics"])


def _encoded(task: tuple[str, np.ndarray]) -> np.ndarray:
    """Features float16 [n 36 D] of one house's viewpoints."""
    assert _painter is not None and _tower is not None
    images = _painter.panoramas(House.from_json(task[0]), task[1])["rgb"]
    with torch.inference_mode():
        parts = [_tower.encode(part) for part in torch.from_numpy(np.ascontiguousarray(images)).split(256)]
    return torch.cat(parts).numpy().astype(np.float16).reshape(len(task[1]), VIEWS, -1)


def tower(
    out: Path,
    recipe: Config,
    world: World,
    lens: Lens,
    settings: Settings,
    *,
    views: int,
    batch_size: int,
    workers: int,
) -> Path:
    """A tower taught on labelled views of training houses, in `out`; returns the folder."""
    resume = checkpoint.load(out) if checkpoint.steps(out) else None
    if resume is not None and resume.step >= settings.steps:
        return out
    images, visible = labelled(world, lens, views, settings.seed, workers)
    torch.manual_seed(settings.seed)
    module: ViewTower = instantiate(recipe, labels=LABELS)

    def draw(k: int, share: float) -> dict[str, Any]:
        index = np.random.default_rng([settings.seed, k]).integers(len(images), size=batch_size)
        return {"images": torch.from_numpy(images[index]), "visible": torch.from_numpy(visible[index]), "index": index}

    node = {**recipe.to_dict(), "labels": list(LABELS)}
    fit(module, draw, settings, out, recipe=node, config={"views": views, "lens": vars(lens)}, resume=resume)
    return out


def labelled(world: World, lens: Lens, views: int, seed: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """About `views` images uint8 [n h w 3] with labels bool [n 3 L], from viewpoints spread over all houses."""
    rng = np.random.default_rng([seed, 1])
    each = max(round(views / VIEWS / len(world.houses)), 1)
    scans = list(world.houses)[: max(views // VIEWS, 1)]
    tasks = []
    for scan in scans:
        positions = world.graphs[scan].positions
        chosen = rng.permutation(len(positions))[:each]
        tasks.append((world.houses[scan].to_json(), positions[chosen]))
    with pool(workers, _start, lens, ("rgb", "semantics"), None) as mapped:
        parts = list(shown(mapped(_labelled, tasks), len(tasks), "labelled views", "houses"))
    _finish()
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def features(folder: Path, tower_folder: Path, lens: Lens, world: World, workers: int) -> FeatureCache:
    """The cache, with every house of the split in it."""
    weights = checkpoint.load(tower_folder)
    digest = {p.name: p.stat().st_size for p in sorted(weights.path.iterdir())}
    sealed = (weights.path / checkpoint.MANIFEST).read_text(encoding="utf-8")
    cache = FeatureCache(folder, source_of({"tower": sealed, "files": digest, "lens": vars(lens)}))
    missing = [s for s, house in world.houses.items() if not cache.has(s, house.digest)]
    tasks = ((world.houses[s].to_json(), world.graphs[s].positions) for s in missing)
    if missing:
        with pool(workers, _start, lens, ("rgb",), tower_folder) as mapped:
            found = shown(mapped(_encoded, tasks), len(missing), "features", "houses")
            for scan, values in zip(missing, found, strict=True):
                cache.put(scan, world.houses[scan].digest, world.graphs[scan].ids, values)
        _finish()
    return cache
