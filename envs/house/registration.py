"""Gymnasium ids of the houses: `wayhand/HouseVLN-v0`, `wayhand/HousePointNav-v0`, `wayhand/HouseObjectNav-v0`."""

from __future__ import annotations

import gymnasium as gym

_ENTRY = "wayhand.envs.house.navigation:HouseNavigation"


def register() -> None:
    """Register every id; importing `wayhand.envs` calls it. Safe to call twice."""
    for name, task in (("VLN", "vln"), ("PointNav", "pointnav"), ("ObjectNav", "objectnav")):
        if f"wayhand/House{name}-v0" not in gym.registry:
            gym.register(id=f"wayhand/House{name}-v0", entry_point=_ENTRY, kwargs={"task": task})
