"""Paths of a viewpoint graph as VLN-CE has them: on the floor, with a run that follows them (Krantz et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...datasets.formats.vlnce_runs import GroundTruth
from ...envs.house.house import House
from ...envs.house.navmesh import NavMesh
from ...envs.house.simulator import HouseSimulator
from ...envs.navigation_spec import NavBody
from ...envs.shortest_follower import Follower, blocked
from ...vla.navigation import Goal, NavEpisode, ViewpointGraph

MOVES = {"stop": 0, "forward": 1, "left": 2, "right": 3}
MOST_MOVES = 500
BODY = NavBody(sensors=())
"""VLN-CE's agent; following a known path it needs no camera."""

Walk = tuple[NavEpisode, GroundTruth]


class Floor:
    """The floor of one house, for many paths."""

    def __init__(self, house: House, graph: ViewpointGraph) -> None:
        self._graph, self._scan = graph, house.scan
        self._simulator = HouseSimulator({house.scan: house}, BODY)
        self._mesh = self._simulator.mesh(house.scan)

    def walk(self, episode: NavEpisode) -> Walk | None:
        """The episode on the floor with its reference run; None where a body cannot follow the path in 500 moves."""
        corners = [_point(self._graph, self._mesh, v) for v in episode.path]
        distance = self._mesh.geodesic(corners[0], corners[-1])
        run = self._run(episode.heading, corners)
        if run is None or not math.isfinite(distance):
            return None
        on_floor = NavEpisode(
            episode.id,
            episode.scan,
            episode.instructions,
            heading=episode.heading,
            start=corners[0],
            reference=tuple(corners),
            goals=(Goal(corners[-1], radius=3.0),),
            distance=distance,
        )
        return on_floor, run

    def _run(self, heading: float, corners: Sequence[tuple[float, float, float]]) -> GroundTruth | None:
        """A run through all corners in turn."""
        simulator = self._simulator
        state = simulator.begin(self._scan, corners[0], heading, [corners[-1]])
        locations, actions = [state.position], list[int]()
        for n, corner in enumerate(corners[1:], 2):
            follower = Follower(BODY, 0.25 if n == len(corners) else 0.5)
            stuck = False
            while True:
                way = simulator.path(corner)
                apart = sum(math.dist(a, b) for a, b in zip(way, way[1:], strict=False)) if len(way) else math.inf
                move = follower.move(way, state.heading, apart, stuck)
                if move == "stop":
                    break
                if len(actions) == MOST_MOVES - 1:
                    return None
                before, state = state, simulator.step(move, render=False)
                stuck = move == "forward" and blocked(before.position, state.position)
                actions.append(MOVES[move])
                if move == "forward":
                    locations.append(state.position)
        actions.append(MOVES["stop"])
        return GroundTruth(tuple(locations), actions.count(MOVES["forward"]), tuple(actions))


def _point(graph: ViewpointGraph, mesh: NavMesh, viewpoint: str) -> tuple[float, float, float]:
    """The free floor point nearest to a viewpoint, to a tenth of a millimetre."""
    row = graph.index(viewpoint)
    x, y, z = (float(v) for v in graph.positions[row])
    x, y, z = mesh.snap((x, y, z - float(graph.height[row])))
    return round(x, 4), round(y, 4), round(z, 4)
