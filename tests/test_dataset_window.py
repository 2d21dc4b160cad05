"""The window sampler is pure index maths: closed forms for windows, one visit per sample and epoch, any partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import fill, make_episode, make_spec
from hypothesis import given
from hypothesis import strategies as st

from wayhand.datasets.store import Dataset
from wayhand.datasets.window import WindowSampler
from wayhand.vla.errors import DataError, SpecError

FRONT = "observation.images.front"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return fill(tmp_path_factory.mktemp("first") / "d", range(7), shard_frames=8)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return fill(tmp_path_factory.mktemp("second") / "d", range(20, 24), codec="zstd", chunk_frames=4)


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(
        a[k] == b[k] if isinstance(a[k], list) else bool(np.array_equal(a[k], b[k])) for k in a
    )


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_window_is_its_closed_form(first: Dataset, second: Dataset, history: int, cache: bool, threads: int):
    sampler = WindowSampler(
        [first, second], chunk=4, batch_size=13, history=history, cache=cache, threads=threads, prefetch=0
    )
    for k in range(2 * len(sampler)):
        batch = sampler.batch(k)
        for b, index in enumerate(batch["index"].tolist()):
            path, number, t = sampler.locate(index)
            episode = make_episode(first.spec, number if path == first.path else 20 + number)
            last = len(episode) - 1
            steps = [min(t + i, last) for i in range(4)]
            past = [max(t + i, 0) for i in range(1 - history, 1)]
            np.testing.assert_array_equal(batch["action"][b], episode.columns["action"][steps])
            np.testing.assert_array_equal(batch["action.is_pad"][b], [t + i > last for i in range(4)])
            assert batch["task"][b] == episode.instruction
            for column in (FRONT, "observation.images.wrist", "observation.state", "observation.extras.holding"):
                want = episode.columns[column][past if history > 1 else t]
                np.testing.assert_array_equal(batch[column][b], want)
                assert batch[column].dtype == want.dtype
    assert batch["action.is_pad"].dtype == bool


@given(batch_size=st.integers(1, 40), world=st.integers(1, 5), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_every_sample_once_per_epoch_and_ranks_partition_it(
    first: Dataset, second: Dataset, batch_size: int, world: int, seed: int, epoch: int
):
    ranks = [
        WindowSampler(
            [first, second], chunk=2, batch_size=batch_size, seed=seed, images=False, rank=r, world=world, prefetch=0
        )
        for r in range(world)
    ]
    n = ranks[0].samples
    assert n == first.frames + second.frames
    begin, end = epoch * n, (epoch + 1) * n
    numbers = range(begin // batch_size, -(-end // batch_size))
    stream = np.concatenate([ranks[j % world].indices(j // world) for j in numbers])
    visited = stream[begin - numbers.start * batch_size :][:n]
    assert sorted(visited.tolist()) == list(range(n))
    assert len(ranks[0]) == -(-n // (batch_size * world))


def test_a_batch_is_a_pure_function_of_seed_and_number(first: Dataset):
    a, b = (WindowSampler(first, chunk=3, batch_size=8, seed=5) for _ in range(2))
    backwards = {k: a.batch(k) for k in reversed(range(9))}
    for k, batch in zip(range(9), b, strict=False):
        assert same(batch, backwards[k])
    resumed = b.stream(4, 9)
    for k in range(4, 9):
        assert same(next(resumed), backwards[k])
    assert next(resumed, None) is None
    other = WindowSampler(first, chunk=3, batch_size=8, seed=6)
    assert not same(other.batch(0), backwards[0])


def test_batches_that_are_kept_stay_as_they_were(first: Dataset):
    sampler = WindowSampler(first, chunk=3, batch_size=4)
    stream = sampler.stream()
    kept = [next(stream) for _ in range(30)]
    stream.close()
    views = [batch[FRONT][1:2] for batch in kept[10:]]
    copies = [view.copy() for view in views]
    del kept
    for k in range(30):
        sampler.batch(k + 100)
    for view, copy in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, copy)


def test_unshuffled_rows_come_in_order(first: Dataset):
    sampler = WindowSampler(first, chunk=1, batch_size=first.frames, shuffle=False, prefetch=0)
    batch = sampler.batch(0)
    np.testing.assert_array_equal(batch["action"][:, 0], first.read("action"))
    np.testing.assert_array_equal(batch[FRONT], first.read(FRONT))


def test_weights_draw_datasets_in_proportion(first: Dataset, second: Dataset):
    options = {"chunk": 1, "batch_size": 400, "images": False, "prefetch": 0}
    sampler = WindowSampler([first, second], weights=[3, 1], **options)  # type: ignore[arg-type]
    share = np.mean(np.concatenate([sampler.indices(k) for k in range(10)]) < first.frames)
    assert abs(share - 0.75) < 0.04
    only = WindowSampler([first, second], weights=[0, 1], **options)  # type: ignore[arg-type]
    assert only.indices(3).min() >= first.frames
    np.testing.assert_array_equal(sampler.indices(7), sampler.indices(7))


def test_images_can_be_left_out_and_columns_chosen(first: Dataset):
    blind = WindowSampler(first, chunk=1, batch_size=2, images=False).batch(0)
    assert not any(k.startswith("observation.images") for k in blind)
    chosen = WindowSampler(first, chunk=1, batch_size=2, columns=["observation.state"]).batch(0)
    assert [k for k in chosen if k.startswith("observation.")] == ["observation.state"]
    with pytest.raises(DataError, match="no observation column"):
        WindowSampler(first, chunk=1, batch_size=2, columns=["observation.smell"])


def test_what_cannot_be_sampled_is_refused(first: Dataset, tmp_path: Path):
    other = fill(tmp_path / "other", range(1), make_spec(cameras=("front",)))
    with pytest.raises(SpecError, match="wrist"):
        WindowSampler([first, other], chunk=1, batch_size=1)
    with pytest.raises(DataError, match="no episodes"):
        WindowSampler(fill(tmp_path / "empty", range(0)), chunk=1, batch_size=1)
    with pytest.raises(DataError, match="rank"):
        WindowSampler(first, chunk=1, batch_size=1, rank=2, world=2)
    with pytest.raises(DataError, match="chunk must be at least 1"):
        WindowSampler(first, chunk=0, batch_size=1)
    with pytest.raises(DataError, match="weights"):
        WindowSampler(first, chunk=1, batch_size=1, weights=[1, 2])


def test_damage_met_while_prefetching_reaches_the_caller(tmp_path: Path):
    dataset = fill(tmp_path / "d", range(3))
    shard = dataset.path / f"data/{FRONT}/c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 8] ^= 4
    shard.write_bytes(data)
    with pytest.raises(DataError, match="CRC-32C"):
        for _ in WindowSampler(dataset, chunk=1, batch_size=4).stream(0, 10):
            pass
