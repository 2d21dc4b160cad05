"""Configuration: Hydra files and overrides in, frozen typed values out, objects built once at the edge.

The only file that imports Hydra or OmegaConf. A configuration is inert data: `${key}` references are resolved,
resolvers (`${name:…}`) are refused, and `_target_` can name nothing but a class of Wayhand or of an installed
package that declares the entry-point group `wayhand.plugins`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from .errors import ConfigError, did_you_mean

T = TypeVar("T")
TARGET = "_target_"
PARTIAL = "_partial_"
PLUGIN_GROUP = "wayhand.plugins"
_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")


class Config(Mapping[str, Any]):
    """A frozen nested mapping, read as `cfg.steps` or `cfg["steps"]`; lists in it are tuples."""

    __slots__ = ("_values",)
    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", {str(k): _freeze(v) for k, v in values.items()})

    def __getitem__(self, key: str) -> Any:
        try:
            return self._values[key]
        except KeyError:
            raise _unknown_key(key, self._values) from None

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return self[key]

    def __setattr__(self, key: str, value: object) -> None:
        raise ConfigError(f"A configuration is frozen; '{key}' cannot be set", run="compose a new one with an override")

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Config({self.to_dict()!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Config, (self.to_dict(),))

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars: what JSON can hold."""
        return {k: _thaw(v) for k, v in self._values.items()}


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Config(value)
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(v) for v in value)
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _thaw(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_thaw(v) for v in value]
    return value


def _unknown_key(key: str, exists: Iterable[str], where: str = "") -> ConfigError:
    names = sorted(str(n) for n in exists)
    close = did_you_mean(key, names)
    what = f"Unknown configuration key '{where}{key}'" + (f"; did you mean '{where}{close}'?" if close else "")
    return ConfigError(what, exists=names)


# --- composing -------------------------------------------------------------------------------------------------


def options(conf_dir: Path, group: str) -> list[str]:
    """Names that may follow `group=`: the YAML files under `conf_dir/group`, as paths without suffix."""
    root = conf_dir / group
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))


def compose(conf_dir: Path, name: str, overrides: Sequence[str] = ()) -> Config:
    """The primary file `conf_dir/name.yaml` with `overrides` (Hydra's grammar), resolved and frozen.

    An override may also set a constructor argument that the file of a `_target_` leaves at its default.

    Raises `ConfigError` naming the unknown key or group option, what is close to it and what exists, a mandatory
    value (`???`) that is not given, and any resolver.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    conf_dir = conf_dir.resolve()
    primaries = sorted(path.stem for path in conf_dir.glob("*.yaml"))
    if name not in primaries:
        raise ConfigError("There is no such primary configuration", got=name, exists=primaries)
    for override in overrides:
        _refuse_resolver(override)
    try:
        with hydra.initialize_config_dir(str(conf_dir), version_base="1.3"):
            composed = hydra.compose(name, list(overrides))
        _refuse_resolver(OmegaConf.to_yaml(composed))
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(getattr(error, "full_key", "") or "").strip()
        raise ConfigError(f"'{key}' has no default and must be given", run=f"add {key}=… to the command") from None
    except (HydraException, OmegaConfBaseException) as error:
        return compose(conf_dir, name, _completed(conf_dir, name, overrides, error))
    assert isinstance(values, dict)
    return Config({str(k): v for k, v in values.items()})


def _refuse_resolver(text: str) -> None:
    found = _RESOLVER.search(text)
    if found:
        raise ConfigError(
            "Resolvers are not allowed in a configuration",
            expected="values and ${key} references",
            got=found.group() + "…}",
        )


def _completed(conf_dir: Path, name: str, overrides: Sequence[str], error: Exception) -> list[str]:
    """`overrides` with those marked as additions that set an argument a `_target_` has and its file does not name.

    Raises `ConfigError` where that is not what failed, naming the offending override and what exists instead.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    groups: list[str] = []
    for override in overrides:
        key, equals, option = override.lstrip("+~").partition("=")
        if not equals:
            raise ConfigError("An override has the form key=value", got=override)
        if (conf_dir / key).is_dir():
            exists = options(conf_dir, key)
            if option not in exists and option != "null":
                close = did_you_mean(option, exists)
                hint = f"; did you mean '{key}={close}'?" if close else ""
                raise ConfigError(f"Unknown option '{key}={option}'{hint}", exists=exists) from None
            groups.append(override)
    failed = ConfigError(
        f"Configuration '{name}' cannot be composed",
        got=str(error).strip(),
        run="quote a value that holds spaces, commas, brackets or '=': 'key=\"va=lue\"'",
    )
    try:
        with hydra.initialize_config_dir(str(conf_dir), version_base="1.3"):
            base = hydra.compose(name, groups)
    except (HydraException, OmegaConfBaseException):
        raise failed from None
    plain: Any = OmegaConf.to_container(base, resolve=False)
    completed = [
        o if o in groups or o[0] in "+~" or _is_there(o.partition("=")[0], plain) else f"++{o}" for o in overrides
    ]
    if completed == list(overrides):
        raise failed from None
    return completed


def _is_there(key: str, plain: Any) -> bool:
    """Whether a dotted key is set in `plain`; False where it is an unset argument of a `_target_`, else an error."""
    node, where = plain, ""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            target = node.get(TARGET) if isinstance(node, dict) else None
            names = list(node) if isinstance(node, dict) else []
            if target:
                names = list(inspect.signature(resolve(target)).parameters)
            if target and part in names:
                return False
            raise _unknown_key(part, names, where) from None
        node = node[part]
        where += f"{part}."
    return True


# --- typing ----------------------------------------------------------------------------------------------------


def typed(config: Mapping[str, Any], schema: type[T]) -> T:
    """`config` as an instance of the dataclass `schema`, every value converted to its annotation.

    Raises `ConfigError` naming the key, the expected type and what came, for a key that the schema lacks, one
    without default that is missing, and a value of another type.
    """
    return _to_dataclass(config, schema, "")


def _to_dataclass(values: Mapping[str, Any], schema: type[T], where: str) -> T:
    hints = typing.get_type_hints(schema)
    fields = {f.name: f for f in dataclasses.fields(schema) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise _unknown_key(key, fields, where)
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"Missing configuration: {', '.join(where + m for m in missing)}", exists=list(fields))
    return schema(**{key: convert(value, hints[key], where + key) for key, value in values.items()})


def convert(value: Any, annotation: Any, where: str) -> Any:
    """`value` (a scalar, tuple or mapping of a configuration) as `annotation`, or a `ConfigError` naming `where`.

    Widens without loss only: int → float, an integral float → int, int → str, str → Path, list → tuple.
    Annotations of other kinds (protocols, type variables) are not judged.
    """
    wrong = ConfigError(
        f"'{where}' has the wrong type", expected=_name(annotation), got=f"{value!r} ({type(value).__name__})"
    )
    origin = typing.get_origin(annotation)
    if annotation is Any or annotation is object or isinstance(annotation, TypeVar):
        return value
    if isinstance(value, Mapping) and TARGET in value and annotation is not Config:
        return value  # a node, judged when it is built
    if annotation is None or annotation is type(None):
        if value is None:
            return None
        raise wrong
    if origin in (Union, types.UnionType):
        return _to_union(value, typing.get_args(annotation), where, wrong)
    if origin is Literal:
        allowed = typing.get_args(annotation)
        if value in allowed:
            return value
        raise ConfigError(f"'{where}' has an unknown value", got=repr(value), exists=[str(a) for a in allowed])
    if annotation in (bool, int, float, str, Path):
        return _to_scalar(value, annotation, wrong)
    if origin in (tuple, list, Sequence, Iterable) or annotation in (tuple, list):
        return _to_sequence(value, annotation, where, wrong)
    if annotation is Config or origin in (dict, Mapping) or annotation in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise wrong
        inner = typing.get_args(annotation)
        if annotation is Config:
            return value if isinstance(value, Config) else Config(value)
        return {k: convert(v, inner[1], f"{where}.{k}") if inner else v for k, v in value.items()}
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return _to_dataclass(value, annotation, f"{where}.")
    if (
        isinstance(annotation, type)
        and isinstance(value, (bool, int, float, str, tuple))
        and not _is_protocol(annotation)
    ):
        if not isinstance(value, annotation):
            raise wrong
    return value


def _to_scalar(value: Any, annotation: type, wrong: ConfigError) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is int and number and float(value).is_integer():
        return int(value)
    if annotation is float and number:
        return float(value)
    if annotation is str and (isinstance(value, str) or (number and isinstance(value, int))):
        return str(value)
    if annotation is Path and isinstance(value, (str, Path)):
        return Path(value).expanduser()
    raise wrong


def _to_union(value: Any, arms: tuple[Any, ...], where: str, wrong: ConfigError) -> Any:
    # An arm the value already is wins over one it could be widened to: 3 stays an int for `float | int`.
    exact = [a for a in arms if (typing.get_origin(a) or a) is type(value)]
    for arm in (*exact, *arms):
        try:
            return convert(value, arm, where)
        except ConfigError:
            continue
    raise wrong


def _to_sequence(value: Any, annotation: Any, where: str, wrong: ConfigError) -> Any:
    if not isinstance(value, (list, tuple)):
        raise wrong
    args = typing.get_args(annotation)
    as_list = list in (annotation, typing.get_origin(annotation))
    if not args:
        items: list[Any] = list(value)
    elif typing.get_origin(annotation) is tuple and args[-1] is not Ellipsis:
        if len(args) != len(value):
            raise wrong
        items = [convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True))]
    else:
        items = [convert(v, args[0], f"{where}[{i}]") for i, v in enumerate(value)]
    return items if as_list else tuple(items)


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def _is_protocol(annotation: type) -> bool:
    return bool(getattr(annotation, "_is_protocol", False))


# --- building --------------------------------------------------------------------------------------------------


def plugin_packages() -> frozenset[str]:
    """Top-level packages whose classes may be `_target_`s beside our own."""
    return frozenset({entry.module.partition(".")[0] for entry in entry_points(group=PLUGIN_GROUP)})


def resolve(target: str) -> type:
    """The class that `target` names, e.g. `"wayhand.policies.regression.RegressionPolicy"`.

    Raises `ConfigError` unless it is a class defined in Wayhand or in a plugin package, so that a configuration
    or checkpoint from elsewhere can reach nothing else, not even through a module that one of ours imports.
    """
    allowed = {"wayhand", *plugin_packages()}
    refused = ConfigError(
        f"{TARGET} may not name '{target}'",
        expected="a class of " + ", ".join(sorted(allowed)),
        run=f"declare the entry-point group '{PLUGIN_GROUP}' in the package that holds it",
    )
    module_name, _, class_name = target.rpartition(".")
    if not re.fullmatch(r"\w+(\.\w+)+", target) or target.partition(".")[0] not in allowed:
        raise refused
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise ConfigError(
                f"'{target}' needs a package that is not installed", got=str(error), run=f"pip install {error.name}"
            ) from error
        raise ConfigError(f"{TARGET} names a module that does not exist", got=module_name) from None
    found = getattr(module, class_name, None)
    if found is None:
        names = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module_name]
        raise ConfigError(f"Module '{module_name}' has no class '{class_name}'", exists=names)
    if not isinstance(found, type) or found.__module__.partition(".")[0] not in allowed:
        raise refused
    return found


def bind(node: Mapping[str, Any], given: Iterable[str] = ()) -> tuple[type, dict[str, Any]]:
    """The class a node names and its keyword arguments, checked against the constructor's signature, not built.

    Args:
        node: a mapping with `_target_`; every other key must be a keyword-only parameter of its constructor.
            With `_partial_: true` the missing arguments are left to whoever calls the result.
        given: names of the arguments that the caller supplies at run time.

    Raises `ConfigError` listing unknown and missing keys, or naming a value of the wrong type.
    """
    if not isinstance(node.get(TARGET), str):
        raise ConfigError(f"A node to build needs '{TARGET}'", got=f"keys {sorted(node)}")
    target: str = node[TARGET]
    cls = resolve(target)
    parameters = inspect.signature(cls).parameters
    positional = [p.name for p in parameters.values() if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    if positional:
        raise ConfigError(
            f"The constructor of '{target}' is not keyword-only", got=f"positional {', '.join(positional)}"
        )
    names = [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    keys = [k for k in node if k not in (TARGET, PARTIAL)]
    given = tuple(given)
    if len(names) == len(parameters):  # without **kwargs
        for key in (*keys, *given):
            if key not in names:
                raise _unknown_key(key, names, f"{target}: ")
    missing = [n for n in names if parameters[n].default is inspect.Parameter.empty and n not in (*keys, *given)]
    if missing and not node.get(PARTIAL):
        raise ConfigError(f"'{target}' lacks arguments: {', '.join(missing)}", exists=names)
    hints = _hints(cls)
    arguments = {k: convert(node[k], hints.get(k, Any), f"{target}: {k}") for k in keys if k not in given}
    return cls, arguments


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except NameError:  # annotations under `if TYPE_CHECKING` cannot be evaluated; the constructor still binds by name
        return {}


def instantiate(node: Mapping[str, Any], **kwargs: Any) -> Any:
    """Build the object a node describes; nested nodes with `_target_` are built first, `kwargs` win over the node."""
    cls, arguments = bind(node, given=kwargs)
    built = {key: _build(value) for key, value in arguments.items()}
    return partial(cls, **built, **kwargs) if node.get(PARTIAL) else cls(**built, **kwargs)


def _build(value: Any) -> Any:
    if isinstance(value, Mapping):
        return instantiate(value) if TARGET in value else {k: _build(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_build(v) for v in value)
    return value
