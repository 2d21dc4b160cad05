"""Changes to a robot's file that leave the rest of it, comments included, as its owner wrote it."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import ConfigError
from ..limit_files import read_toml
from .robot_file import RobotFile

Value = float | int | str | Sequence[float]
_HEADER = re.compile(r"^\s*\[(?!\[)(?P<name>[^\]]+)\]\s*(#.*)?$")


def update(path: Path, changes: Mapping[tuple[str, ...], Mapping[str, Value]]) -> None:
    """Set the keys of tables, `("cameras", "front") → {"fx": 610.0}`, and replace the file in one step.

    Raises `ConfigError`, and changes nothing, where the new file would not say just that, or would be no robot's file:
    values over several lines and tables written in line are the owner's to change.
    """
    before, text = read_toml(path), path.read_text(encoding="utf-8")
    for table, values in changes.items():
        text = _edited(text, table, values)
        node = before
        for key in table:
            node = node.setdefault(key, {})
        node.update({k: list(v) if isinstance(v, (list, tuple)) else v for k, v in values.items()})
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        after = None
    if after != before:
        tables = ", ".join(".".join(table) for table in changes)
        raise ConfigError(f"{path} is written in a way that cannot be edited here", got=tables, run="edit it by hand")
    _replace(path, text)


def _edited(text: str, table: tuple[str, ...], values: Mapping[str, Value]) -> str:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if _names(line) == table), None)
    if start is None:
        lines += ["", f"[{'.'.join(map(_key, table))}]"]
        start = len(lines) - 1
    end = next((i for i in range(start + 1, len(lines)) if _names(lines[i]) is not None), len(lines))
    while end > start + 1 and not lines[end - 1].strip():
        end -= 1
    for key, value in values.items():
        pattern = re.compile(rf"^(\s*)(?:{re.escape(key)}|\"{re.escape(key)}\")\s*=\s*[^#]*?(\s*#.*)?$")
        for i in range(start + 1, end):
            if found := pattern.match(lines[i]):
                lines[i] = f"{found.group(1)}{_key(key)} = {_literal(value)}{found.group(2) or ''}"
                break
        else:
            lines.insert(end, f"{_key(key)} = {_literal(value)}")
            end += 1
    return "\n".join(lines) + "\n"


def _names(line: str) -> tuple[str, ...] | None:
    """The name of the table that a line begins, or None."""
    found = _HEADER.match(line)
    if found is None:
        return None if not line.lstrip().startswith("[[") else ()
    try:
        node = tomllib.loads(f"[{found.group('name')}]")
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while node:
        ((name, node),) = node.items()
        names.append(name)
    return tuple(names)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return repr(value)


def _replace(path: Path, text: str) -> None:
    """Write beside it, judge it, put it in its place: whoever reads sees the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    temporary = Path(name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        RobotFile.load(temporary)
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
