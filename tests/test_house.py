"""Laws of the house: what is in the wheel, who may import whom, and what no file may contain."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wayhand.scripts.cli import COMMANDS
from wayhand.vla.config import TARGET, bind, resolve

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("vla", "envs", "policies", "datasets", "scripts")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
CONF = ROOT / "scripts" / "conf"


def run(code: str, *, cwd: Path = ROOT, executable: str = sys.executable, env: dict[str, str] | None = None) -> str:
    command = [executable, "-W", "error::ImportWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- packaging -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, because a build leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(copy),
        ".",
    ]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=120)
    return next(copy.glob("*.whl"))


def test_the_wheel_holds_every_source_and_configuration(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = [*SOURCES, *CONF.rglob("*.yaml"), *(ROOT / folder / "py.typed" for folder in FOLDERS)]
    missing = [p for p in (path.relative_to(ROOT).as_posix() for path in wanted) if f"wayhand/{p}" not in held]
    # bench holds programs, not modules
    assert [p for p in missing if not p.startswith("scripts/bench/")] == []


def test_datasets_never_hides_the_package_of_that_name(tmp_path: Path) -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()
    other = tmp_path / "site" / "datasets"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("Dataset = 'theirs'\n")
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{other.parent}"}
    assert run("import datasets; print(datasets.Dataset)", env=env) == "theirs"


# --- arrows ----------------------------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[str]:
    """Absolute names of everything `path` imports, wherever in the file."""
    package = ["wayhand", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_sources_import_each_other_relatively(path: Path) -> None:
    absolute = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "wayhand")
        or (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "wayhand" for a in node.names))
    ]
    assert path.is_relative_to(ROOT / "scripts" / "bench") or absolute == []


LIGHT = [
    p
    for p in SOURCES
    if p.relative_to(ROOT).parts[0] in ("envs", "datasets") or p.is_relative_to(ROOT / "vla" / "bridge")
    or p in (ROOT / "vla/contract.py", ROOT / "vla/errors.py", ROOT / "vla/demonstrations.py")
    or p == ROOT / "vla/evaluation/rollout.py"
]  # fmt: skip
HEAVY = {"torch", "transformers", "accelerate", "hydra", "omegaconf"}


def test_light_rooms_run_without_the_heavy_libraries() -> None:
    names = [".".join(["wayhand", *p.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__") for p in LIGHT]
    code = (
        f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint(*(set(sys.modules) & {HEAVY!r}))"
    )
    assert run(code) == ""
    lazily = {str(p): [i for i in imports(p) if i.split(".")[0] in HEAVY] for p in LIGHT}
    assert {p: i for p, i in lazily.items() if i} == {}


def test_only_config_speaks_to_hydra() -> None:
    speakers = {p for p in SOURCES if any(i.split(".")[0] in ("hydra", "omegaconf") for i in imports(p))}
    assert speakers == {ROOT / "vla" / "config.py"}


@pytest.mark.parametrize("path", ["vla/contract.py", "vla/errors.py"])
def test_the_contract_is_python_3_9_with_numpy_alone(path: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 9))
    outside = {i.split(".")[0] for i in imports(ROOT / path)} - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "wayhand"}
    # Syntax is not all: these are library features that came later.
    assert not re.search(r"slots=|kw_only=|zip\([^)]*strict=|\bmatch \w+:$", source, re.MULTILINE)


def test_the_contract_runs_on_python_3_9() -> None:
    old = shutil.which("python3.9")
    probe = [old or "", "-c", "import sys, numpy; sys.exit(sys.version_info[:2] != (3, 9))"]
    if old is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no python3.9 with numpy on this machine")
    code = "import vla.contract as c; print(c.EnvSpec.from_dict(c.EnvSpec('a', 0.1).to_dict()).embodiment)"
    assert run(code, executable=old) == "a"


# --- safety ----------------------------------------------------------------------------------------------------

FORBIDDEN = {
    "pickle": r"^\s*(import|from) (c?[Pp]ickle|dill|cloudpickle|joblib|shelve|marshal)\b",
    "torch.load": r"\btorch\.load\(",
    "eval or exec": r"(?<![\w.])(eval|exec)\(",
    "yaml.load": r"\byaml\.(unsafe_)?load\(",
    "remote code": r"trust_remote_code\s*=\s*True",
    "pickled arrays": r"allow_pickle\s*=\s*True",
    "shell": r"shell\s*=\s*True",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_source_loads_code_from_data(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    # One file is a `.pth`: it is read as tensors alone, from bytes whose hash is known.
    pinned = [x for x in found if what == "torch.load" and x.startswith("vla/backbones/towers/weights.py:")]
    assert len(pinned) <= 1 and found == pinned


# --- configuration ---------------------------------------------------------------------------------------------

GROUP_FILES = sorted(p for p in CONF.rglob("*.yaml") if p.parent != CONF)


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda p: p.relative_to(CONF).as_posix())
def test_every_configuration_binds_to_its_class(path: Path) -> None:
    import yaml

    def check(node: object, given: set[str]) -> None:
        if isinstance(node, dict):
            if TARGET in node:
                # What a command hands in at run time cannot be known here, so nothing counts as missing.
                bind({**node, "_partial_": True})
                resolve(node[TARGET])
            for value in node.values():
                check(value, set())
        elif isinstance(node, list):
            for value in node:
                check(value, set())

    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert TARGET in node or all(TARGET in part for part in node.values())
    check(node, set())


# --- documents -------------------------------------------------------------------------------------------------

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_what_the_documents_name_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    commands = set(re.findall(r"\bwayhand ([a-z]+)\b(?= |`|$)", text, re.MULTILINE))
    assert commands - set(COMMANDS) == set()
    scripts = set(re.findall(r"\bbash ((?:scripts/|\.ci/)[\w./]+)", text))
    links = {link for link in re.findall(r"\]\(([\w./-]+)\)", text) if not link.startswith("http")}
    assert [name for name in sorted(scripts | links) if not (ROOT / name).exists()] == []


def test_every_command_has_its_module_and_help() -> None:
    for name in COMMANDS:
        text = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8")
        assert "def main(overrides: list[str]) -> int" in text
        assert f"wayhand {name}" in text[text.index("HELP") :]
