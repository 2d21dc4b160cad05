"""Laws of composing, typing and building configurations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from wayhand.vla.config import Config, bind, compose, instantiate, options, resolve, typed
from wayhand.vla.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Part:
    width: int
    scale: float = 1.0


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    files = {
        "collect.yaml": "defaults:\n  - env: tabletop/pick\n  - _self_\nepisodes: 10\nseed: 3\nout: ???\n"
        "twice: ${seed}\nnames: [a, b]\nnested: {rate: 0.5}\n",
        "env/tabletop/pick.yaml": "_target_: wayhand.vla.contract.Camera\nname: front\nheight: 96\n",
        "env/tabletop/push.yaml": "_target_: wayhand.vla.contract.Camera\nname: wrist\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_group_option_in_a_folder_lands_at_the_group(conf: Path) -> None:
    cfg = compose(conf, "collect", ["env=tabletop/push", "out=/a/b"])
    assert cfg.env["name"] == "wrist" and cfg.out == "/a/b" and cfg["episodes"] == 10
    assert options(conf, "env") == ["tabletop/pick", "tabletop/push"]


def test_an_argument_that_the_file_leaves_at_its_default_can_be_set(conf: Path) -> None:
    cfg = compose(conf, "collect", ["env.width=5", "out=x", "env=tabletop/push", "env.depth=true"])
    assert cfg.env.to_dict() == {"_target_": "wayhand.vla.contract.Camera", "name": "wrist", "width": 5, "depth": True}


def test_references_are_resolved_and_overrides_reach_them(conf: Path) -> None:
    assert compose(conf, "collect", ["out=x", "seed=8"]).twice == 8


def test_a_config_is_frozen_plain_and_round_trips(conf: Path) -> None:
    cfg = compose(conf, "collect", ["out=x"])
    assert cfg.names == ("a", "b") and cfg.to_dict()["names"] == ["a", "b"]
    assert Config(cfg.to_dict()) == cfg
    with pytest.raises(ConfigError, match="frozen"):
        cfg.seed = 1
    with pytest.raises(ConfigError, match="did you mean 'seed'"):
        _ = cfg.sead


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=x", "env=tabletop/pik"], "did you mean 'env=tabletop/pick'"),
        (["out=x", "episodse=3"], "did you mean 'episodes'"),
        (["out=x", "nested.rat=3"], "did you mean 'nested.rate'"),
        (["out=x", "env.hight=3"], "did you mean 'env.height'"),
        (["out=x", "env.widht=3"], "did you mean 'env.width'"),
        (["out=x", "out.deep=3"], "Unknown configuration key 'out.deep'"),
        ([], "'out' has no default"),
        (["out=x", "seed"], "form key=value"),
        (["out=${oc.env:HOME}"], "Resolvers are not allowed"),
        (["out=${nosuch:1}"], "Resolvers are not allowed"),
        (["out=x", "seed=${nokey}"], "nokey"),
        (["out=a=b"], "quote"),
        (["out=x", "seed=1,2"], "multirun|Sweep|sweep"),
    ],
)
def test_a_wrong_override_says_what_exists(conf: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(conf, "collect", overrides)


def test_a_resolver_in_a_file_is_refused(conf: Path) -> None:
    (conf / "bad.yaml").write_text("secret: ${oc.env:HOME}\n")
    with pytest.raises(ConfigError, match="Resolvers"):
        compose(conf, "bad")


def test_an_unknown_primary_lists_those_that_exist(conf: Path) -> None:
    with pytest.raises(ConfigError, match="collect"):
        compose(conf, "colect")


@dataclass(frozen=True)
class Schema:
    steps: int
    out: Path
    rate: float = 0.1
    mode: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()
    data: str | tuple[str, ...] = ""
    limit: int | None = None
    inner: Part = field(default_factory=lambda: Part(width=1))
    node: Config = field(default_factory=lambda: Config({}))
    flag: bool = False


def test_values_widen_without_loss() -> None:
    got = typed(
        Config({"steps": 1e3, "out": "~/x", "rate": 2, "names": ["a", 1], "data": ["p"], "inner": {"width": 3}}), Schema
    )
    assert got.steps == 1000 and isinstance(got.steps, int)
    assert got.rate == 2.0 and isinstance(got.rate, float)
    assert got.names == ("a", "1") and got.data == ("p",) and got.inner == Part(width=3)
    assert got.out == Path("~/x").expanduser()
    assert typed(Config({"steps": 1, "out": "x", "limit": None, "data": "p"}), Schema).data == "p"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "many"}, r"'steps' has the wrong type\n  expected: int\n  got:      'many' \(str\)"),
        ({"steps": 1.5}, "'steps'"),
        ({"steps": True}, "'steps'"),
        ({"flag": 1}, "'flag'"),
        ({"rate": "x"}, "expected: float"),
        ({"mode": "fas"}, "exists:   fast, slow"),
        ({"names": "a"}, "'names'"),
        ({"names": [[]]}, r"'names\[0\]'"),
        ({"inner": {"width": "w"}}, r"'inner\.width'"),
        ({"inner": {"widht": 1}}, r"did you mean 'inner\.width'"),
        ({"stpes": 1}, "did you mean 'steps'"),
    ],
)
def test_a_wrong_value_names_key_type_and_what_came(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed(Config({"steps": 1, "out": "x", **values}), Schema)


def test_what_is_missing_is_listed() -> None:
    with pytest.raises(ConfigError, match="steps, out"):
        typed(Config({}), Schema)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> str:
    """This test module's package, as if its distribution declared the plugin entry point."""
    monkeypatch.setattr("wayhand.vla.config.plugin_packages", lambda: frozenset({__name__.partition(".")[0]}))
    return __name__


class Tree:
    def __init__(self, *, part: Part, leaves: tuple[Part, ...] = (), extra: int = 0) -> None:
        self.part, self.leaves, self.extra = part, leaves, extra


def test_nested_nodes_are_built_first_and_kwargs_win(plugin: str) -> None:
    leaf = {"_target_": f"{plugin}.Part", "width": 2}
    tree = instantiate(
        Config({"_target_": f"{plugin}.Tree", "part": leaf, "leaves": [leaf, leaf], "extra": 1}), extra=5
    )
    assert tree.part == Part(width=2) and tree.leaves == (Part(width=2),) * 2 and tree.extra == 5


def test_a_partial_node_waits_for_what_is_missing(plugin: str) -> None:
    make = instantiate({"_target_": f"{plugin}.Part", "_partial_": True, "scale": 2})
    assert make(width=7) == Part(width=7, scale=2.0)
    with pytest.raises(ConfigError, match="did you mean .*scale"):
        instantiate({"_target_": f"{plugin}.Part", "_partial_": True, "scael": 2})


def test_binding_checks_names_and_types(plugin: str) -> None:
    with pytest.raises(ConfigError, match="did you mean .*width"):
        instantiate({"_target_": f"{plugin}.Part", "widht": 2})
    with pytest.raises(ConfigError, match="lacks arguments: width"):
        instantiate({"_target_": f"{plugin}.Part"})
    with pytest.raises(ConfigError, match="width.*wrong type"):
        instantiate({"_target_": f"{plugin}.Part", "width": "two"})
    assert bind({"_target_": f"{plugin}.Part"}, given=["width"]) == (Part, {})


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "wayhand.vla.config.re.compile",
        "wayhand.vla.config.Path",
        "wayhand.vla.config.compose",
        "wayhand",
        "wayhand..vla",
        "builtins.eval",
    ],
)
def test_a_target_outside_our_packages_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        resolve(target)


def test_a_misspelt_class_lists_the_modules_own() -> None:
    with pytest.raises(ConfigError, match="EnvSpec"):
        resolve("wayhand.vla.contract.EnvSpc")
    with pytest.raises(ConfigError, match="does not exist"):
        resolve("wayhand.vla.contrct.EnvSpec")


def test_a_constructor_that_is_not_keyword_only_is_refused() -> None:
    with pytest.raises(ConfigError, match="keyword-only"):
        instantiate({"_target_": "wayhand.vla.contract.Element", "name": "a", "unit": "m"})
