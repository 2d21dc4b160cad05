"""No source of ours can run what somebody else wrote into a file or onto a wire: no pickle, no `eval`, nowhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for room in ("vla", "envs", "policies", "datasets", "scripts") for p in (ROOT / room).rglob("*.py"))
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {
    "scripts/bench/serving_peer.py": {"imports pickle"},  # on the loopback, to be measured against
}


def findings(tree: ast.AST) -> Iterator[str]:
    """What in a source could run foreign code, in words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        keywords = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        called = ast.unparse(node.func)
        if isinstance(node.func, ast.Name) and called in BUILTINS:
            yield f"calls {called}"
        if called.endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
            yield from (f"imports {name}" for name in [str(node.args[0].value)] if name in MODULES)
        if called == "torch.load" and keywords.get("weights_only") is not True:
            yield "calls torch.load"
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            yield f"calls {called}"
        yield from (f"sets {k}" for k in ("allow_pickle", "trust_remote_code") if keywords.get(k) not in (None, False))


def test_the_search_finds_what_it_searches() -> None:
    found = {
        "import pickle": "imports pickle",
        "from joblib import load": "imports joblib",
        "import importlib; importlib.import_module('dill')": "imports dill",
        "torch.load(path)": "calls torch.load",
        "torch.load(path, weights_only=False)": "calls torch.load",
        "yaml.load(text, Loader)": "calls yaml.load",
        "eval(text)": "calls eval",
        "np.load(path, allow_pickle=True)": "sets allow_pickle",
        "AutoModel.from_pretrained(name, trust_remote_code=True)": "sets trust_remote_code",
    }
    assert {text: [*findings(ast.parse(text))] for text in found} == {text: [word] for text, word in found.items()}
    for harmless in ("torch.load(f, weights_only=True)", "model.eval()", "re.compile(x)", "np.load(p)"):
        assert not [*findings(ast.parse(harmless))]


@pytest.mark.parametrize("room", ["vla", "envs", "policies", "datasets", "scripts"])
def test_no_source_runs_what_it_reads(room: str) -> None:
    paths = [p for p in SOURCES if p.relative_to(ROOT).parts[0] == room]
    assert paths
    names = {p.relative_to(ROOT).as_posix(): p for p in paths}
    bad = {name: set(findings(ast.parse(p.read_text(encoding="utf-8")))) for name, p in names.items()}
    assert {name: words for name, words in bad.items() if words - ALLOWED.get(name, set())} == {}
