"""Laws of checkpoints: what goes in comes out, damage is named, a killed writer loses nothing that was committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_fixtures import RECIPE, make_spec, make_stats

from wayhand.scripts.compose import CONF
from wayhand.vla import checkpoint
from wayhand.vla.config import compose, instantiate
from wayhand.vla.contract import Observation
from wayhand.vla.errors import CheckpointError, ConfigError, SpecError
from wayhand.vla.learning.policy import TorchPolicy
from wayhand.vla.normalize import NormStats


def tensors(step: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(step)
    return {
        "matrix": torch.randn(8, 4, generator=g),
        "conv": torch.randn(4, 3, 2, 2, generator=g).to(memory_format=torch.channels_last),
        "half": torch.randn(5, generator=g).bfloat16(),
        "count": torch.tensor(step),
        "none": torch.zeros(0),
    }


def save(run: Path, step: int, *, keep: int | None = None, **changes: Any) -> Path:
    spec = make_spec()
    values: dict[str, Any] = {
        "parts": {"model": tensors(step), "ema": tensors(step + 1000)},
        "policy": RECIPE,
        "specs": {spec.embodiment: spec},
        "statistics": {spec.embodiment: make_stats(spec)},
        "config": {"lr": 0.1, "data": ["a", "b"]},
        "trainer": {"seconds": 1.5},
    }
    return checkpoint.save(run, step, keep=keep, **{**values, **changes})


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def flip(file: Path, where: int = -3) -> None:
    raw = bytearray(file.read_bytes())
    raw[where] ^= 1
    file.write_bytes(raw)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = save(tmp_path / "run", 7)
    for asked in (tmp_path / "run", path):
        found = checkpoint.load(asked)
        assert (found.path, found.step, found.policy) == (path, 7, RECIPE)
        assert (found.config, found.trainer) == ({"lr": 0.1, "data": ["a", "b"]}, {"seconds": 1.5})
        assert found.spec == make_spec() and found.stats.sha256() == make_stats(make_spec()).sha256()
        assert equal(found.weights("model"), tensors(7)) and equal(found.weights("ema"), tensors(1007))
        assert {"python", "torch", "wayhand"} <= set(found.versions)
    with pytest.raises(CheckpointError, match="no part 'optimizer'(.|\n)*ema, model"):
        found.weights("optimizer")


def test_tied_weights_are_written_and_come_back(tmp_path: Path) -> None:
    shared = torch.randn(3, 3)
    save(tmp_path, 1, parts={"model": {"a": shared, "b": shared, "row": shared[1]}})
    found = checkpoint.load(tmp_path).weights("model")
    assert torch.equal(found["a"], shared) and torch.equal(found["b"], shared) and torch.equal(found["row"], shared[1])


def test_only_safetensors_and_json_are_written(tmp_path: Path) -> None:
    save(tmp_path, 1)
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert files == [f"step-00000001/{n}" for n in ("ema.safetensors", "manifest.json", "model.safetensors")]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "manifest.json"])
@pytest.mark.parametrize("where", [0, 20, -3])
def test_a_flipped_bit_is_found_and_its_file_named(tmp_path: Path, name: str, where: int) -> None:
    path = save(tmp_path, 1)
    flip(path / name, where)
    with pytest.raises(CheckpointError, match=f"{path.name}/{name}"):
        checkpoint.load(path)


def test_every_byte_of_the_manifest_matters(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    whole = manifest.read_bytes()
    parsed = json.loads(whole)
    for where in range(0, len(whole), 97):
        flip(manifest, where)
        try:
            same = json.loads(manifest.read_bytes()) == parsed  # white space may change without a change in meaning
        except ValueError:
            same = False
        if not same:
            with pytest.raises(CheckpointError, match=r"manifest\.json"):
                checkpoint.load(path)
        manifest.write_bytes(whole)


def truncate(path: Path) -> None:
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(50)


def link(path: Path) -> None:
    (path / "model.safetensors").rename(path.parent / "elsewhere")
    (path / "model.safetensors").symlink_to(path.parent / "elsewhere")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (truncate, "model.safetensors is damaged(.|\n)*50 bytes"),
        (link, "model.safetensors is missing or is a link"),
        (lambda p: (p / "ema.safetensors").unlink(), "ema.safetensors is missing"),
        (lambda p: (p / "model.pt").write_bytes(b"\x80"), "model.pt does not belong"),
        (lambda p: (p / "data.pkl").write_bytes(b"\x80"), "data.pkl does not belong"),
        (lambda p: (p / "pytorch_model.bin").write_bytes(b"\x80"), "pytorch_model.bin does not belong"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json cannot be read"),
        (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
    ],
)
def test_a_strange_folder_is_refused_by_name(tmp_path: Path, harm: Any, words: str) -> None:
    path = save(tmp_path, 1)
    harm(path)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(path)


def test_a_run_with_a_damaged_newest_step_falls_back_and_says_so(tmp_path: Path) -> None:
    save(tmp_path, 1)
    flip(save(tmp_path, 2) / "model.safetensors")
    with pytest.warns(UserWarning, match=r"step-00000002/model\.safetensors is damaged"):
        assert checkpoint.load(tmp_path).step == 1
    flip(tmp_path / "step-00000001" / "ema.safetensors")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="No checkpoint(.|\n)*step-00000001"),
    ):
        checkpoint.load(tmp_path)


def test_an_empty_or_absent_run_says_what_to_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="run: +wayhand train"):
            checkpoint.load(path)


def test_the_newest_steps_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 100_000_000):
        save(tmp_path, step, keep=2)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000010", "step-100000000"]


def test_damaged_later_steps_do_not_crowd_out_a_new_one(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        path = save(tmp_path, step)
        if step > 10:
            flip(path / "model.safetensors")
    save(tmp_path, 15, keep=1)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000015", "step-00000020", "step-00000030"]
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoint.load(tmp_path).step == 15


def test_an_intact_step_is_never_overwritten_a_damaged_one_is(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="exists already"):
        save(tmp_path, 1)
    flip(path / "model.safetensors")
    save(tmp_path, 1)
    assert equal(checkpoint.load(tmp_path).weights("model"), tensors(1))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path).step == 1
    save(tmp_path, 3, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003"], "the aborted attempt is cleared away"


WRITER = """
import os, random, signal, sys, time, warnings
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from test_checkpoint import equal, save, tensors
from wayhand.vla import checkpoint

run, kills = Path(sys.argv[1]), int(sys.argv[2])
warnings.simplefilter("error")  # a damaged newest step would be a warning
step = 1
save(run, step)
for kill in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            save(run, step, keep=2)
    time.sleep(random.Random(kill).uniform(0.0, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in checkpoint.steps(run):
        found = checkpoint.load(path)
        assert equal(found.weights("model"), tensors(found.step)), path
    newest = checkpoint.load(run).step
    assert newest >= step, (newest, step)
    step = newest
print(step)
"""


def test_a_killed_writer_leaves_a_loadable_newest(tmp_path: Path) -> None:
    """SIGKILL at random moments of a process that does nothing but save; WAYHAND_KILLS sets how often."""
    kills = os.environ.get("WAYHAND_KILLS", "8")
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER.format(tests=str(Path(__file__).parent))))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run"), kills], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 1, "some saves were committed between the kills"


# --- policies ------------------------------------------------------------------------------------------------------


def make_policy(seed: int) -> tuple[dict[str, Any], TorchPolicy]:
    spec = make_spec()
    node = compose(CONF, "train", ["policy=regression_tiny", "data=x", "out=y"])["policy"].to_dict()
    torch.manual_seed(seed)
    return node, instantiate(node, spec=spec, stats=make_stats(spec))


def act(policy: TorchPolicy) -> np.ndarray:
    observation = Observation(
        times={"front": 0.0, "state": 0.0},
        images={"front": np.arange(192, dtype=np.uint8).reshape(8, 8, 3)},
        state=np.array([0.3, -0.2], np.float32),
        instruction="move",
    )
    [chunk], _, _ = policy.act([observation], policy.init(policy.spec, [0]), rng=[np.random.default_rng(0)])
    return chunk.actions


def test_a_policy_is_rebuilt_from_its_checkpoint_alone(tmp_path: Path) -> None:
    node, policy = make_policy(1)
    _, average = make_policy(2)
    save(tmp_path, 1, policy=node, parts={"model": policy.state_dict(), "ema": average.state_dict()})
    np.testing.assert_array_equal(act(TorchPolicy.from_checkpoint(tmp_path)), act(average))
    np.testing.assert_array_equal(act(TorchPolicy.from_checkpoint(tmp_path, ema=False)), act(policy))
    assert not np.array_equal(act(policy), act(average))


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.Popen", "torch.nn.Linear", "wayhand.vla.checkpoint.os.system"]
)
def test_a_checkpoint_can_name_no_foreign_class(tmp_path: Path, target: str) -> None:
    save(tmp_path, 1, policy={"_target_": target})
    with pytest.raises(ConfigError):
        TorchPolicy.from_checkpoint(tmp_path)


def test_a_checkpoint_without_statistics_of_its_actions_is_refused(tmp_path: Path) -> None:
    node, policy = make_policy(1)
    stats = make_stats(make_spec()).to_dict()
    del stats["action"]
    save(tmp_path, 1, policy=node, parts={"model": policy.state_dict()}, statistics={"toy": NormStats.from_dict(stats)})
    with pytest.raises(SpecError, match="No statistics for 'action'"):
        TorchPolicy.from_checkpoint(tmp_path)
