"""The rollout: the same episodes however they are run, and nothing lost where something breaks."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pads import BODY, ChunkedPadsEnv, PadsEnv, ReadingPolicy

from wayhand.envs.tabletop.env import TabletopEnv
from wayhand.scripts.cli import main as wayhand
from wayhand.vla.contract import EnvSpec, Episode
from wayhand.vla.errors import ConfigError, CorruptDataError, SpecError, WayhandError
from wayhand.vla.evaluation.ablations import ABLATIONS
from wayhand.vla.evaluation.baselines import Baseline
from wayhand.vla.evaluation.records import ResultsLog, read_results
from wayhand.vla.evaluation.rollout import EpisodeRequest, EpisodeResult, rollout
from wayhand.vla.evaluation.statistics import wilson


def requests(n: int, ablation: str = "", first: int = 0) -> list[EpisodeRequest]:
    return [EpisodeRequest(first + i, {"split": "seen"}, ablation) for i in range(n)]


@pytest.fixture(scope="module")
def alone() -> list[EpisodeResult]:
    return rollout(PadsEnv, ReadingPolicy, requests(12), workers=0, execute=4)


def successes(results: Sequence[EpisodeResult]) -> int:
    return sum(r.success for r in results)


# --- the same numbers however they are computed ----------------------------------------------------------------


@pytest.mark.parametrize("environments", [2, 8])
def test_environments_do_not_change_a_bit(alone: list[EpisodeResult], environments: int) -> None:
    assert rollout(PadsEnv, ReadingPolicy, requests(12), workers=0, envs_per_worker=environments, execute=4) == alone


@pytest.mark.parametrize(("workers", "environments"), [(1, 3), (2, 2)])
def test_processes_do_not_change_a_bit(alone: list[EpisodeResult], workers: int, environments: int) -> None:
    run = rollout(PadsEnv, ReadingPolicy, requests(12), workers=workers, envs_per_worker=environments, execute=4)
    assert run == alone


def test_stepping_by_chunks_does_not_change_a_bit(alone: list[EpisodeResult]) -> None:
    assert rollout(ChunkedPadsEnv, ReadingPolicy, requests(12), workers=0, execute=4) == alone


def test_digests_tell_episodes_apart(alone: list[EpisodeResult]) -> None:
    assert len({r.digest for r in alone}) == len(alone)
    assert all(len(r.digest) == 64 for r in alone)


def test_the_order_of_requests_does_not_change_an_episode(alone: list[EpisodeResult]) -> None:
    assert rollout(PadsEnv, ReadingPolicy, requests(12)[::-1], workers=0, execute=4) == alone[::-1]


def test_more_executed_actions_mean_fewer_questions() -> None:
    short, long = (rollout(PadsEnv, ReadingPolicy, requests(1), workers=0, execute=n)[0] for n in (1, 6))
    assert short.digest != long.digest
    assert short.success and long.success


# --- episodes handed back --------------------------------------------------------------------------------------


class Sink:
    def __init__(self) -> None:
        self.episodes: list[Episode] = []

    def append(self, episode: Episode) -> None:
        self.episodes.append(episode)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sink_gets_whole_episodes_in_order(alone: list[EpisodeResult], workers: int) -> None:
    sink = Sink()
    run = rollout(ChunkedPadsEnv, ReadingPolicy, requests(6), workers=workers, envs_per_worker=2, execute=4, sink=sink)
    assert run == alone[:6]
    assert [e.provenance["seed"] for e in sink.episodes] == list(range(6))
    for episode, result in zip(sink.episodes, run, strict=True):
        episode.check()
        assert len(episode) == result.steps
        assert episode.success == result.success
        assert episode.columns["reward"].sum() == pytest.approx(result.episode_return, abs=1e-4)


# --- ablations: closed forms -----------------------------------------------------------------------------------


def test_a_policy_that_reads_and_sees_always_succeeds() -> None:
    assert successes(rollout(PadsEnv, ReadingPolicy, requests(100), workers=0)) == 100


@pytest.mark.parametrize("name", ["no_language", "no_language_blank", "no_vision"])
def test_without_words_or_sight_success_is_chance(name: str) -> None:
    results = rollout(PadsEnv, ReadingPolicy, requests(400, name), workers=0)
    low, high = wilson(successes(results), len(results), 0.999)
    assert low <= 1 / results[0].compatible <= high


def test_ablated_words_are_told_and_recorded() -> None:
    drawn = rollout(PadsEnv, ReadingPolicy, requests(40, "no_language"), workers=0)
    assert {r.told for r in drawn} == {"go to red", "go to blue"}
    assert all(r.success == (r.told == r.instruction) for r in drawn)
    (blank,) = rollout(PadsEnv, ReadingPolicy, requests(1, "no_language_blank"), workers=0)
    assert (blank.told, blank.instruction[:6]) == ("", "go to ")


def test_grounding_swaps_the_target_of_the_same_scene() -> None:
    plain = rollout(PadsEnv, ReadingPolicy, requests(20), workers=0)
    swapped = rollout(PadsEnv, ReadingPolicy, requests(20, "grounding"), workers=0)
    assert all(a.chosen != b.chosen and b.chosen == b.target for a, b in zip(plain, swapped, strict=True))
    assert successes(swapped) == 20


def test_the_oracle_acts_where_no_policy_is_given() -> None:
    assert successes(rollout(PadsEnv, None, requests(10), workers=0)) == 10


def test_an_environment_without_alternatives_cannot_lose_its_language() -> None:
    with pytest.raises(SpecError, match="alternatives"):
        rollout(partial(PadsEnv, alternatives=False), ReadingPolicy, requests(2, "no_language"), workers=0)


def test_an_unknown_ablation_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'no_vision'"):
        rollout(PadsEnv, ReadingPolicy, requests(1, "no_visoin"), workers=0)


# --- what breaks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_an_environment_that_raises_costs_its_own_episode(alone: list[EpisodeResult], workers: int) -> None:
    env = partial(PadsEnv, raises=(3,))
    run = rollout(env, ReadingPolicy, requests(12), workers=workers, envs_per_worker=2, execute=4)
    assert run[3].error == "RuntimeError: the simulator diverged"
    assert (run[3].success, run[3].task, run[3].split) == (False, "run", "seen")
    assert run[:3] + run[4:] == alone[:3] + alone[4:]


def test_a_process_that_dies_costs_the_episode_that_killed_it(alone: list[EpisodeResult]) -> None:
    env = partial(PadsEnv, dies=(2,))
    run = rollout(env, ReadingPolicy, requests(6), workers=1, envs_per_worker=3, execute=4)
    assert run[2].error == "the process died (exit code 9)"
    assert run[:2] + run[3:] == alone[:2] + alone[3:6]


def test_a_policy_that_fails_on_one_row_costs_that_episode() -> None:
    policy = partial(ReadingPolicy, fails_below=-0.5)
    run = rollout(PadsEnv, policy, requests(12), workers=0, envs_per_worker=4, execute=4)
    whole = rollout(PadsEnv, ReadingPolicy, requests(12), workers=0, execute=4)
    failed = [r.error != "" for r in run]
    assert 0 < sum(failed) < 12
    assert all(a == b for a, b, bad in zip(run, whole, failed, strict=True) if not bad)


def not_a_number(spec: object) -> ReadingPolicy:
    policy = ReadingPolicy(BODY)
    policy._side = lambda observation, rng: np.nan  # type: ignore[method-assign,assignment,return-value]
    return policy


def test_actions_that_are_not_finite_never_reach_the_environment() -> None:
    (result,) = rollout(PadsEnv, not_a_number, requests(1), workers=0)
    assert "not finite" in result.error


def no_policy(spec: object) -> ReadingPolicy:
    raise FileNotFoundError("weights")


def test_a_policy_that_cannot_be_built_is_an_error_not_a_score() -> None:
    with pytest.raises(WayhandError, match="FileNotFoundError: weights"):
        rollout(PadsEnv, no_policy, requests(2), workers=1)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("name", ["workers", "envs_per_worker", "execute"])
def test_sizes_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        rollout(PadsEnv, ReadingPolicy, requests(1), **{name: -1})


# --- results that survive ---------------------------------------------------------------------------------------

HEAD = {"protocol": "toy", "policy": "reading"}


class Interrupt:
    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, result: EpisodeResult) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_uninterrupted(alone: list[EpisodeResult], tmp_path: Path, workers: int) -> None:
    path = tmp_path / "results.jsonl"
    run = partial(rollout, PadsEnv, ReadingPolicy, requests(12), workers=workers, envs_per_worker=2, execute=4)
    with pytest.raises(KeyboardInterrupt), ResultsLog(path, HEAD) as log:
        run(log=log, on_result=Interrupt(5))
    assert not multiprocessing.active_children()
    with path.open("ab") as file:
        file.write(b'{"seed": 5, "torn')
    fresh: list[EpisodeResult] = []
    with ResultsLog(path, HEAD) as log:
        assert len(log.results) == 5
        assert run(log=log, on_result=fresh.append) == alone
    assert len(fresh) == 7
    head, results = read_results(path)
    assert (head, results) == (HEAD, alone)


def test_finished_results_are_not_run_again(tmp_path: Path) -> None:
    with ResultsLog(tmp_path / "r.jsonl", HEAD) as log:
        rollout(PadsEnv, ReadingPolicy, requests(4), workers=0, log=log)
        rollout(PadsEnv, no_policy, requests(4), workers=1, log=log)
        rollout(PadsEnv, ReadingPolicy, requests(4, "grounding"), workers=0, log=log)
    assert len(read_results(tmp_path / "r.jsonl")[1]) == 8


def test_results_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    ResultsLog(path, HEAD).close()
    with pytest.raises(ConfigError, match="differ in policy"):
        ResultsLog(path, {**HEAD, "policy": "another"})


def test_a_spoilt_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(HEAD) + '\n{"seed": 1\n{}\n')
    with pytest.raises(CorruptDataError, match="line 2"):
        ResultsLog(path, HEAD)


def test_results_are_json_types(alone: list[EpisodeResult]) -> None:
    for result in alone:
        assert EpisodeResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


# --- the tabletop ----------------------------------------------------------------------------------------------

TABLE = partial(TabletopEnv, tasks=("reach", "push"), image_size=32, max_seconds=0.6)


def shaking(spec: EnvSpec) -> Baseline:
    return Baseline(spec, kind="random")


def test_tabletop_episodes_are_bit_equal_for_1_2_and_8_environments() -> None:
    asked = [EpisodeRequest(1_000_000 + i, {"split": "seen"}, ("", "no_language")[i % 2]) for i in range(8)]
    run = partial(rollout, TABLE, shaking, asked, workers=0)
    alone = run()
    assert len({r.digest for r in alone}) == 8
    assert not any(r.error for r in alone)
    assert run(envs_per_worker=2) == alone
    assert run(envs_per_worker=8) == alone
    assert run(sink=Sink()) == alone


def test_the_tabletop_offers_what_ablations_need() -> None:
    with closing(TABLE()) as env:
        for seed in range(6):
            _, plain = env.reset(seed=seed)
            _, swapped = env.reset(seed=seed, options={"swap": True})
            assert len(plain["alternatives"]) == plain["compatible"] >= 2
            assert len(set(plain["alternatives"].values())) == plain["compatible"]
            assert plain["alternatives"][plain["target"]] == plain["instruction"]
            assert plain["alternatives"] == swapped["alternatives"]
            assert plain["target"] != swapped["target"]


def test_the_command_measures_resumes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["eval", "checkpoint=oracle", "env=tabletop/reach", "workers=1", "videos=1", f"out={out}"]
    assert wayhand([*command, "episodes=1"]) == 0
    assert wayhand([*command, "episodes=2", "ablations=[grounding]"]) == 0
    assert "Continuing: 1 episodes" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    shown = [(r["split"], r["ablation"], r["n"], r["successes"]) for r in summary["rows"]]
    assert shown == [("seen", "", 2, 2), ("seen", "grounding", 2, 2)]
    assert summary["replays"].startswith("2 of 2 ")
    assert (out / "report.html").exists()
    assert (out / "summary.png").exists()
    assert wayhand([*command, "checkpoint=zero"]) == 2


# --- house rules ------------------------------------------------------------------------------------------------


def test_rollout_does_not_import_the_heavy_libraries() -> None:
    code = (
        "import sys, wayhand.vla.evaluation.rollout\n"
        "print([m for m in ('torch', 'transformers', 'hydra', 'mujoco', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_ablation_says_what_it_does() -> None:
    assert all(a.summary for a in ABLATIONS.values())
