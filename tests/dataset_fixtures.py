"""Small episodes with known content, and a process that writes them until it is killed.

python dataset_fixtures.py PATH START    append episode START, START + 1, … and print each index once committed
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from wayhand.datasets.store import Dataset, create, open_for_append
from wayhand.vla.contract import ActionGroup, ArraySpec, Camera, Element, EnvSpec, Episode, Observation

SIZE = 40  # 40 × 40 × 3 bytes exceed the size from which rows are stored as frames


def make_spec(
    *, depth: bool = False, embodiment: str = "toy", cameras: tuple[str, ...] = ("front", "wrist")
) -> EnvSpec:
    def camera(name: str) -> Camera:
        return Camera(name, SIZE, SIZE, 50, 50, SIZE / 2, SIZE / 2, depth=depth, semantics=depth)

    return EnvSpec(
        embodiment,
        0.05,
        tuple(map(camera, cameras)),
        (Element("x", "m"), Element("y", "m"), Element("angle", "rad")),
        (
            ActionGroup("arm", "ee_delta", (Element("dx", "m"), Element("dy", "m")), (-1, -1), (1, 1), "world"),
            ActionGroup("gripper", "joint_position", (Element("width", "m"),), (0,), (0.08,)),
        ),
        {"ee_target": ArraySpec((7,), "float32"), "holding": ArraySpec((), "bool")},
    )


def make_episode(spec: EnvSpec, number: int, *, steps: int | None = None) -> Episode:
    """Episode `number`: its content follows from the number alone; 1 to 9 steps."""
    rng = np.random.default_rng(number)
    length = steps or 1 + number * 7 % 9
    columns: dict[str, np.ndarray] = {}
    for path, array in spec.columns().items():
        shape = (length + 1, *array.shape)
        if array.dtype == "uint8":
            columns[path] = np.repeat(rng.integers(0, 256, (*shape[:2], 1, 3), np.uint8), shape[2], axis=2)
        elif array.dtype == "bool":
            columns[path] = rng.random(shape) < 0.5
        elif array.dtype == "int32":
            columns[path] = rng.integers(-5, 9, shape, np.int32)
        else:
            columns[path] = rng.standard_normal(shape).astype(array.dtype)
    instruction = f"take the cube number {number} – né"
    last = {k: v[-1] for k, v in columns.items() if k.startswith("observation.")}
    return Episode(
        spec,
        instruction,
        {k: v[:-1] for k, v in columns.items()},
        Observation.from_columns(last, instruction),
        (True, False, None)[number % 3],
        {"seed": number, "task": ("pick", "place")[number % 2]},
    )


def fill(path: Path, numbers: range, spec: EnvSpec | None = None, **layout: object) -> Dataset:
    spec = spec or make_spec()
    with create(path, spec, durable=False, **layout) as writer:  # type: ignore[arg-type]
        for number in numbers:
            writer.append(make_episode(spec, number))
    return Dataset(path)


def assert_same(got: Episode, want: Episode) -> None:
    """Bit-equal, with dtypes."""
    assert got.instruction == want.instruction
    assert got.success is want.success
    assert got.provenance == want.provenance
    assert set(got.columns) == set(want.columns)
    for path, column in want.columns.items():
        np.testing.assert_array_equal(got.columns[path], column, err_msg=path)
        assert got.columns[path].dtype == column.dtype
    ours, theirs = got.final.columns(), want.final.columns()
    assert set(ours) == set(theirs)
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


def write_forever(path: Path, start: int) -> None:
    spec = make_spec()
    with create(path, spec, shard_frames=8) if not path.exists() else open_for_append(path) as writer:
        print("ready", flush=True)
        for number in range(start, sys.maxsize):
            os.write(1, b"%d\n" % writer.append(make_episode(spec, number)))


if __name__ == "__main__":
    write_forever(Path(sys.argv[1]), int(sys.argv[2]))
