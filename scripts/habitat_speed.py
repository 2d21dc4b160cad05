"""How fast habitat-sim steps inside its own Python: started there, so it imports on Python 3.9 with numpy alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from ..envs.habitat_simulator import MOVES, HabitatSimulator
from ..envs.navigation_state import NavSimulator


def steps_per_second(simulator: NavSimulator, begin: Sequence[Any], moves: Sequence[str]) -> float:
    """Steps per second of these moves, after as many that only warm up."""
    simulator.begin(*begin)
    for move in moves:
        simulator.step(move)
    simulator.begin(*begin)
    start = time.perf_counter()
    for move in moves:
        simulator.step(move)
    return len(moves) / (time.perf_counter() - start)


def tell(arguments: dict[str, Any], begin: Sequence[Any], moves: Sequence[str]) -> None:
    """Print as the last line, JSON, the rates of a `HabitatSimulator` and of habitat-sim's own step."""
    simulator = HabitatSimulator(**arguments)
    rate = steps_per_second(simulator, begin, moves)
    simulator.begin(*begin)
    native = simulator.native
    start = time.perf_counter()
    for move in moves:
        native.step(MOVES[move])
    own = len(moves) / (time.perf_counter() - start)
    simulator.close()
    print("\n" + json.dumps({"habitat": own, "habitat_as_environment": rate}))
