"""The floors and flights of a house as polygons: layers to move on, flat sheets to measure on, and where they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from scipy import ndimage
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from .geodesic import PORTAL_SPACING, Sheet
from .house import House, Stairs
from .outline import MAX_ERROR, polygons
from .solids import solids
from .voxels import CELL, Grid, Raster, flight_outline, rasterise

Portal = tuple[int, int, np.ndarray]
"""Two sheets and the points [n 2] in which they meet."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A storey with the flights that begin or end there, in plan.

    Args:
        free: where the agent's centre may be.
        floor: height of the storey [m].
        sheet: number of its floor among the sheets.
        ramps: the west, south, east and north end of each flight, and the number of its sheet.
        clearance: float32 [rows columns], from anywhere in a cell the nearest wall is at least this far [m].
        cells: bool [rows columns], the raster behind `free`.
    """

    free: BaseGeometry
    floor: float
    sheet: int
    ramps: tuple[tuple[float, float, float, float, int], ...]
    clearance: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True, eq=False)
class Floors:
    """What `build` returns; `portals` join the sheets."""

    grid: Grid
    layers: tuple[Layer, ...]
    sheets: tuple[Sheet, ...]
    portals: tuple[Portal, ...]


def build(house: House, radius: float, height: float) -> Floors:
    """The free space of a house for an agent of `radius` and `height` [m]."""
    grid, rasters = rasterise(house, solids(house), radius=radius, height=height)
    layers: list[Layer] = []
    sheets: list[Sheet] = []
    frees = [_indoors(house, r.storey, polygons(r.cells, grid.west, grid.north, CELL)) for r in rasters]
    outlines = {s.id: Polygon(flight_outline(s)) for s in house.stairs}
    ramps = {s.id: len(rasters) + n for n, s in enumerate(house.stairs)}
    for k, (raster, free) in enumerate(zip(rasters, frees, strict=True)):
        own = [s.id for s in house.stairs if min(abs(s.bottom - raster.floor), abs(s.top - raster.floor)) < 1e-3]
        flat = _polygonal(shapely.difference(free, shapely.union_all([outlines[n] for n in own])))
        sheets.append(Sheet(flat, (0.0, 0.0), (0.0, 0.0), raster.floor))
        boxes = tuple((*(float(v) for v in outlines[n].bounds), ramps[n]) for n in own)
        layers.append(Layer(free, raster.floor, k, boxes, _clearance(raster.cells), raster.cells))  # type: ignore[arg-type]
    for flight in house.stairs:
        # Each storey's raster ends where the flight meets the other one, and the body changes over half way up.
        ends = zip((flight.bottom, flight.top), _halves(flight), strict=True)
        halves = [shapely.intersection(frees[_nearest_floor(rasters, z)], half) for z, half in ends]
        sheets.append(_ramp(flight, _polygonal(shapely.union_all(halves))))
    return Floors(grid, tuple(layers), tuple(sheets), tuple(_portals(layers, sheets)))


def _indoors(house: House, storey: int, parts: Sequence[Polygon]) -> BaseGeometry:
    """The free parts that reach into a room of the storey; roofs are walkable too, but nothing leads there."""
    rooms = shapely.union_all([Polygon(r.polygon) for r in house.rooms if r.storey == storey])
    return shapely.union_all([p for p in parts if p.intersection(rooms).area > 0.1])


def _clearance(cells: np.ndarray) -> np.ndarray:
    reach = np.asarray(ndimage.distance_transform_edt(np.pad(cells, 1)))[1:-1, 1:-1]
    # Outlines leave the cells by their error, walls begin half a cell before the next centre, and a point leaves the
    # centre of its own cell by half a diagonal.
    return ((reach - MAX_ERROR - 0.5 - math.sqrt(0.5)) * CELL).astype(np.float32)


def _polygonal(geometry: BaseGeometry) -> BaseGeometry:
    # What is left of the far end of a flight beyond its outline is a sliver and no floor.
    return MultiPolygon([p for p in shapely.get_parts(geometry) if isinstance(p, Polygon) and p.area > 0.1])


def _nearest_floor(rasters: Sequence[Raster], height: float) -> int:
    return min(range(len(rasters)), key=lambda k: abs(rasters[k].floor - height))


def _halves(flight: Stairs) -> tuple[Polygon, Polygon]:
    """The lower and the upper half of a flight in plan."""
    a, b = np.array(flight.start), np.array(flight.end)
    whole = flight_outline(flight)
    shift = (b - a) / 2
    lower = np.stack([whole[0], whole[1] - shift, whole[2] - shift, whole[3]])
    return Polygon(lower), Polygon(lower + shift)


def _ramp(flight: Stairs, free: BaseGeometry) -> Sheet:
    (ax, ay), (bx, by) = flight.start, flight.end
    run = (bx - ax) ** 2 + (by - ay) ** 2
    rise = flight.top - flight.bottom
    return Sheet(free, (ax, ay), (rise * (bx - ax) / run, rise * (by - ay) / run), flight.bottom)


def _portals(layers: Sequence[Layer], sheets: Sequence[Sheet]) -> list[Portal]:
    found: list[Portal] = []
    for layer in layers:
        floor = sheets[layer.sheet]
        for *_, number in layer.ramps:
            ramp = sheets[int(number)]
            line = shapely.intersection(ramp.free.boundary, shapely.buffer(layer.free, -1e-4))
            for part in shapely.get_parts(line):
                at = np.append(np.arange(0.0, part.length, PORTAL_SPACING), part.length)
                points = shapely.get_coordinates(shapely.line_interpolate_point(part, at))
                # Beside a flight both surfaces touch in plan without being level with each other.
                level = np.abs(ramp.lift(points)[:, 2] - layer.floor) < 0.15
                points = points[level & shapely.contains_properly(floor.grown, shapely.points(points))]
                if len(points):
                    found.append((layer.sheet, int(number), points))
    return found
