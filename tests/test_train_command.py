"""Laws of `wayhand train`: it composes, resumes, refuses what differs, and survives being stopped."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from learning_fixtures import make_spec

from wayhand.datasets.stats import ColumnStats
from wayhand.datasets.store import create
from wayhand.scripts import cli, train
from wayhand.vla import checkpoint
from wayhand.vla.contract import EpisodeBuilder, Observation
from wayhand.vla.learning.policy import TorchPolicy

TINY = ["policy=regression_tiny", "batch_size=4", "compile=false", "threads=1", "warmup=1", "log_every=1"]


def make_dataset(path: Path, *, episodes: int = 3, seed: int = 0) -> Path:
    rng, spec = np.random.default_rng(seed), make_spec()

    def look(t: int) -> Observation:
        return Observation(
            times={"front": t * 0.05, "state": t * 0.05},
            images={"front": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)},
            state=rng.normal(size=2).astype(np.float32),
            instruction="move",
        )

    with create(path, spec) as writer:
        for episode in range(episodes):
            builder = EpisodeBuilder(spec, "move")
            for t in range(6 + episode):
                builder.add(look(t), rng.uniform(-1, 1, 2).astype(np.float32), 0.0)
            writer.append(builder.finish(look(99), True, {"seed": episode}))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data")


def wayhand(*arguments: object) -> int:
    return cli.main(["train", *TINY, *map(str, arguments)])


def test_it_trains_and_says_what_comes_next(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert wayhand(f"data={data}", f"out={out}", "steps=3") == 0
    said = capsys.readouterr().out
    for words in ("3 episodes, 21 frames", "last loss", "samples/s", "data wait", "step-00000003", "wayhand eval"):
        assert words in said
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    policy = TorchPolicy.from_checkpoint(out)
    assert policy.spec == make_spec()


def test_continuing_equals_never_stopping(data: Path, tmp_path: Path) -> None:
    assert wayhand(f"data={data}", f"out={tmp_path / 'whole'}", "steps=4", "max_minutes=null") == 0
    parts = (f"data={data}", f"out={tmp_path / 'parts'}", "steps=4", "save_every=2")
    assert wayhand(*parts) == 0
    train.shutil.rmtree(tmp_path / "parts" / "step-00000004")
    assert wayhand(*parts) == 0
    a, b = (checkpoint.load(tmp_path / name) for name in ("whole", "parts"))
    for part in ("model", "ema", "optimizer"):
        left, right = a.weights(part), b.weights(part)
        assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_a_finished_run_is_said_to_be_so(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert wayhand(f"data={data}", f"out={tmp_path / 'run'}", "steps=2") == 0
    assert "at step 2 of 2" in capsys.readouterr().out


def test_other_settings_are_refused_by_name(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = (f"data={data}", f"out={tmp_path / 'run'}", "steps=2")
    assert wayhand(*same) == 0
    assert wayhand(*same, "lr=0.1", "policy.hidden=32") == 2
    said = capsys.readouterr().err
    assert "lr: 0.001 → 0.1" in said and "policy.hidden: 64 → 32" in said and "overwrite=true" in said
    assert wayhand(*same, "lr=0.1", "overwrite=true") == 0
    assert checkpoint.load(tmp_path / "run").config["lr"] == 0.1


def test_fine_tuning_starts_from_the_averaged_weights(data: Path, tmp_path: Path) -> None:
    assert wayhand(f"data={data}", f"out={tmp_path / 'first'}", "steps=2", "lr=0.01") == 0
    second = (f"data={data}", f"out={tmp_path / 'second'}", f"init_from={tmp_path / 'first'}", "steps=1", "lr=1e-12")
    assert wayhand(*second) == 0
    source, tuned = (checkpoint.load(tmp_path / n) for n in ("first", "second"))
    for name, value in source.weights("ema").items():
        torch.testing.assert_close(tuned.weights("model")[name], value, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps=0", "'steps' is too small"),
        ("lr=-1", "'lr' must be positive"),
        ("ema=1", "'ema' is out of range"),
        ("stesp=3", "did you mean 'steps'"),
        ("policy=regresion", "did you mean 'policy=regression'"),
        ("normalize.action=median", "exists: +mean_std"),
    ],
)
def test_mistakes_are_words(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, words: str
) -> None:
    assert cli.main(["train", *TINY, f"data={data}", f"out={tmp_path / 'run'}", change]) in (1, 2)
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_joint_statistics_are_those_of_the_joined_data() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, (50 * (i + 1), 2)) for i in range(3)]

    def stats(x: np.ndarray) -> ColumnStats:
        q01, q99 = np.quantile(x, (0.01, 0.99), axis=0)
        return ColumnStats(len(x), x.mean(0), x.std(0), x.min(0), x.max(0), q01, q99)

    merged, whole = train.merged([stats(p) for p in parts]), stats(np.concatenate(parts))
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(merged[name], getattr(whole, name), atol=1e-12)
    assert (merged["q01"] <= whole.q01).all() and (merged["q99"] >= whole.q99).all()


def test_a_terminated_run_saves_and_prints_the_command_that_continues_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["train", *TINY, f"data={data}", f"out={out}", "steps=1000000", "save_every=1", "overwrite=true"]
    code = "import sys; from wayhand.scripts.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not checkpoint.steps(out) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    again = shlex.split(said.partition("Continue with:")[2])
    assert again == ["wayhand", "train", *(a for a in arguments[1:] if a != "overwrite=true")]
    saved = checkpoint.load(out).step
    rows = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert saved == rows[-1] >= 1
    assert cli.main([*again[1:], f"steps={saved + 1}"]) == 0
    assert checkpoint.load(out).step == saved + 1
