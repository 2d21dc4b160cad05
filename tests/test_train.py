"""Laws of the training loop: resume, accumulation, averaging, bad samples, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_fixtures import RECIPE, MemorySampler, TinyPolicy, make_policy

from wayhand.vla import checkpoint
from wayhand.vla.errors import TrainingError
from wayhand.vla.learning.augment import augment
from wayhand.vla.learning.behavior_cloning import Progress, Settings, train
from wayhand.vla.learning.interrupts import Interrupts
from wayhand.vla.learning.schedule import cosine, ema_decay, ema_update


def settings(**changes: Any) -> Settings:
    return Settings(**{"steps": 4, "warmup": 1, "log_every": 1, "lr": 1e-2, "compile": False, **changes})


def run(
    out: Path,
    *,
    policy: TinyPolicy | None = None,
    sampler: Any = None,
    resume: Any = None,
    stop_at: int | None = None,
    signum: int = signal.SIGINT,
    **changes: Any,
) -> tuple[TinyPolicy, Progress]:
    policy = make_policy(0) if policy is None else policy
    source = sampler or MemorySampler(batch_size=8)

    def interrupt(step: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signum)

    done = train(
        policy,
        lambda rank, world: source,
        settings(**changes),
        out,
        recipe=RECIPE,
        config={"lr": 1e-2},
        resume=resume,
        on_step=interrupt,
    )
    return policy, done


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_four_steps_equal_two_and_two(tmp_path: Path, precision: str) -> None:
    run(tmp_path / "whole", policy=make_policy(0, dropout=0.3), precision=precision)
    _, stopped = run(tmp_path / "parts", policy=make_policy(0, dropout=0.3), precision=precision, stop_at=2)
    assert stopped.stopped and stopped.step == 2
    other = make_policy(99, dropout=0.3)
    run(tmp_path / "parts", policy=other, precision=precision, resume=checkpoint.load(tmp_path / "parts"))
    whole, parts = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "parts")
    assert whole.step == parts.step == 4
    for part in ("model", "ema", "optimizer"):
        assert same(whole.weights(part), parts.weights(part)), part


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first = run(tmp_path / "a")[0].state_dict()
    assert same(first, run(tmp_path / "b")[0].state_dict())
    assert not same(first, run(tmp_path / "c", policy=make_policy(1))[0].state_dict())


def test_two_batches_accumulated_are_one_batch_of_both(tmp_path: Path) -> None:
    quiet = {"shift": 0, "jitter": 0.0, "steps": 3}
    small = run(tmp_path / "a", sampler=MemorySampler(batch_size=4), accumulate=2, **quiet)[0].state_dict()
    large = run(tmp_path / "b", sampler=MemorySampler(batch_size=8), **quiet)[0].state_dict()
    for name, value in small.items():
        torch.testing.assert_close(value, large[name], atol=1e-5, rtol=1e-4)


def test_training_fits(tmp_path: Path) -> None:
    run(tmp_path, steps=150, log_every=10)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert [r["step"] for r in rows] == list(range(10, 151, 10))
    assert all(0 <= r["data_wait"] <= 1 and r["samples_per_second"] > 0 for r in rows)
    assert list((tmp_path / "tensorboard").iterdir())


class Poisoned(MemorySampler):
    def batch(self, k: int) -> dict[str, Any]:
        batch = super().batch(k)
        if k == 2:
            batch["action"][5, 0, 0] = np.nan
        return batch


def test_a_poisoned_sample_is_named_and_nothing_of_it_stays(tmp_path: Path) -> None:
    sampler = Poisoned(batch_size=8)
    guilty = int(sampler.batch(2)["index"][5])
    _, episode, frame = sampler.locate(guilty)
    with pytest.raises(TrainingError, match=f"step 3(.|\n)*episode {episode} frame {frame}"):
        run(tmp_path, sampler=sampler, save_every=1)
    kept = checkpoint.load(tmp_path)
    assert kept.step == 2
    assert all(torch.isfinite(v).all() for v in kept.weights("model").values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_sample_with_a_gradient_that_is_not_finite_is_named(tmp_path: Path, accumulate: int) -> None:
    class Cusp(TinyPolicy):
        """A square root that is finite at zero and has no slope there."""

        def loss(self, batch: Any) -> Any:
            loss, terms = super().loss(batch)
            return loss + (self.see.weight.sum() * 0 + self.state(batch)[:, 0].abs()).sqrt().mean(), terms

    class Flat(MemorySampler):
        def batch(self, k: int) -> dict[str, Any]:
            batch = super().batch(k)
            if k == 0:
                batch["observation.state"][3] = 0
            return batch

    plain, sampler = make_policy(0), Flat(batch_size=8)
    cusp = Cusp(spec=plain.spec, stats=plain.stats, dropout=0.0)
    _, episode, frame = sampler.locate(int(sampler.batch(0)["index"][3]))
    with pytest.raises(TrainingError, match="gradient of step 1") as caught:
        run(tmp_path, policy=cusp, sampler=sampler, accumulate=accumulate)
    assert caught.value.exists == (f"memory episode {episode} frame {frame}",)
    assert not checkpoint.steps(tmp_path)


def test_the_saved_average_follows_the_saved_weights(tmp_path: Path) -> None:
    """EMA over a run of steps equals the recursion over the weights that each step saved."""
    run(tmp_path, steps=6, save_every=1, keep=6, ema=0.3)
    average = make_policy(0).state_dict()
    for n, path in enumerate(checkpoint.steps(tmp_path)):
        decay = min(0.3, (1 + n) / (10 + n))
        found = checkpoint.load(path)
        weights, kept = found.weights("model"), found.weights("ema")
        for name in weights:
            average[name] = decay * average[name] + (1 - decay) * weights[name]
            torch.testing.assert_close(kept[name], average[name], atol=1e-6, rtol=1e-5)


def test_curves_of_a_crashed_run_are_cut_to_where_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        run(tmp_path, sampler=Poisoned(batch_size=8), save_every=1)
    torn = tmp_path / "metrics.jsonl"
    torn.write_text(torn.read_text() + '{"step": 3, "loss": 1.0}\n{"st')
    run(tmp_path, resume=checkpoint.load(tmp_path))
    assert [json.loads(line)["step"] for line in torn.read_text().splitlines()] == [1, 2, 3, 4]


def test_old_checkpoints_go_after_new_ones_came(tmp_path: Path) -> None:
    run(tmp_path, steps=5, save_every=1, keep=2)
    assert [p.name for p in checkpoint.steps(tmp_path)] == ["step-00000004", "step-00000005"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_saves_and_the_handlers_come_back(tmp_path: Path, signum: int) -> None:
    before = signal.getsignal(signum)
    _, done = run(tmp_path, steps=50, stop_at=3, signum=signum)
    assert done.stopped and checkpoint.load(tmp_path).step == 3
    assert signal.getsignal(signum) is before


def test_signals_within_moments_are_one_and_a_later_one_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("wayhand.vla.learning.interrupts.time.monotonic", lambda: clock[0])
    with Interrupts() as interrupts:
        assert not interrupts.seen
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            assert interrupts.seen
        clock[0] += 2
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_finished_run_that_is_resumed_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    _, done = run(tmp_path, policy=make_policy(5), resume=checkpoint.load(tmp_path))
    assert done.step == 4 and not done.stopped
    assert before == {p: p.read_bytes() for p in before}


def test_a_time_budget_ends_the_run(tmp_path: Path) -> None:
    _, done = run(tmp_path, steps=10_000_000, max_minutes=1e-9)
    assert 0 < done.step <= 2 and not done.stopped


@pytest.mark.parametrize("warmup", [0, 10])
def test_the_schedule_rises_then_falls(warmup: int) -> None:
    values = [cosine(step / 100, step, warmup=warmup) for step in range(101)]
    peak = int(np.argmax(values))
    assert peak <= max(warmup, 1)
    assert all(a >= b for a, b in zip(values[peak:], values[peak + 1 :], strict=False))
    assert values[-1] == pytest.approx(0.02)
    assert cosine(0.5, 1000, warmup=warmup) == pytest.approx(0.51)


def test_the_average_has_its_closed_form() -> None:
    average, value = [torch.zeros(3)], [torch.ones(3)]
    for _ in range(5):
        ema_update(average, value, 0.9)
    torch.testing.assert_close(average[0], torch.full((3,), 1 - 0.9**5))
    assert ema_decay(0, 0.99) == 0.1 and ema_decay(10**6, 0.99) == 0.99


def test_augmentation_moves_all_pixels_alike_and_keeps_the_rest() -> None:
    rng = np.random.default_rng(0)
    batch = {
        "observation.images.front": rng.integers(0, 256, (6, 12, 16, 3), dtype=np.uint8),
        "observation.state": rng.normal(size=(6, 2)),
    }
    out = augment(batch, 3, shift=2, brightness=0.0, contrast=0.0)
    assert out["observation.state"] is batch["observation.state"]
    for before, after in zip(batch["observation.images.front"], out["observation.images.front"], strict=True):
        shifts = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if (before[np.clip(np.arange(12) - dy, 0, 11)][:, np.clip(np.arange(16) - dx, 0, 15)] == after).all()
        ]
        assert shifts, "every image is some shift of itself with replicated edges"
    again = augment(batch, 3, shift=2, brightness=0.0, contrast=0.0)
    np.testing.assert_array_equal(out["observation.images.front"], again["observation.images.front"])
    other = augment(batch, 4, shift=2, brightness=0.0, contrast=0.0)
    assert not np.array_equal(out["observation.images.front"], other["observation.images.front"])


def test_jitter_is_affine_in_brightness() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None, None].repeat(3, -1)
    out = augment({"observation.images.a": ramp}, 0, shift=0, brightness=0.2, contrast=0.2)["observation.images.a"]
    grey = out[0, :, 0, 0].astype(int)
    assert (np.diff(grey) >= 0).all()
    inner = (grey > 0) & (grey < 255)
    slopes = np.polyfit(np.arange(256)[inner], grey[inner], 1, full=True)
    assert slopes[1][0] / inner.sum() < 0.1  # residual of a straight line is rounding
    np.testing.assert_array_equal(out[..., 0], out[..., 1])


def test_two_processes_are_one_process_with_twice_the_batch(tmp_path: Path) -> None:
    """Two gloo processes with half a batch each take the steps of one with the whole, and stop together."""
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys, time
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import torch
            from learning_fixtures import RECIPE, MemorySampler, make_policy
            from wayhand.vla.learning.behavior_cloning import Settings, train
            s = Settings(steps=2, warmup=1, lr=1e-2, compile=False, shift=0, jitter=0.0)
            train(make_policy(0), lambda r, w: MemorySampler(batch_size=8 // w, rank=r, world=w), s,
                  sys.argv[1] + "/equal", recipe=RECIPE, config={{}})

            def interrupt_one(step):
                time.sleep(0.01 * int(os.environ["RANK"]))
                if step == 3 and os.environ["RANK"] == "1":
                    os.kill(os.getpid(), signal.SIGTERM)

            s = Settings(steps=10**6, warmup=1, compile=False)
            done = train(make_policy(0), lambda r, w: MemorySampler(batch_size=8 // w, rank=r, world=w), s,
                         sys.argv[1] + "/stopped", recipe=RECIPE, config={{}}, on_step=interrupt_one)
            assert done.stopped and done.step == 3, done
            torch.distributed.barrier()  # a rank that leaves early takes the connection of the others with it
            torch.distributed.destroy_process_group()
            """
        )
    )
    single = run(tmp_path / "one", sampler=MemorySampler(batch_size=8), steps=2, shift=0, jitter=0.0)[0].state_dict()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["torch.distributed.run", "--nproc_per_node=2", "--standalone", "--local-addr=127.0.0.1"]
    command = [sys.executable, "-m", *launcher]
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "two")], env=environment, cwd=tmp_path, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert checkpoint.load(tmp_path / "two" / "stopped").step == 3
    double = checkpoint.load(tmp_path / "two" / "equal").weights("model")
    for name, value in single.items():
        torch.testing.assert_close(double[name], value, atol=1e-5, rtol=1e-4)
