"""Objects of annotation files: fields asked for by type, unknown ones kept, and each written back as it came.

A format gives two functions that mirror each other: `decode` makes an episode of an object and `encode` an object of
an episode. Where `encode(decode(item))` differs from `item` (an id that was text, a key order, a rotation that says
the same heading in other numbers), `remember` keeps the difference in `extra` and `restore` puts it back, as long as
the kept value still says what the episode says.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ...vla.errors import DataError

WRITTEN = "(as written)"
AROUND = "(around)"
Vector = tuple[float, float, float]
T = TypeVar("T")
_MISSING = object()


class Fields:
    """One JSON object whose fields are asked for by type.

    Args:
        value: what the file holds there; anything but an object is an error.
        place: how errors name it, for example "FILE, item 3".
        path: the field it is in, for example "goals[0].", empty at the top.
    """

    __slots__ = ("path", "place", "value")

    def __init__(self, value: Any, place: str, path: str = "") -> None:
        if type(value) is not dict:
            raise wrong(place, path.rstrip("."), "an object", value)
        self.value: dict[str, Any] = value
        self.place = place
        self.path = path

    def wrong(self, name: str, expected: str) -> DataError:
        """The error that says a field is not what it has to be."""
        if name not in self.value:
            return DataError(
                f"{self.place}: field '{self.path}{name}' is missing", expected=expected, exists=tuple(self.value)
            )
        return wrong(self.place, self.path + name, expected, self.value[name])

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.value.get(name) is not None

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if type(value) is not str:
            raise self.wrong(name, "text")
        return value

    def id(self, name: str) -> str:
        """An id, which files write as an integer or as text."""
        value = self.value.get(name)
        if type(value) is str:
            return value
        if type(value) is not int:
            raise self.wrong(name, "an integer or text")
        return str(value)

    def number(self, name: str, *, finite: bool = True) -> float:
        value = self.value.get(name)
        kind = type(value)
        if (kind is not float and kind is not int) or (finite and not math.isfinite(value)):  # pyright: ignore
            raise self.wrong(name, "a finite number" if finite else "a number")
        return value  # pyright: ignore

    def integer(self, name: str) -> int:
        value = self.value.get(name)
        if type(value) is not int:
            raise self.wrong(name, "an integer")
        return value

    def boolean(self, name: str) -> bool:
        value = self.value.get(name)
        if type(value) is not bool:
            raise self.wrong(name, "true or false")
        return value

    def list(self, name: str, length: int | None = None) -> list[Any]:
        value = self.value.get(name)
        if type(value) is not list or (length is not None and len(value) != length):
            raise self.wrong(name, "a list" if length is None else f"a list of {length}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.list(name)
        if not all(type(v) is str for v in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def integers(self, name: str) -> tuple[int, ...]:
        value = self.list(name)
        if not all(type(v) is int for v in value):
            raise self.wrong(name, "a list of integers")
        return tuple(value)

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        value = self.value.get(name)
        if not is_numbers(value, length):
            raise self.wrong(name, f"a list of {length} finite numbers")
        return tuple(value)  # pyright: ignore

    def point(self, name: str) -> Vector:
        """[x y z] in Habitat's y-up axes, as a point in ours."""
        value = self.value.get(name)
        if not is_numbers(value, 3):
            raise self.wrong(name, "a list of 3 finite numbers")
        x, y, z = value  # pyright: ignore
        return (x, -z, y)

    def points(self, name: str) -> tuple[Vector, ...]:
        """A list of [x y z] in Habitat's y-up axes, as points in ours."""
        value = self.list(name)
        for i, row in enumerate(value):
            if not is_numbers(row, 3):
                raise wrong(self.place, f"{self.path}{name}[{i}]", "a list of 3 finite numbers", row)
        return tuple([(x, -z, y) for x, y, z in value])

    def object(self, name: str) -> Fields:
        value = self.value.get(name)
        if type(value) is not dict:
            raise self.wrong(name, "an object")
        return Fields(value, self.place, f"{self.path}{name}.")

    def objects(self, name: str) -> list[Fields]:
        return [Fields(v, self.place, f"{self.path}{name}[{i}].") for i, v in enumerate(self.list(name))]

    def rest(self, known: Collection[str]) -> dict[str, Any]:
        """The fields that are not `known`, in the file's order."""
        for reserved in (WRITTEN, AROUND):
            if reserved in self.value:
                raise self.wrong(reserved, "another name: this one is reserved")
        return {k: v for k, v in self.value.items() if k not in known}


def wrong(place: str, name: str, expected: str, got: Any) -> DataError:
    """The error that says what stands at `place` instead of `expected`."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "text",
        int: "an integer",
        float: "a number",
        bool: "a truth value",
    }
    shown = repr(got) if len(repr(got)[:81]) <= 80 else repr(got)[:77] + "…"
    what = f"{place}: field '{name}' has the wrong type or form" if name else f"{place} has the wrong type"
    return DataError(what, expected=expected, got=f"{kinds.get(type(got), 'null')}: {shown}")


def is_numbers(value: Any, length: int) -> bool:
    """Whether `value` is a list of so many finite numbers (truth values are none)."""
    if type(value) is not list or len(value) != length:
        return False
    return all((type(v) is float or type(v) is int) and math.isfinite(v) for v in value)


def to_habitat(point: Sequence[float]) -> list[float]:
    """A point of ours in Habitat's y-up axes; `Fields.point` undoes it exactly."""
    x, y, z = point
    return [x, z, -y]


def as_number(name: str) -> int | str:
    """The integer that `name` spells in its usual form, else the text itself."""
    try:
        number = int(name)
    except ValueError:
        return name
    return number if str(number) == name else name


@dataclass(frozen=True)
class Written:
    """How an object stood in its file where `encode` alone would write it differently.

    Args:
        form: the format of that file; other formats do not look at this.
        values: fields with their values in the file.
        absent: fields that the file leaves out.
        order: all keys in the file's order, None where it is the usual one.
    """

    form: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    order: tuple[str, ...] | None = None


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are written alike: types, key order and the sign of zero count."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is list:
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    if type(a) is float:
        return repr(a) == repr(b)
    return a == b


def remember(form: str, item: dict[str, Any], plain: dict[str, Any], *, keep: Collection[str] = ()) -> dict[str, Any]:
    """What to add to `extra` so that `restore` gives `item` where `encode` gives `plain`; nothing where they agree.

    Fields in `keep` are kept even so.
    """
    values = {k: v for k, v in item.items() if k in keep or k not in plain or not same(v, plain[k])}
    absent = frozenset(plain.keys() - item.keys())
    usual = [k for k in plain if k not in absent] + [k for k in item if k not in plain]
    order = None if usual == list(item) else tuple(item)
    return {WRITTEN: Written(form, values, absent, order)} if values or absent or order else {}


def decoded(
    form: str, rows: Iterable[tuple[str, Any]], decode: Callable[[Fields], T], encode: Callable[[T], dict[str, Any]]
) -> list[T]:
    """The dataclass of each (place, object) of a file, with what `restore` needs to write it as it came."""
    values = [(row, decode(Fields(row, place))) for place, row in rows]
    return [with_extra(value, remember(form, row, encode(value))) for row, value in values]


def restore(
    form: str, value: T, encode: Callable[[T], dict[str, Any]], decode: Callable[[dict[str, Any]], T]
) -> dict[str, Any]:
    """The object of a file that says `value`, written as it came as far as that still says the same.

    `value` is a dataclass with `extra`. A kept field that no longer decodes to what `value` holds gives way.
    """
    plain = encode(value)
    written: Written | None = value.extra.get(WRITTEN)  # pyright: ignore
    if written is None or written.form != form:
        return plain
    bare = without(value, WRITTEN, AROUND)
    made = _arranged(plain, written.values, written.absent, written.order)
    if _says(decode, made, bare):
        return made
    values: dict[str, Any] = {}
    absent: frozenset[str] = frozenset()
    for name, kept in written.values.items():
        if _says(decode, _arranged(plain, values | {name: kept}, absent, None), bare):
            values[name] = kept
    for name in sorted(written.absent):
        if _says(decode, _arranged(plain, values, absent | {name}, None), bare):
            absent |= {name}
    return _arranged(plain, values, absent, written.order)


def _arranged(
    plain: dict[str, Any], values: Mapping[str, Any], absent: frozenset[str], order: tuple[str, ...] | None
) -> dict[str, Any]:
    made = {k: v for k, v in {**plain, **values}.items() if k not in absent}
    if order is None:
        return made
    ordered = {k: made[k] for k in order if k in made}
    return ordered | {k: v for k, v in made.items() if k not in ordered}


def _says(decode: Callable[[dict[str, Any]], T], item: dict[str, Any], value: T) -> bool:
    try:
        return decode(item) == value
    except DataError:
        return False


def kept(form: str, extra: Mapping[str, Any], name: str) -> Any:
    """How a field stood in its file, None where nothing about it was kept."""
    written: Written | None = extra.get(WRITTEN)
    return written.values.get(name) if written and written.form == form else None


def without(value: T, *names: str) -> T:
    """A copy of a dataclass whose `extra` lacks `names`."""
    extra: Mapping[str, Any] = value.extra  # pyright: ignore
    return dataclasses.replace(value, extra={k: v for k, v in extra.items() if k not in names})  # pyright: ignore


def with_extra(value: T, more: Mapping[str, Any]) -> T:
    """A copy of a dataclass whose `extra` holds `more` as well; itself where there is nothing to add."""
    return dataclasses.replace(value, extra={**value.extra, **more}) if more else value  # pyright: ignore


def unknown(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a file in `extra`, without what is kept there about writing them."""
    return {k: v for k, v in extra.items() if k not in (WRITTEN, AROUND)}


def distinct(ids: Sequence[str], places: Sequence[str], name: str) -> None:
    """Raises `DataError` where an id stands twice, with both places."""
    if len(set(ids)) == len(ids):
        return
    first: dict[str, str] = {}
    for one, place in zip(ids, places, strict=True):
        if one in first:
            raise DataError(
                f"{place}: {name} '{one}' was used before", expected="each once", got=f"also in {first[one]}"
            )
        first[one] = place
