"""Gymnasium ids of the tabletop: `wayhand/TabletopReach-v0` … and `wayhand/TabletopSuite-v0` with six tasks."""

from __future__ import annotations

import gymnasium as gym

_SUITE = ("reach", "push", "pick", "place", "stack", "open")
_ENTRY = "wayhand.envs.tabletop.env:TabletopEnv"


def register() -> None:
    """Register every id; importing `wayhand.envs` calls it. Safe to call twice."""
    for name, tasks in {**{t.title(): (t,) for t in (*_SUITE, "press")}, "Suite": _SUITE}.items():
        # The entry point already stands for the namespace: inside it Gymnasium refuses a name that repeats it.
        if f"wayhand/Tabletop{name}-v0" not in gym.registry:
            gym.register(id=f"wayhand/Tabletop{name}-v0", entry_point=_ENTRY, kwargs={"tasks": tasks})
