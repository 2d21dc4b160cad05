"""LeRobot's side of the loader benchmark; runs in LeRobot's own environment (Python ≥ 3.12, `lerobot[dataset]`).

    python lerobot_peer.py FOLDER BATCH CHUNK BATCHES

Exports the episodes in FOLDER (`front`, `wrist`, `state`, `action`, `ends` as .npy) with LeRobot's writer at its
defaults (video), then reads BATCHES random batches for every line on the standard input and prints the seconds.
"""

import logging
import sys
import time
from pathlib import Path

import lerobot
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 20
CAMERAS = ("front", "wrist")


def export(folder: Path) -> Path:
    arrays = {p.stem: np.load(p, mmap_mode="r") for p in folder.glob("*.npy")}
    size = arrays["front"].shape[1:]
    features = {
        f"observation.images.{c}": {"dtype": "video", "shape": size, "names": ["height", "width", "channel"]}
        for c in CAMERAS
    }
    for name, column in (("observation.state", "state"), ("action", "action")):
        n = arrays[column].shape[1]
        features[name] = {"dtype": "float32", "shape": (n,), "names": [f"e{i}" for i in range(n)]}
    root = folder / "lerobot"
    dataset = LeRobotDataset.create("local/bench", FPS, features, root=root)
    start = 0
    for end in arrays["ends"]:
        for i in range(start, end):
            frame = {f"observation.images.{c}": arrays[c][i] for c in CAMERAS}
            dataset.add_frame(
                {**frame, "observation.state": arrays["state"][i], "action": arrays["action"][i], "task": "pick"}
            )
        dataset.save_episode()
        start = end
    dataset.finalize()
    return root


def main() -> None:
    logging.disable(logging.WARNING)
    folder, batch, chunk, batches = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    root = export(folder)
    frames = len(np.load(folder / "action.npy", mmap_mode="r"))
    stored = sum(p.stat().st_size for p in root.rglob("*.mp4"))
    dataset = LeRobotDataset(
        "local/bench", root=root, delta_timestamps={"action": [k / FPS for k in range(chunk)]}, return_uint8=True
    )

    # Workers start before this process decodes anything: they would share the position of its open decoders.
    loaders = {
        workers: torch.utils.data.DataLoader(
            dataset,
            batch,
            sampler=torch.utils.data.RandomSampler(dataset, num_samples=batch * batches),
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for workers in (2, 0)
    }

    def seconds(workers: int) -> float:
        begin = time.perf_counter()
        for _ in loaders[workers]:
            pass
        return time.perf_counter() - begin

    rates = {w: min(seconds(w), seconds(w)) for w in loaders}
    workers = min(rates, key=rates.__getitem__)
    print(f"peer: {stored / frames / len(CAMERAS)}", flush=True)
    print(f"peer: lerobot {lerobot.__version__}, torch {torch.__version__}, {workers} DataLoader workers", flush=True)
    for _ in sys.stdin:
        print(f"peer: {seconds(workers)}", flush=True)


if __name__ == "__main__":
    main()
