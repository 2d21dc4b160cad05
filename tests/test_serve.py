"""`wayhand serve`: what the command serves, to whom, and how it ends; and a robot whose policy is served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from serving import SPEC, TOKEN, WAIT, observation

from wayhand.scripts.serve import ServeConfig, load_policy, main
from wayhand.vla.bridge.client import RemotePolicy
from wayhand.vla.bridge.local import default_path
from wayhand.vla.contract import EpisodeBuilder, Observation
from wayhand.vla.errors import ConfigError, RobotError

RUN = "import sys; from wayhand.scripts.serve import main; from wayhand.vla.errors import WayhandError\n"
RUN += "try: sys.exit(main(sys.argv[1:]))\nexcept WayhandError as e: print(e); sys.exit(1)"


@contextmanager
def command(tmp_path: Path, *arguments: str, token: str | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address it says it listens on."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k != "WAYHAND_TOKEN"}
    env |= {"XDG_RUNTIME_DIR": str(runtime), "COLUMNS": "400", **({"WAYHAND_TOKEN": token} if token else {})}
    line = [sys.executable, "-c", RUN, "port=0", *arguments]
    child = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    try:
        yield child, child.stdout.readline().strip().removeprefix("listening on ")
    finally:
        child.kill()
        child.communicate()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from wayhand.datasets.writer import create

    builder = EpisodeBuilder(SPEC, "push")
    for k in range(6):
        builder.add(observation(k, time=0.05 * k), np.array([k, -k], np.float32), 0.0)
    path = tmp_path_factory.mktemp("data") / "set"
    with create(path, SPEC) as writer:
        writer.append(builder.finish(observation(6, time=0.3), True, {}))
    return path


def test_a_recorded_episode_is_served_on_both_ways_and_sigterm_ends_it(tmp_path: Path, dataset: Path) -> None:
    with command(tmp_path, "policy=replay", f"data={dataset}", "chunk=3", "local=true") as (child, address):
        assert child.stdout is not None
        local = child.stdout.readline().strip().removeprefix("listening on ")
        assert local.startswith(f"local:{tmp_path}") and child.stdout.readline().strip() == "ready"
        for where in (address, local):
            with RemotePolicy(address=where, timeout=WAIT, patience=WAIT) as policy:
                memory = policy.init(SPEC, [0])
                for moment, rows in ((5.0, [0, 1, 2]), (5.1, [2, 3, 4])):
                    chunks, memory, _ = policy.act([observation(time=moment)], memory, rng=[])
                    assert chunks[0].actions[:, 0].tolist() == rows
        child.send_signal(signal.SIGTERM)
        assert child.wait(WAIT) == 0 and "closed" in child.stdout.read()
        assert list(tmp_path.rglob("*.sock")) == []


def test_a_checkpoint_is_served_as_it_answers_here(tmp_path: Path) -> None:
    from learning_fixtures import make_spec

    from wayhand.vla import checkpoint
    from wayhand.vla.learning.policy import TorchPolicy

    run = saved(tmp_path / "run-of-training")
    here, seed = TorchPolicy.from_checkpoint(run), 3
    spec = make_spec()
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    seen = Observation({"front": 1.0, "state": 1.0}, {"front": image}, np.array([0.1, -0.2], np.float32), "push")
    want = here.act([seen], here.init(spec, [seed]), rng=[np.random.default_rng([seed, 2])])[0][0]
    with command(tmp_path, f"policy={run}", "local=false") as (_, address):
        statistics = checkpoint.load(run).stats.sha256()
        with RemotePolicy(address=address, statistics=statistics, timeout=WAIT, patience=WAIT) as policy:
            got = policy.act([seen], policy.init(spec, [seed]), rng=[])[0][0]
    assert np.array_equal(want.actions, got.actions) and np.array_equal(want.times, got.times)


def saved(run: Path) -> Path:
    """A checkpoint of an untrained policy."""
    from learning_fixtures import make_spec, make_stats

    from wayhand.scripts.compose import CONF
    from wayhand.vla import checkpoint
    from wayhand.vla.config import compose, instantiate

    recipe = compose(CONF, "train", ["policy=regression_tiny", "data=x", "out=y"])["policy"].to_dict()
    spec, stats = make_spec(), make_stats(make_spec())
    policy = instantiate(recipe, spec=spec, stats=stats)
    parts = {"model": policy.state_dict()}
    names = {spec.embodiment: spec}, {spec.embodiment: stats}
    checkpoint.save(run, 1, parts=parts, policy=recipe, specs=names[0], statistics=names[1], config={}, trainer={})
    return run


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["host=0.0.0.0"], "WAYHAND_TOKEN"),
        (["host=0.0.0.0", "token_file=/nonexistent"], "cannot be read"),
        (["once=true"], "needs a token"),
        (["certificate=a.pem"], "certificate and its key"),
        (["certificate=/a.pem", "key=/b.pem"], "openssl req"),
        (["port=99999"], "out of range"),
        (["clients=0"], "too small"),
        (["names={observation/image: observation.images.nowhere}"], "'observation/image' is mapped"),
    ],
    ids=str,
)
def test_a_server_that_would_be_unsafe_or_wrong_does_not_start(
    arguments: list[str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAYHAND_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=word):
        main(["policy=null", "env=tabletop/reach", *arguments])


def test_the_exit_code_says_that_it_did_not_start(tmp_path: Path, dataset: Path) -> None:
    with command(tmp_path, "policy=replay", f"data={dataset}", "host=0.0.0.0") as (child, said):
        assert "could drive the robot" in said and child.wait(WAIT) != 0


def test_any_address_is_served_with_a_token(tmp_path: Path, dataset: Path) -> None:
    with command(tmp_path, "policy=replay", f"data={dataset}", "host=0.0.0.0", token=TOKEN) as (_, address):
        port = address.rpartition(":")[2]
        with pytest.raises(ConfigError, match="wants a token"):
            RemotePolicy(address=f"127.0.0.1:{port}", timeout=WAIT, patience=WAIT)
        with RemotePolicy(address=f"127.0.0.1:{port}", token=TOKEN, timeout=WAIT, patience=WAIT) as policy:
            assert policy.spec.embodiment and policy.terms.horizon == 16


def config(**change: object) -> ServeConfig:
    values = dict(env=None, checkpoint="replay", host="127.0.0.1", port=0, local=False, data=None, episode=0, chunk=4,
                  names=None, token_file=None, once=False, certificate=None, key=None, clients=1, max_mb=1.0,
                  device="cpu", fast="plain", threads=1, log="warning")  # fmt: skip
    return ServeConfig(**{**values, **change})  # type: ignore[arg-type]


def test_a_replay_needs_an_episode_that_exists(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="needs a dataset"):
        load_policy(config())
    with pytest.raises(ConfigError, match="no such episode"):
        load_policy(config(data=dataset, episode=1))
    assert load_policy(config(data=dataset))[0].spec.diff(SPEC) == []


def test_a_policy_that_cannot_answer_ends_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from serving import Echo

    from wayhand.scripts import serve

    class Dead(Echo):
        def act(self, *_: object, **__: object) -> object:
            raise ValueError("no")

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(serve, "load_policy", lambda cfg: (Dead(), ""))
    try:
        with pytest.raises(RobotError, match="cannot answer"):
            main(["policy=null", "port=0", "local=false"])
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_the_local_socket_is_named_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert str(default_path(8000)) == "/run/user/7/wayhand/serve-8000.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_path(8000).name == "serve-8000.sock" and str(os.getuid()) in str(default_path(8000).parent)
