"""Descriptions of robots, URDF and MJCF, from people we do not know: XML that reaches no further than its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import ConfigError

LARGEST = 32 << 20
"""Bytes of a description."""
DEEPEST = 16
"""Files that include one another."""
_FOLDERS = ("meshdir", "texturedir", "assetdir")


def checked(path: Path | str) -> Path:
    """`path`, of a file that is there and not too large; raises `ConfigError`."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError("There is no such robot description", got=str(path))
    if path.stat().st_size > LARGEST:
        raise ConfigError("A robot description is too large", expected=f"at most {LARGEST} bytes", got=str(path))
    return path


def parse_xml(path: Path | str, kind: str) -> ElementTree.Element:
    """The root of an XML file.

    Raises `ConfigError` for a file that is missing, too large or no XML, and for one that declares entities, which no
    robot needs and an attacker does. `kind` is for the message.
    """
    raw = checked(path).read_bytes()
    if b"\0" in raw:  # UTF-16, in which what follows would hide
        raise ConfigError("A robot description is UTF-8", got=str(path))
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise ConfigError("A robot description must not declare entities", got=str(path))
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"This is not {kind} file", got=f"{path}: {error}") from error


def compile_mjcf(path: Path | str) -> Any:
    """The `mujoco.MjModel` of an MJCF file whose meshes, textures and includes lie in its folder or below.

    MuJoCo itself refuses meshes whose headers promise more than their files hold.

    Raises `ConfigError` for a file that MuJoCo cannot compile, that declares entities, or that names one elsewhere.
    """
    import mujoco

    path = Path(path)
    _check(path, path.parent, 0)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ConfigError(f"{path} is not an MJCF file", got=str(error)) from error


def _check(path: Path, root: Path, depth: int) -> None:
    """Raise a `ConfigError` where `path` or what it includes names a file outside `root`."""
    if depth > DEEPEST:
        raise ConfigError("A robot description includes itself", got=str(path))
    tree = parse_xml(path, "an MJCF")
    folders = {"", *(value for element in tree.iter("compiler") for key in _FOLDERS if (value := element.get(key)))}
    for tag, name in _named(tree):
        for folder in sorted(folders):
            file = root / folder / name
            if not file.resolve().is_relative_to(root.resolve()):
                raise ConfigError(
                    f"{path} names a file outside its folder", expected=f"a file below {root}", got=name,
                    run="copy what the robot needs into the folder of its MJCF",
                )  # fmt: skip
            if tag == "include" and file.is_file():
                _check(file, root, depth + 1)


def _named(tree: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Tag and name of every file: `file`, and the six of a cube's faces."""
    for element in tree.iter():
        for key, value in element.attrib.items():
            if key.startswith("file"):
                yield element.tag, value
