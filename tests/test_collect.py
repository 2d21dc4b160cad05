"""Laws of recording demonstrations: the same bytes for any number of workers, resumption, and clean endings."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wayhand.scripts import collect, compose
from wayhand.scripts.collect import main, resume_point
from wayhand.vla.contract import ActionChunk, ActionGroup, Camera, Element, EnvSpec, Observation
from wayhand.vla.demonstrations import TURN, Attempt, attempts, demonstrate, noise_scale
from wayhand.vla.errors import ConfigError, SpecError, WayhandError

BODY = EnvSpec(
    "toy",
    0.1,
    cameras=(Camera("front", 4, 4, 1, 1, 2, 2),),
    state=(Element("x", "m"),),
    action=(
        ActionGroup("arm", "ee_delta", (Element("dx", "m"),), (-1.0,), (1.0,)),
        ActionGroup("gripper", "joint_position", (Element("width", "m"),), (0.0,), (0.08,)),
    ),
)


class Toy:
    """Walks along a line to 1; seeds that are divisible by 5 fail, and even ones take longer."""

    body = BODY
    oracle_name = "toy-1"

    def __init__(self, *, broken: str = "") -> None:
        self.broken = broken
        self.unwrapped = self

    def reset(self, *, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.broken == "raises" and seed == 3:
            raise ValueError("seed three")
        if self.broken == "dies" and seed == 3:
            os._exit(9)
        if seed % 2 == 0:
            time.sleep(0.01)
        self.seed, self.x, self.t = seed, float(np.random.default_rng(seed).uniform(-1, 0)), 0
        return self._observe(), {"task": f"task{seed % 2}", "split": "seen"}

    def oracle(self, rng: np.random.Generator) -> np.ndarray:
        return np.array([0.3 * (1 - self.x) + 0.01 * rng.normal(), 0.04])

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.executed = action
        self.x, self.t = self.x + float(action[0]), self.t + 1
        there = self.x > 0.8 and self.seed % 5 != 0
        return self._observe(), float(there), there, self.t >= 30, {"success": there}

    def _observe(self) -> dict[str, Any]:
        times = {"front": 0.1 * self.t, "state": 0.1 * self.t}
        image = np.full((4, 4, 3), self.t, np.uint8)
        return Observation(times, {"front": image}, np.array([self.x], np.float32), "go").to_nested()


class Raising(Toy):
    def __init__(self) -> None:
        super().__init__(broken="raises")


class Dying(Toy):
    def __init__(self) -> None:
        super().__init__(broken="dies")


def first(count: int, workers: int, **options: Any) -> list[Attempt]:
    with closing(attempts(Toy, itertools.count(), workers=workers, **options)) as stream:
        return list(itertools.islice(stream, count))


def test_attempts_come_in_seed_order_and_equal_for_any_number_of_workers() -> None:
    one, three = first(12, 1, noise=0.2), first(12, 3, noise=0.2)
    assert [a.seed for a in one] == [a.seed for a in three] == list(range(12))
    for a, b in zip(one, three, strict=True):
        assert (a.success, a.task) == (a.seed % 5 != 0, f"task{a.seed % 2}")
        assert (b.success, b.task, b.steps) == (a.success, a.task, a.steps)
        assert (a.episode is None) == (b.episode is None) == (not a.success)
        if a.episode is not None and b.episode is not None:
            a.episode.check()
            for path, column in a.episode.columns.items():
                np.testing.assert_array_equal(column, b.episode.columns[path], err_msg=path)


def test_a_finite_run_ends_by_itself_and_keeps_failures_on_demand() -> None:
    got = list(attempts(Toy, range(6), workers=2, keep_failures=True, provenance={"extra": 1}))
    assert [a.seed for a in got] == list(range(6))
    episodes = [a.episode for a in got if a.episode is not None]
    assert [e.success for e in episodes] == [False, True, True, True, True, False]
    assert episodes[2].provenance == {
        "seed": 2, "task": "task0", "split": "seen", "oracle": "toy-1", "noise": 0.0, "extra": 1,
    }  # fmt: skip


def test_noise_disturbs_what_is_executed_and_not_what_is_stored() -> None:
    np.testing.assert_array_equal(noise_scale(BODY, 0.3), [0.6, 0.0])
    env, differ = Toy(), 0
    for seed in (1, 2, 3, 4):
        clean, noisy, again = (demonstrate(env, seed, noise=noise) for noise in (0.0, 0.3, 0.3))
        positions = noisy.columns["observation.state"]
        np.testing.assert_array_equal(positions, again.columns["observation.state"])
        differ += not np.array_equal(clean.columns["observation.state"], positions)
        # What is stored is the expert's answer to where it is: 0.3 of the way, give or take its own small tremble.
        np.testing.assert_allclose(noisy.columns["action"][:, 0], 0.3 * (1 - positions[:, 0]), atol=0.06)
        np.testing.assert_array_equal(noisy.columns["action"][:, 1], np.float32(0.04))
    assert differ


class Idle:
    """A student that stays where it is."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    def init(self, spec: EnvSpec, seeds: Any) -> Any:
        return ()

    def act(self, observations: Any, memory: Any, **_: Any) -> Any:
        [o] = observations
        rows = np.zeros((2, self.spec.action_dim), np.float32)
        return [ActionChunk(rows, o.time + self.spec.control_dt * np.arange(1, 3), o.time)], memory, {}


def test_a_student_acts_in_turns_and_the_experts_answers_are_stored() -> None:
    acted, turns = 0, 0
    for seed in range(1, 60, 5):
        episode, again = (demonstrate(Toy(), seed, student=Idle(BODY)) for _ in range(2))
        x = episode.columns["observation.state"][:, 0]
        np.testing.assert_array_equal(x, again.columns["observation.state"][:, 0])
        np.testing.assert_allclose(episode.columns["action"][:, 0], 0.3 * (1 - x), atol=0.06)
        stays = np.diff(x) == 0
        for begin in range(0, len(stays), TURN):
            assert stays[begin : begin + TURN].all() or not stays[begin : begin + TURN].any()
            acted, turns = acted + bool(stays[begin]), turns + 1
    assert 0.2 < acted / turns < 0.8
    with pytest.raises(SpecError):
        demonstrate(Toy(), 1, student=Idle(replace(BODY, control_dt=0.3)))


def test_a_workers_exception_arrives_with_its_seed_and_trace() -> None:
    with pytest.raises(WayhandError, match=r"seed 3: ValueError: seed three\n(.|\n)*in reset"):
        list(attempts(Raising, range(6), workers=2))


def test_a_workers_death_is_said() -> None:
    with pytest.raises(WayhandError, match=r"died at seed 3\n  got:      exit code 9"):
        list(attempts(Dying, range(6), workers=2))


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The command's own configuration, with the toy where its default environment is."""
    folder = tmp_path / "conf"
    (folder / "env/tabletop").mkdir(parents=True)
    shutil.copy(compose.CONF / "collect.yaml", folder)
    (folder / "env/tabletop/demo.yaml").write_text("_target_: toy\n")
    return folder


def use_toy(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(compose, "CONF", folder)
    patch.setattr(collect, "partial", lambda *_: Toy)
    patch.setattr(collect, "bind", lambda _: None)


@pytest.fixture
def toy(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(conf, monkeypatch)


def arguments(out: Path, *more: str) -> list[str]:
    return [f"out={out}", "episodes=7", *more]


def content(out: Path) -> tuple[str, list[int]]:
    dataset = collect.Dataset(out)
    return dataset.hash(), [dataset.provenance(i)["seed"] for i in range(len(dataset))]


@pytest.mark.usefixtures("toy")
def test_the_first_successes_are_kept_and_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    for workers in (1, 3):
        assert main(arguments(tmp_path / str(workers), f"workers={workers}")) == 0
    want, seeds = content(tmp_path / "1")
    assert seeds == [1, 2, 3, 4, 6, 7, 8]
    assert content(tmp_path / "3") == (want, seeds)


@pytest.mark.usefixtures("toy")
def test_continued_in_pieces_equals_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for episodes in (2, 4, 7, 7):
        assert main([f"out={tmp_path / 'pieces'}", f"episodes={episodes}"]) == 0
    assert main(arguments(tmp_path / "whole")) == 0
    assert content(tmp_path / "pieces") == content(tmp_path / "whole")
    assert "wayhand train" in capsys.readouterr().out


@pytest.mark.usefixtures("toy")
def test_a_dataset_made_otherwise_is_not_continued(tmp_path: Path) -> None:
    assert main(arguments(tmp_path / "a")) == 0
    with pytest.raises(ConfigError, match="another 'noise'"):
        main(arguments(tmp_path / "a", "episodes=9", "noise=0.5"))


def test_the_point_to_resume_at(tmp_path: Path) -> None:
    assert resume_point(tmp_path / "absent", {"first_seed": 7}) == (0, 7)


@pytest.mark.parametrize("override", ["episodes=0", "workers=0", "seed=-1", "noise=-1", "keep=some", "workers=two"])
def test_senseless_values_are_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        main(arguments(tmp_path / "x", override))
    assert not (tmp_path / "x").exists()


# --- interruptions ---------------------------------------------------------------------------------------------

PROGRAM = """
import signal
import sys
from pathlib import Path
import pytest
from test_collect import use_toy
from wayhand.scripts import cli

if __name__ == "__main__":
    # A shell without job control starts what runs in the background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    use_toy(Path({conf!r}), pytest.MonkeyPatch())
    sys.exit(cli.main(["collect", "out={out}", "episodes={episodes}", "workers=2"]))
"""


def alive(group: int) -> list[str]:
    """Processes of a group that still run; one that has ended and waits to be reaped does not count."""
    states: list[str] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                states.append(stat.parent.name)
    return states


def until(condition: Any) -> None:
    for _ in range(12000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen in two minutes")


def committed(out: Path) -> range:
    return range(len(collect.Dataset(out)) if (out / "zarr.json").exists() else 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interruption_loses_nothing_and_leaves_no_process(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    out, program = tmp_path / "data", tmp_path / "program.py"
    program.write_text(PROGRAM.format(conf=str(conf), out=out, episodes=100000))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env=env,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        try:
            until(lambda: process.poll() is not None or len(committed(out)) >= 3)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.kill()
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, said
    assert number == signal.SIGKILL or b"same command continues" in said
    until(lambda: not alive(process.pid))
    use_toy(conf, monkeypatch)
    kept = len(collect.Dataset(out))
    assert main([f"out={out}", f"episodes={kept + 5}"]) == 0
    assert main([f"out={tmp_path / 'whole'}", f"episodes={kept + 5}"]) == 0
    assert content(out) == content(tmp_path / "whole")


def test_a_real_world_gives_the_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        main(
            [f"out={out}", "env=tabletop/reach", "env.image_size=32", "episodes=3", f"workers={workers}", "noise=0.05"]
        )
    assert content(tmp_path / "1") == content(tmp_path / "2")
