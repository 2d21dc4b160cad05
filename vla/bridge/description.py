"""Descriptions of robots, URDF and MJCF, from people we do not know: XML that reaches no further than its folder."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import ConfigError

LARGEST = 32 << 20
"""Bytes of a description."""
PARTS = 400_000
"""Elements and attributes of a description: each costs far more memory than its bytes."""
FILES = 64
"""Descriptions that include or attach one another."""
NAMED = 20_000
"""Files that a description may name, times the folders that it may mean."""
COPIES = 100_000
"""Product of all counts of a description."""
PIXELS = 1 << 26
"""Of all its textures and height fields."""
_FOLDERS = ("meshdir", "texturedir", "assetdir")
_SIDES = {"texture": ("width", "height"), "hfield": ("nrow", "ncol")}
_COUNTED = ("replicate", "composite", "flexcomp")


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
    if (parts := raw.count(b"<") + raw.count(b"=")) > PARTS:
        raise ConfigError("A robot description has too many parts", expected=f"at most {PARTS}", got=f"{parts}: {path}")
    try:
        return ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"This is not {kind} file", got=f"{path}: {error}") from error


def compile_mjcf(path: Path | str) -> Any:
    """The `mujoco.MjModel` of an MJCF file whose meshes, textures, includes and attached models lie in its folder or
    below.

    MuJoCo itself refuses meshes whose headers promise more than their files hold.

    Raises `ConfigError` for a file that MuJoCo cannot compile, that declares entities, that names one elsewhere, or
    that asks for more than a robot needs.
    """
    import mujoco

    path = Path(path)
    _check(path)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ConfigError(f"{path} is not an MJCF file", got=str(error)) from error


def _check(path: Path) -> None:
    """Raise a `ConfigError` where a description reaches for what is not its own, or for too much."""
    reach = _Reach(path.parent)
    reach.read(path, ())
    reach.follow_links(path)


class _Reach:
    """What a description and those that it includes or attaches reach for.

    MuJoCo looks for a file beside the descriptions that lead to it, in folders that any of them may set. So no name
    and no folder may lead upwards, nor may a link that one of them could mean.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._real = root, root.resolve()
        self._bases, self._folders = {root}, {""}
        self._names: set[str] = set()
        self._files, self._copies, self._pixels = 0, 1, 0

    def read(self, path: Path, outer: tuple[Path, ...]) -> None:
        """Take in `path`, to which those of `outer` led, and all that it leads to."""
        self._files += 1
        if path in outer or self._files > FILES:
            raise ConfigError("A robot description includes itself, or too many others", got=str(path))
        tree = parse_xml(path, "an MJCF")
        self._measure(tree, path)
        folders = {value for element in tree.iter("compiler") for key in _FOLDERS if (value := element.get(key))}
        named = {(element.tag, v) for element in tree.iter() for k, v in element.attrib.items() if k.startswith("file")}
        names = {name for _, name in named}
        for name in sorted(folders | names):
            if name.startswith("/") or ".." in name.split("/"):
                raise _outside(path, self._root, name)
        self._bases.add(path.parent)
        self._folders |= folders
        self._names |= names
        bases = {description.parent for description in (*outer, path)}
        for name in sorted(name for tag, name in named if tag in ("include", "model")):
            for file in sorted(base / name for base in bases):
                if file.is_file():
                    self._require_inside(file, name, path)
                    self.read(file, (*outer, path))

    def follow_links(self, path: Path) -> None:
        """Every file that could be meant lies below the root, behind links too, and holds no more than it may."""
        places = {base / folder for base in self._bases for folder in self._folders}
        if len(places) * len(self._names) > NAMED:
            raise ConfigError("A robot description names too many files", got=f"{len(self._names)}: {path}")
        for file in {self._require_inside(place / name, name, path) for place in places for name in self._names}:
            self._pixels += _pixels_of(file)
        self._require_little(path)

    def _require_inside(self, file: Path, name: str, path: Path) -> Path:
        real = file.resolve()
        if not real.is_relative_to(self._real):
            raise _outside(path, self._root, name)
        return real

    def _measure(self, tree: ElementTree.Element, path: Path) -> None:
        """Few bytes that stand for many bodies, numbers or pixels."""
        for element in tree.iter():
            if element.tag in _COUNTED:
                self._copies *= _product(element.get("count", "1"), path)
            elif element.tag == "size":
                numbers = [value for key, value in element.attrib.items() if key != "memory"]
                self._copies = max([self._copies, *(_product(number, path) for number in numbers)])
            elif element.tag in _SIDES:
                self._pixels += _product(" ".join(element.get(side, "1") for side in _SIDES[element.tag]), path)
        self._require_little(path)

    def _require_little(self, path: Path) -> None:
        if self._copies > COPIES or self._pixels > PIXELS:
            raise ConfigError(
                "A robot description asks for too much",
                expected=f"at most {COPIES} copies and {PIXELS} pixels",
                got=f"{self._copies} and {self._pixels}: {path}",
            )


def _pixels_of(file: Path) -> int:
    """Of a PNG by its header; 0 where it is none."""
    if not file.is_file():
        return 0
    with file.open("rb") as stream:
        head = stream.read(24)
    return math.prod(struct.unpack(">2I", head[16:])) if head.startswith(b"\x89PNG") and len(head) == 24 else 0


def _product(numbers: str, path: Path) -> int:
    """Of whole numbers, those below 1 taken for 1."""
    try:
        return math.prod(max(int(float(number)), 1) for number in numbers.split())
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path} is not an MJCF file", got=numbers[:80]) from error


def _outside(path: Path, root: Path, name: str) -> ConfigError:
    return ConfigError(
        f"{path} names a file outside its folder", expected=f"a file below {root}", got=name,
        run="copy what the robot needs into the folder of its MJCF",
    )  # fmt: skip
