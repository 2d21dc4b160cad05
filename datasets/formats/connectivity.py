"""Matterport viewpoint graphs: `connectivity/<scan>_connectivity.json` and `scans.txt` (Matterport3D simulator).

Layout, a JSON list whose positions number the viewpoints:

    image_id: str          pose: 16 floats, row-major 4×4 camera to world, z up [m]
    included: bool         visible: [bool]*N     unobstructed: [bool]*N     height: float, camera above the floor [m]

Two included viewpoints are joined where `unobstructed` holds. A folder of such files, one file, or a tar archive of a
folder is read; archives are read in memory and never unpacked.
"""

from __future__ import annotations

import io
import math
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...vla.errors import DataError
from ...vla.navigation import NavigationError, ViewpointGraph
from .fields import WRITTEN, Fields, distinct, wrong
from .jsonfile import MAX_BYTES, dumps, lines_of, parse, read_bytes, write_bytes

SUFFIX = "_connectivity.json"
SCANS = "scans.txt"
_KNOWN = ("image_id", "pose", "included", "visible", "unobstructed", "height")


def load(path: Path | str) -> dict[str, ViewpointGraph]:
    """The graphs of a folder, of one file, or of a tar archive, by scan, in the order of `scans.txt` or of the names.

    Raises:
        DataError: nothing is there, `scans.txt` names a scan without a file, or a file is broken: with file, item,
            field and expected type.
    """
    path = Path(path)
    files = _files(path)
    graphs: dict[str, ViewpointGraph] = {}
    found = {Path(name).name.removesuffix(SUFFIX): name for name in sorted(files) if name.endswith(SUFFIX)}
    if not found:
        raise DataError(
            f"{path} holds no viewpoint graph", expected=f"files named <scan>{SUFFIX}", exists=sorted(files)[:12]
        )
    listed = next((lines_of(_text(data, name)) for name, data in files.items() if Path(name).name == SCANS), None)
    order = list(listed or found)
    for scan in order + sorted(found.keys() - set(order)):
        if scan not in found:
            raise DataError(f"{path}: {SCANS} names a scan without a graph", expected=scan + SUFFIX, exists=found)
        graphs[scan] = load_graph(scan, files[found[scan]], found[scan])
    return graphs


def load_graph(scan: str, data: bytes, place: str) -> ViewpointGraph:
    """The graph that the text of one file says; `place` names it in errors."""
    rows = parse(data, place)
    if type(rows) is not list:
        raise wrong(place, "", "a list of viewpoints", rows)
    nodes = [_Node(Fields(row, f"{place}, item {i}"), len(rows)) for i, row in enumerate(rows)]
    n = len(nodes)
    try:
        return ViewpointGraph(
            scan,
            tuple(node.id for node in nodes),
            np.array([node.pose for node in nodes], np.float64).reshape(n, 4, 4),
            np.array([node.height for node in nodes], np.float64),
            np.array([node.included for node in nodes], bool),
            np.array([node.visible for node in nodes], bool).reshape(n, n),
            np.array([node.unobstructed for node in nodes], bool).reshape(n, n),
            tuple(node.extra for node in nodes),
        )
    except NavigationError as error:
        raise DataError(f"{place}: {error.what}", expected=error.expected, got=error.got) from error


def save(folder: Path | str, graphs: Mapping[str, ViewpointGraph] | Iterable[ViewpointGraph]) -> None:
    """Write `<scan>_connectivity.json` for each graph, then `scans.txt` with the scans in the order given.

    Raises:
        DataError: a scan stands twice, is kept under another name, or cannot be a file's name.
    """
    folder = Path(folder)
    for name, graph in graphs.items() if isinstance(graphs, Mapping) else ():
        if name != graph.scan:
            raise DataError("A graph is kept under another scan's name", expected=graph.scan, got=str(name))
    graphs = list(graphs.values() if isinstance(graphs, Mapping) else graphs)
    scans = [graph.scan for graph in graphs]
    distinct(scans, scans, "scan")
    for scan in scans:
        if not scan.strip() or scan != scan.strip() or scan.startswith(".") or set(scan) & set("/\\\n\r\0"):
            raise DataError("A scan's id has to be a file's name", got=repr(scan))
    texts = [to_json(graph).encode() for graph in graphs]
    for scan, text in zip(scans, texts, strict=True):
        write_bytes(folder / f"{scan}{SUFFIX}", text)
    write_bytes(folder / SCANS, "".join(f"{scan}\n" for scan in scans).encode())


def to_json(graph: ViewpointGraph) -> str:
    """The text of one graph's file."""
    rows: list[dict[str, Any]] = []
    visible, unobstructed = graph.visible.tolist(), graph.unobstructed.tolist()
    poses = graph.poses.reshape(len(graph.ids), 16).tolist()
    for i, name in enumerate(graph.ids):
        row: dict[str, Any] = {"image_id": name, "pose": [_short(v) for v in poses[i]]}
        row |= {"included": bool(graph.included[i]), "visible": visible[i], "unobstructed": unobstructed[i]}
        row["height"] = _short(float(graph.height[i]))
        extra = graph.extras[i] if graph.extras else {}
        row |= {k: v for k, v in extra.items() if k != WRITTEN}
        order: tuple[str, ...] = extra.get(WRITTEN, ())
        rows.append({k: row[k] for k in order if k in row} | row)
    return dumps(rows, compact=True)


def _short(value: float) -> float:
    """Zeros and ones of a pose as the original files have them, 0 and 1."""
    return int(value) if value.is_integer() and (value or math.copysign(1, value) > 0) else value


class _Node:
    """The fields of one viewpoint."""

    def __init__(self, item: Fields, count: int) -> None:
        self.id = item.text("image_id")
        self.pose = item.numbers("pose", 16)
        self.included = item.boolean("included")
        self.visible = _row(item, "visible", count)
        self.unobstructed = _row(item, "unobstructed", count)
        self.height = item.number("height")
        self.extra: dict[str, Any] = item.rest(_KNOWN)
        if list(item.value) != [*_KNOWN, *self.extra]:
            self.extra[WRITTEN] = tuple(item.value)


def _row(item: Fields, name: str, count: int) -> list[bool]:
    row = item.list(name, count)
    if not all(type(v) is bool for v in row):
        raise item.wrong(name, f"a list of {count} truth values")
    return row


def _files(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        names = [p for p in sorted(path.iterdir()) if p.name.endswith(SUFFIX) or p.name == SCANS]
        return {str(p): read_bytes(p) for p in names}
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _unpacked(path)
    if not path.name.endswith((SUFFIX, SUFFIX + ".gz")):
        raise DataError(f"{path} is no viewpoint graph", expected=f"a folder, a tar archive, or a file <scan>{SUFFIX}")
    return {str(path).removesuffix(".gz"): read_bytes(path)}


def _unpacked(path: Path) -> dict[str, bytes]:
    """The graphs and `scans.txt` of a tar archive, wherever they lie in it."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(read_bytes(path))) as archive:
            for member in archive:
                name = Path(member.name).name
                if member.isfile() and (name.endswith(SUFFIX) or name == SCANS):
                    data = archive.extractfile(member)
                    assert data is not None
                    files[f"{path}:{member.name}"] = data.read(MAX_BYTES)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} cannot be read", expected="a tar archive", got=str(error)) from error
    return files


def _text(data: bytes, place: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is not UTF-8", got=str(error)) from error
