"""The latency benchmark: every cell on the same seeds, and nothing is run twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wayhand.scripts import bench_latency
from wayhand.scripts.compose import CONF
from wayhand.scripts.latency_picture import picture
from wayhand.scripts.simulated import SimulatedBodyFactory
from wayhand.vla import checkpoint
from wayhand.vla.config import Config, compose, instantiate
from wayhand.vla.errors import ConfigError
from wayhand.vla.normalize import FIELDS, NormStats

ENV = {"_target_": "wayhand.envs.tabletop.env.TabletopEnv", "tasks": ["reach"], "cameras": [], "max_seconds": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow policy that has learned nothing, as a checkpoint."""
    torch.manual_seed(0)
    spec = SimulatedBodyFactory(env=Config(ENV)).policy_spec()
    columns = {
        path: {**{f: np.zeros(n) for f in FIELDS}, "std": np.full(n, 0.01)}
        for path, n in (("observation.state", spec.state_dim), ("action", spec.action_dim))
    }
    chosen = ["policy=flow_tiny", "policy.chunk=16", "policy.longest_delay=4", "data=x", "out=y"]
    config = compose(CONF, "train", chosen)
    stats = NormStats(columns)
    policy = instantiate(config["policy"], spec=spec, stats=stats)
    path = tmp_path_factory.mktemp("latency") / "run"
    checkpoint.save(
        path, 1, parts={"model": policy.state_dict()}, policy=config["policy"].to_dict(), specs={"panda": spec},
        statistics={"panda": stats}, config=config.to_dict(), trainer={},
    )  # fmt: skip
    return path


def test_the_benchmark_pairs_all_cells_and_continues(run: Path, tmp_path: Path) -> None:
    common = [
        f"checkpoint={run}", f"out={tmp_path}", "env=tabletop/reach", "env.cameras=[]", "+env.max_seconds=0.5",
        "modes=[synchronous,rtc_exact,rtc_trained]", "latencies_ms=[0,100]",
    ]  # fmt: skip
    assert bench_latency.main([*common, "episodes=1"]) == 0
    first = (tmp_path / bench_latency.EPISODES).read_text()
    assert bench_latency.main([*common, "episodes=2"]) == 0
    rows = [json.loads(line) for line in (tmp_path / bench_latency.EPISODES).read_text().splitlines()[1:]]
    assert len(rows) == 12 and (tmp_path / bench_latency.EPISODES).read_text().startswith(first)
    seeds = {(r["mode"], r["latency_ms"]): [] for r in rows}
    for r in rows:
        seeds[r["mode"], r["latency_ms"]].append(r["seed"])
    assert len(seeds) == 6 and len({tuple(s) for s in seeds.values()}) == 1
    cells = json.loads((tmp_path / "latency.json").read_text())["cells"]
    assert {c["episodes"] for c in cells} == {2} and all(
        c["interval"][0] <= c["rate"] <= c["interval"][1] for c in cells
    )
    with Image.open(tmp_path / "latency.png") as image:
        assert image.size[0] > 1000
    with pytest.raises(ConfigError, match="another execute"):
        bench_latency.main([*common, "episodes=2", "execute=4"])
    with pytest.raises(ConfigError, match="another guidance_limit"):
        bench_latency.main([*common, "episodes=2", "guidance_limit=2"])


def test_wrong_settings_are_said(run: Path, tmp_path: Path) -> None:
    common = [f"checkpoint={run}", f"out={tmp_path}"]
    for wrong in ("modes=[magic]", "modes=[]", "latencies_ms=[-1]", "episodes=0"):
        with pytest.raises(ConfigError):
            bench_latency.main([*common, wrong])


def test_the_picture_shows_modes_without_any_success() -> None:
    cells: list[dict[str, Any]] = [
        {"mode": mode, "latency_ms": ms, "rate": rate, "interval": (0.0, 0.5), "seconds_to_success": seconds}
        for mode, rate, seconds in (("latest", 0.0, None), ("rtc_exact", 0.2, (2.0, 1.5, 2.5)))
        for ms in (0.0, 50.0)
    ]
    image = np.asarray(picture(cells, "two seeds"))
    assert image.shape[2] == 3 and len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_a_base_is_measured_with_its_expert(tmp_path: Path) -> None:
    common = [
        "checkpoint=oracle", f"out={tmp_path}", "robot=simulated_base", "env=house/pointnav", "+env.continuous=true",
        "+env.houses=1", "+env.rooms=[2,2]", "+env.sensors=[]", "+env.distance=[1.0,1.5]", "episodes=1", "execute=2",
        "rate_hz=50", "latencies_ms=[200]",
    ]  # fmt: skip
    assert bench_latency.main([*common, "modes=[latest]"]) == 0
    assert json.loads((tmp_path / "latency.json").read_text())["cells"][0]["success"] == 1
    with pytest.raises(ConfigError, match="denoises its chunks"):
        bench_latency.main([*common, "modes=[rtc_exact]"])
    with pytest.raises(ConfigError, match="Only a simulated base has an expert"):
        bench_latency.main(["checkpoint=oracle", f"out={tmp_path / 'arm'}", "modes=[latest]"])
