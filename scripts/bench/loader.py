"""How fast random training batches come out of a dataset, against the peers on the same files in the same run.

    python scripts/bench/loader.py [size=224] [frames=1200] [rounds=7] [cores=0] [codecs=lz4,zstd,raw]
                                   [lerobot=/path/to/an/environment/bin/python]

A batch is 32 random samples of two cameras, the state and a chunk of 50 actions; the page cache is warm. The peers
keep state and actions in memory and share our index maths, so what is compared is reading images alone: zarr-python by
one index per frame (an orthogonal selection per camera is slower), tensorstore by one index-array read per camera, both
cameras in flight at once. LeRobot reads its own default (video) export of the same episodes through its
`LeRobotDataset` and a `DataLoader`, in an environment of its own. Rounds are interleaved; a ratio is taken within a
round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wayhand.datasets.store import Dataset, create
from wayhand.datasets.window import WindowSampler
from wayhand.vla.contract import ActionGroup, Camera, Element, EnvSpec, Episode, EpisodeBuilder, Observation

BATCH, CHUNK, BATCHES = 32, 50, 10
CAMERAS = ("front", "wrist")
Round = Callable[[int], None]


def main(argv: list[str]) -> int:
    options = {"size": "224", "frames": "1200", "rounds": "7", "cores": "0", "codecs": "lz4,zstd,raw", "lerobot": ""}
    options |= dict(a.split("=", 1) for a in argv)
    size, frames, rounds, cores = (int(options[k]) for k in ("size", "frames", "rounds", "cores"))
    if cores:
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    with tempfile.TemporaryDirectory() as folder:
        source, episodes = make_episodes(size, frames)
        print(f"{machine()}; {source}, {size}²; {BATCH} samples × {len(CAMERAS)} cameras + {CHUNK} actions a batch")
        exported = Path(folder) / "episodes"
        for codec in options["codecs"].split(","):
            path = Path(folder) / codec
            with create(path, episodes[0].spec, codec=codec, durable=False) as writer:
                for episode in episodes:
                    writer.append(episode)
            compare(codec, path, rounds, lerobot(options["lerobot"], episodes, exported) if codec == "lz4" else None)
    return 0


def compare(codec: str, path: Path, rounds: int, peer: Lerobot | None) -> None:
    """Print samples/s of everybody on one store, and our ratio to each peer with its quartiles."""
    dataset = Dataset(path)
    sampler = WindowSampler(dataset, chunk=CHUNK, batch_size=BATCH, cache=False)
    contenders = {"wayhand": timed(sampler.batch), **peers(path, sampler)}
    if peer is not None:
        contenders["lerobot"] = peer.seconds
    for seconds in contenders.values():
        for start in (0, BATCHES, 0):  # the pages, the chunks' checksums, the peers' pools
            seconds(start)
    times = {name: np.empty(rounds) for name in contenders}
    for i in range(rounds):
        for name, seconds in contenders.items():
            times[name][i] = seconds(i % 2 * BATCHES)
    stored = sum(f.stat().st_size for c in CAMERAS for f in (path / f"data/observation.images.{c}").iterdir())
    size = stored / dataset.frames / len(CAMERAS)
    print(f"\n{codec}: {size:,.0f} bytes per frame and camera, {sampler.threads} threads")
    for name, t in times.items():
        rate = BATCH * BATCHES / np.median(t)
        low, mid, high = np.quantile(t / times["wayhand"], (0.25, 0.5, 0.75))
        print(f"  {name:<12} {rate:>9,.0f} samples/s   wayhand ÷ it: {mid:6.2f}  (quartiles {low:.2f} … {high:.2f})")
    if peer is not None:
        print(f"  lerobot: {peer.bytes_per_frame:,.0f} bytes per frame and camera, lossy; {peer.about}")
        peer.close()


def timed(batch: Callable[[int], object]) -> Callable[[int], float]:
    def seconds(start: int) -> float:
        begin = time.perf_counter()
        for k in range(start, start + BATCHES):
            batch(k)
        return time.perf_counter() - begin

    return seconds


def peers(path: Path, sampler: WindowSampler) -> dict[str, Callable[[int], float]]:
    """zarr-python and, where it is installed, tensorstore; each checked once against our own batch."""
    low_dim = WindowSampler(sampler.datasets, chunk=CHUNK, batch_size=BATCH, images=False)
    names = [f"observation.images.{c}" for c in CAMERAS]
    out: dict[str, Callable[[int], dict[str, Any]]] = {}

    import zarr

    group = zarr.open_group(path, mode="r")
    zarrs = [group[f"data/{name}"] for name in names]

    def by_zarr(k: int) -> dict[str, Any]:
        batch = low_dim.batch(k)
        for name, array in zip(names, zarrs, strict=True):
            batch[name] = np.stack([array[i] for i in batch["index"].tolist()])  # type: ignore[index]
        return batch

    out["zarr-python"] = by_zarr
    try:
        import tensorstore as ts
    except ImportError:
        print("tensorstore is not installed, so it is not compared")
    else:
        context = ts.Context(
            {"cache_pool": {"total_bytes_limit": 1 << 20}}
        )  # shard indices stay, decoded frames do not
        opened = [
            ts.open(
                {
                    "driver": "zarr3",
                    "kvstore": {"driver": "file", "path": f"{path}/data/{name}/"},
                    "recheck_cached_data": False,
                    "recheck_cached_metadata": False,
                },
                open=True,
                context=context,
            ).result()
            for name in names
        ]

        def by_tensorstore(k: int) -> dict[str, Any]:
            batch = low_dim.batch(k)
            reads = [array[batch["index"]].read() for array in opened]
            for name, read in zip(names, reads, strict=True):
                batch[name] = read.result()
            return batch

        out["tensorstore"] = by_tensorstore
    ours = sampler.batch(0)
    for who, batch in out.items():
        theirs = batch(0)
        assert all(np.array_equal(ours[name], theirs[name]) for name in names), f"{who} reads something else"
    return {who: timed(batch) for who, batch in out.items()}


class Lerobot:
    """A process of LeRobot's environment that exports the episodes, then reads on demand."""

    def __init__(self, python: str, folder: Path) -> None:
        script = Path(__file__).with_name("lerobot_peer.py")
        self._process = subprocess.Popen(
            [python, str(script), str(folder), str(BATCH), str(CHUNK), str(BATCHES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "SVT_LOG": "1"},
        )
        self.bytes_per_frame = float(self._line())
        self.about = self._line()

    def seconds(self, start: int) -> float:
        assert self._process.stdin is not None
        print(start, file=self._process.stdin, flush=True)
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("peer: "):
                return line.removeprefix("peer: ").strip()
        raise SystemExit(f"The LeRobot process ended with code {self._process.wait()}")


def lerobot(python: str, episodes: list[Episode], folder: Path) -> Lerobot | None:
    if not python:
        return None
    folder.mkdir()
    columns = {c: np.concatenate([e.columns[f"observation.images.{c}"] for e in episodes]) for c in CAMERAS}
    for name, path in (("state", "observation.state"), ("action", "action")):
        columns[name] = np.concatenate([e.columns[path] for e in episodes])
    columns["ends"] = np.cumsum([len(e) for e in episodes])
    for name, values in columns.items():
        np.save(folder / f"{name}.npy", values)
    return Lerobot(python, folder)


def make_episodes(size: int, frames: int) -> tuple[str, list[Episode]]:
    """At least `frames` rows of rendered tabletop demonstrations, or of drawn ones where nothing can render."""
    source, stream = "rendered tabletop episodes", rendered(size)
    try:
        episodes = [next(stream)]
    except (ImportError, OSError, RuntimeError) as error:
        source, stream = f"drawn episodes ({type(error).__name__}: {error})", drawn(size)
        episodes = []
    while sum(map(len, episodes)) < frames:
        episodes.append(next(stream))
    stream.close()
    return f"{sum(map(len, episodes))} frames of {len(episodes)} {source}", episodes


def rendered(size: int) -> Iterator[Episode]:
    from wayhand.envs.tabletop.env import TabletopEnv

    env = TabletopEnv(tasks=("pick", "reach", "push"), image_size=size)
    try:
        for seed in range(10_000):
            nested, info = env.reset(seed=seed)
            builder = EpisodeBuilder(env.unwrapped.body, info["instruction"])  # type: ignore[attr-defined]
            rng, done, success = np.random.default_rng(seed), False, False
            while not done:
                action = env.unwrapped.oracle(rng)  # type: ignore[attr-defined]
                before = Observation.from_nested(nested)
                nested, reward, terminated, truncated, info = env.step(action)
                builder.add(before, action, float(reward))
                done, success = terminated or truncated, bool(info["success"])
            yield builder.finish(Observation.from_nested(nested), success, {"seed": seed})
    finally:
        env.close()


def drawn(size: int) -> Iterator[Episode]:
    """A shaded, grainy table with discs that move: compresses about as well as a render."""
    spec = EnvSpec(
        "drawn",
        0.05,
        tuple(Camera(c, size, size, size, size, size / 2, size / 2) for c in CAMERAS),
        tuple(Element(f"s{i}", "rad") for i in range(15)),
        (ActionGroup("arm", "ee_delta", tuple(Element(f"a{i}", "m") for i in range(7)), (-1.0,) * 7, (1.0,) * 7),),
    )
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    table = np.stack([120 + 60 * y, 110 + 50 * y, 100 + 40 * x], -1)
    table += np.repeat(rng.integers(-6, 7, (size, size // 4, 1)), 4, 1)
    while True:
        places, speed = rng.uniform(0.1, 0.9, (6, 2)), rng.uniform(-0.003, 0.003, (6, 2))
        colors = rng.integers(0, 256, (6, 3))
        builder = EpisodeBuilder(spec, "move the discs")
        observation = None
        for t in range(61):
            image = table.copy()
            for place, color in zip(places + speed * t, colors, strict=True):
                image[np.hypot(x - place[0], y - place[1]) < 0.08] = color
            picture = image.astype(np.uint8)
            state = rng.standard_normal(15).astype(np.float32)
            images = {"front": picture, "wrist": np.ascontiguousarray(picture[::-1])}
            times = {"front": t * 0.05, "wrist": t * 0.05, "state": t * 0.05}
            observation = Observation(times, images, state, "move the discs")
            if t < 60:
                builder.add(observation, rng.standard_normal(7), 0.0)
        assert observation is not None
        yield builder.finish(observation, True, {})


def machine() -> str:
    import platform

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
