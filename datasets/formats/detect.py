"""Which format a file is in, told from what it holds rather than from its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...vla.errors import DataError
from .connectivity import SUFFIX
from .jsonfile import is_lines, parse, read_bytes

FORMATS = ("connectivity", "habitat", "r2r", "reverie", "rxr", "soon", "vlnce")


def detect(path: Path | str) -> str:
    """The module that reads a file of annotations, results, ground truth or graphs: one of `FORMATS`.

    R2R's result items are those of REVERIE without an object, and count as R2R's.

    Raises:
        DataError: the file cannot be read, is empty, or looks like none of them.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        if any(name.endswith(SUFFIX) for name in names):
            return "connectivity"
        raise DataError(f"{path} holds no viewpoint graphs", expected=f"files <scan>{SUFFIX}", exists=names[:10])
    if path.name.endswith((".tar", ".tgz", ".tar.gz")):
        return "connectivity"
    value = _first(path)
    found = _of_file(value) if isinstance(value, dict) and not is_lines(path) else None
    found = found or (_of_item(value) if isinstance(value, dict) else None)
    if found is None:
        keys = sorted(value)[:12] if isinstance(value, dict) else []
        raise DataError(
            f"{path} is in no format known here", expected="a file of " + ", ".join(FORMATS), got=f"the fields {keys}"
        )
    return found


def _first(path: Path) -> Any:
    """The first item of a list or of JSON lines, or the whole of a JSON object."""
    data = read_bytes(path)
    line = data.lstrip().split(b"\n", 1)
    if is_lines(path) or (len(line) == 2 and line[0].rstrip().endswith(b"}") and line[1].lstrip()[:1] == b"{"):
        return parse(line[0], f"{path}, line 1")
    value = parse(data, str(path))
    if isinstance(value, list):
        return value[0] if value else None
    return value


def _of_file(top: dict[str, Any]) -> str | None:
    """The format of a file that is one object."""
    if isinstance(top.get("episodes"), list):
        first = top["episodes"][0] if top["episodes"] else {}
        spoken = isinstance(first, dict) and "instruction" in first
        return "vlnce" if spoken or "instruction_vocab" in top else "habitat"
    value = next(iter(top.values()), None)
    if isinstance(value, dict) and {"locations", "actions"} <= value.keys():
        return "vlnce"
    step = value[0] if isinstance(value, list) and value else None
    return "vlnce" if isinstance(step, dict) and {"position", "stop"} <= step.keys() else None


def _of_item(item: dict[str, Any]) -> str | None:
    """The format of a file that is a list of such items."""
    has = item.keys()
    if {"image_id", "unobstructed"} <= has:
        return "connectivity"
    if {"instruction_id", "path"} <= has:
        points = isinstance(item["path"], list) and item["path"] and isinstance(item["path"][0], list)
        return "vlnce" if points else "rxr"
    if {"instr_id", "trajectory"} <= has:
        if isinstance(item["trajectory"], dict):
            return "soon"
        return "reverie" if has & {"predObjId", "pred_objid"} else "r2r"
    if "instructions" not in has:
        return None
    told = item["instructions"]
    if "bboxes" in has or (isinstance(told, list) and told and not isinstance(told[0], str)):
        return "soon"
    if "objId" in has or "id" in has:
        return "reverie"
    return "r2r" if "path_id" in has else None
