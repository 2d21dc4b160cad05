"""What is written is what is read: by us, by other zarr readers, in every codec and chunking."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from dataset_fixtures import assert_same, fill, make_episode, make_spec

from wayhand.datasets.layout import Layout
from wayhand.datasets.store import Dataset, create, open_for_append
from wayhand.vla.contract import EnvSpec, Episode
from wayhand.vla.errors import DataError, SpecError

LAYOUTS = [
    {"codec": codec, "chunk_frames": chunk, "shard_frames": shard}
    for codec in ("lz4", "zstd", "raw")
    for chunk, shard in ((1, 7), (4, 8))
]
LAYOUTS += [{}, {"chunk_frames": 5, "shard_frames": 5}]


@pytest.fixture(params=LAYOUTS, ids=lambda p: "-".join(map(str, p.values())) or "default")
def layout(request: pytest.FixtureRequest) -> dict:
    return request.param


def test_episodes_come_back_bit_equal(tmp_path: Path, layout: dict):
    spec = make_spec(depth=True)
    dataset = fill(tmp_path / "d", range(6), spec, **layout)
    assert len(dataset) == 6
    assert dataset.spec == spec
    assert dataset.frames == sum(len(make_episode(spec, i)) for i in range(6)) == dataset.episode_ends[-1]
    for i in range(6):
        assert_same(dataset.episode(i), make_episode(spec, i))
    assert dataset.hash() == dataset.hash(verify=True)


def test_appending_in_two_sittings_is_appending_in_one(tmp_path: Path, layout: dict):
    whole = fill(tmp_path / "whole", range(7), **layout)
    fill(tmp_path / "parts", range(3), **layout)
    for sitting in (range(3, 4), range(4, 7)):
        with open_for_append(tmp_path / "parts", durable=False) as writer:
            for i in sitting:
                assert writer.append(make_episode(whole.spec, i)) == i
    files = {
        p.relative_to(whole.path): p.read_bytes() for p in whole.path.rglob("*") if p.is_file() and p.name != ".lock"
    }
    for name, content in files.items():
        assert (tmp_path / "parts" / name).read_bytes() == content, name


def test_the_hash_is_of_the_content_alone(tmp_path: Path):
    reference = fill(tmp_path / "a", range(4)).hash()
    for i, layout in enumerate(LAYOUTS):
        assert fill(tmp_path / str(i), range(4), **layout).hash() == reference
    spec = make_spec()
    with create(tmp_path / "other", spec, durable=False) as writer:
        for i in range(4):
            episode = make_episode(spec, i)
            writer.append(
                Episode(spec, episode.instruction, episode.columns, episode.final, episode.success, {"by": "me"})
            )
    assert Dataset(tmp_path / "other").hash() == reference


def changed(episode: Episode, what: str) -> Episode:
    columns = dict(episode.columns)
    fields = {"instruction": episode.instruction, "success": episode.success, "final": episode.final}
    if what == "instruction":
        fields["instruction"] = "something else"
    elif what == "success":
        fields["success"] = not episode.success
    elif what == "final":
        fields["final"] = episode.row(0)
    else:
        columns[what] = columns[what].copy()
        columns[what].flat[-1] += 1
    return Episode(episode.spec, columns=columns, provenance=episode.provenance, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["instruction", "success", "final", "action", "observation.images.wrist"])
def test_the_hash_sees_every_change(tmp_path: Path, what: str):
    spec = make_spec()
    with create(tmp_path / "d", spec, durable=False) as writer:
        writer.append(changed(make_episode(spec, 3), what))
    assert Dataset(tmp_path / "d").hash() != fill(tmp_path / "reference", range(3, 4)).hash()


def test_zarr_python_reads_the_same_arrays(tmp_path: Path, layout: dict):
    dataset = fill(tmp_path / "d", range(5), make_spec(depth=True), **layout)
    group = zarr.open_group(dataset.path, mode="r")
    for path in dataset.columns:
        np.testing.assert_array_equal(group[f"data/{path}"][:], dataset.read(path), err_msg=path)
    np.testing.assert_array_equal(group["meta/episode_ends"][:], dataset.episode_ends)
    # Without the consolidated metadata too.
    array = zarr.open_array(dataset.path / "data/observation.images.front", mode="r")
    np.testing.assert_array_equal(array[:], dataset.read("observation.images.front"))


def test_tensorstore_reads_the_same_arrays(tmp_path: Path, layout: dict):
    tensorstore = pytest.importorskip("tensorstore")
    dataset = fill(tmp_path / "d", range(5), make_spec(depth=True), **layout)
    for path in dataset.columns:
        store = {"driver": "file", "path": f"{dataset.path}/data/{path}/"}
        array = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True).result()
        np.testing.assert_array_equal(array.read().result(), dataset.read(path), err_msg=path)


def test_a_reader_keeps_its_view_while_a_writer_appends(tmp_path: Path):
    dataset = fill(tmp_path / "d", range(3), shard_frames=64)
    with open_for_append(dataset.path, durable=False) as writer:
        for i in range(3, 9):
            writer.append(make_episode(dataset.spec, i))
            assert_same(dataset.episode(i % 3), make_episode(dataset.spec, i % 3))
            assert len(Dataset(dataset.path)) == i + 1
    assert len(dataset) == 3


def test_there_is_one_writer_at_a_time(tmp_path: Path):
    with create(tmp_path / "d", make_spec(), durable=False) as writer:
        with pytest.raises(DataError, match="another process"):
            open_for_append(tmp_path / "d")
        writer.append(make_episode(make_spec(), 0))
    with open_for_append(tmp_path / "d"):
        pass
    with pytest.raises(DataError, match="closed"):
        writer.append(make_episode(make_spec(), 1))


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path: Path):
    spec = make_spec()
    dataset = fill(tmp_path / "d", range(2))
    episode = make_episode(spec, 2)
    with open_for_append(dataset.path, durable=False) as writer:
        with pytest.raises(SpecError, match="embodiment"):
            writer.append(make_episode(make_spec(embodiment="other"), 2))
        with pytest.raises(SpecError, match="action"):
            writer.append(
                Episode(spec, "", {**episode.columns, "action": np.zeros((len(episode), 9), np.float32)}, episode.final)
            )
        with pytest.raises(DataError, match="JSON"):
            writer.append(Episode(spec, "", episode.columns, episode.final, None, {"what": object()}))
        with pytest.raises(DataError, match="at least one row"):
            writer.append(Episode(spec, "", {k: v[:0] for k, v in episode.columns.items()}, episode.final))
    assert Dataset(dataset.path).hash() == dataset.hash()


def test_errors_say_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match="wayhand collect"):
        Dataset(tmp_path / "nowhere")
    fill(tmp_path / "d", range(1))
    with pytest.raises(DataError, match="open_for_append"):
        create(tmp_path / "d", make_spec())
    with pytest.raises(DataError, match="no such episode"):
        Dataset(tmp_path / "d").episode(1)
    with pytest.raises(DataError, match="Unknown codec"):
        Layout("jpeg")
    with pytest.raises(DataError, match="whole chunks"):
        Layout("raw", 4, 6)


def test_an_empty_dataset_is_a_dataset(tmp_path: Path):
    dataset = fill(tmp_path / "d", range(0))
    assert len(dataset) == dataset.frames == 0
    assert dataset.hash() == dataset.hash(verify=True)
    assert zarr.open_group(dataset.path, mode="r")["data/action"].shape == (0, 3)


def test_columns_without_elements_and_bodies_without_cameras(tmp_path: Path):
    full = make_spec()
    spec = EnvSpec("blind", 0.1, (), (), full.action, {})
    with create(tmp_path / "d", spec, durable=False) as writer:
        episode = make_episode(spec, 4)
        writer.append(episode)
    dataset = Dataset(tmp_path / "d")
    assert_same(dataset.episode(0), episode)
    assert dataset.read("observation.state").shape == (len(episode), 0)


def test_statistics_are_those_of_the_concatenation(tmp_path: Path):
    dataset = fill(tmp_path / "d", range(9), make_spec(depth=True), chunk_frames=4, shard_frames=8)
    assert set(dataset.stats) == set(dataset.columns)
    for path, column in dataset.columns.items():
        assert column is not None
        values = dataset.read(path).astype(np.float64)
        if path.startswith("observation.images."):
            values = values.reshape(-1, 3)
        elif path.startswith(("observation.depth.", "observation.semantics.")):
            values = values.reshape(-1)
        stats = dataset.stats[path]
        assert stats.count == dataset.frames
        np.testing.assert_allclose(stats.mean, values.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(stats.std, values.std(0), rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(stats.min, values.min(0))
        np.testing.assert_array_equal(stats.max, values.max(0))
        for name, q in (("q01", 0.01), ("q99", 0.99)):
            np.testing.assert_allclose(getattr(stats, name), np.quantile(values, q, axis=0), rtol=1e-12, err_msg=path)


def test_the_record_is_plain_json_with_every_shape(tmp_path: Path):
    dataset = fill(tmp_path / "d", range(3))
    nodes = json.loads((dataset.path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    for path in dataset.columns:
        assert nodes[f"data/{path}"]["shape"][0] == dataset.frames
        assert json.loads((dataset.path / f"data/{path}/zarr.json").read_text()) == nodes[f"data/{path}"]
