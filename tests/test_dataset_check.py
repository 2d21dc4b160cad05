"""Damage is found, named and, where one bit flipped, undone; a hostile dataset opens nothing and costs nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from dataset_fixtures import assert_same, fill, make_episode

from wayhand.datasets.check import validate
from wayhand.datasets.codecs import crc_ok, flipped_bit, with_crc
from wayhand.datasets.combine import by_fraction, by_task, merge, split
from wayhand.datasets.layout import Layout, dumps, seal
from wayhand.datasets.repair import repair
from wayhand.datasets.store import Dataset, open_for_append
from wayhand.scripts import data
from wayhand.vla.contract import ArraySpec, EnvSpec
from wayhand.vla.errors import ConfigError, CorruptDataError, DataError, SpecError

FRONT = "data/observation.images.front"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("check") / "d", range(5), shard_frames=8).path


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "d"))


def flip(file: Path, byte: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1 << bit
    file.write_bytes(content)


def files_of(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and p.name != ".lock")


def test_crc_locates_any_single_flipped_bit():
    rng = random.Random(0)
    blob = with_crc(rng.randbytes(700))
    assert crc_ok(blob)
    assert flipped_bit(blob) is None
    for _ in range(40):
        byte, bit = rng.randrange(len(blob)), rng.randrange(8)
        broken = bytearray(blob)
        broken[byte] ^= 1 << bit
        assert not crc_ok(bytes(broken))
        assert flipped_bit(bytes(broken)) == (byte, bit)
        broken[(byte + 13) % len(blob)] ^= 2
        assert flipped_bit(bytes(broken)) is None


def test_one_flipped_bit_in_any_file_is_found_named_and_undone(pristine: Path, path: Path):
    assert validate(path).ok
    rng = random.Random(1)
    for name in files_of(pristine):
        size = (path / name).stat().st_size
        everywhere = (
            {0, size - 1, size // 2} if name in ("zarr.json", f"{FRONT}/c.0.0.0.0", "meta/zarr.json") else set()
        )
        for byte in {rng.randrange(size)} | everywhere:
            flip(path / name, byte, rng.randrange(8))
            report = validate(path)
            assert [p.file for p in report.problems] == [name], f"{name} at {byte}: {list(map(str, report.problems))}"
            # The record is parsed before it can be compared, so its damage is located against the rebuilt one.
            assert report.problems[0].offset == byte
            _, after = repair(path)
            assert after.ok, name
            assert (path / name).read_bytes() == (pristine / name).read_bytes(), name


def test_damage_touches_only_the_episodes_it_touches(path: Path):
    dataset = Dataset(path)
    shard = dataset.arrays[FRONT].shard(0)
    flip(path / FRONT / "c.0.0.0.0", shard.starts[2] + 30, 3)
    row_episode = int(np.searchsorted(dataset.episode_ends, 2, "right"))
    report = validate(path)
    assert report.damaged == {row_episode}
    assert report.problems[0].offset == shard.starts[2] + 30
    damaged = Dataset(path)
    for i in range(5):
        if i == row_episode:
            with pytest.raises(CorruptDataError, match=r"c\.0\.0\.0\.0 is damaged(.|\n)*bytes \d+ to \d+"):
                damaged.episode(i)
        else:
            assert_same(damaged.episode(i), make_episode(dataset.spec, i))


@pytest.mark.parametrize("name", [f"{FRONT}/c.0.0.0.0", "meta/sha256/c.0.0", "data/action/c.0.0", "zarr.json"])
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_a_truncated_file_is_found(path: Path, name: str, keep: float):
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(len(content) * keep)])
    report = validate(path)
    assert {p.file for p in report.problems} == {name}
    if name != "zarr.json":
        assert not repair(path)[1].ok


def test_a_missing_file_is_found(path: Path):
    (path / FRONT / "c.1.0.0.0").unlink()
    report = validate(path)
    assert [p.file for p in report.problems] == [f"{FRONT}/c.1.0.0.0"]
    assert report.damaged
    assert 0 not in report.damaged
    assert_same(Dataset(path).episode(0), make_episode(Dataset(path).spec, 0))


def test_the_record_is_rebuilt_from_the_episodes(path: Path):
    want = (path / "zarr.json").read_bytes()
    (path / "zarr.json").unlink()
    done, report = repair(path)
    assert report.ok
    assert any("rebuilt" in line for line in done)
    assert (path / "zarr.json").read_bytes() == want


def test_a_content_that_passes_every_checksum_but_its_own_digest_is_found(path: Path):
    dataset = Dataset(path)
    file = path / "data/action/c.0.0"
    column = dataset.arrays["data/action"]
    values = column.read()
    values[-1] += 1
    from wayhand.datasets.shards import Tail

    files = Tail.empty(column.array).extend(values)
    file.write_bytes(b"".join(files["c.0.0"]))
    report = validate(path)
    assert [p.what for p in report.problems] == ["the content does not match its SHA-256"]
    assert report.damaged == {4}


def test_leftovers_are_told_and_removed(path: Path, pristine: Path):
    (path / ".staging/1-1").write_bytes(b"half a file")
    (path / FRONT / "c.9.0.0.0").write_bytes(b"of an append that never was")
    (path / "notes.txt").write_text("mine")
    assert any("c.9" in line for line in validate(path).leftovers)
    assert validate(path).ok
    done, report = repair(path)
    assert report.ok
    assert not report.leftovers
    assert len(done) == 4 - 1
    assert files_of(path) == files_of(pristine)


def test_repair_waits_for_no_writer(path: Path):
    with open_for_append(path), pytest.raises(DataError, match="another process"):
        repair(path)


# --- hostile datasets -------------------------------------------------------------------------------------------


def test_symbolic_links_are_refused(path: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 1000)
    shard = path / FRONT / "c.0.0.0.0"
    shard.unlink()
    shard.symlink_to(secret)
    with pytest.raises(DataError, match="no symbolic link"):
        Dataset(path).episode(0)
    assert any("symbolic" in p.what or "Refused" in p.what for p in validate(path).problems)
    folder = path / "data/action"
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no symbolic link"):
        Dataset(path).read("action")


def test_a_pipe_in_place_of_a_file_does_not_hang(path: Path):
    shard = path / "data/action/c.0.0"
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(DataError, match="regular file"):
        Dataset(path).read("action")


def resealed(path: Path, change) -> None:
    document = json.loads((path / "zarr.json").read_bytes())
    change(document)
    (path / "zarr.json").write_bytes(seal(document))


def test_a_record_cannot_choose_paths_codecs_or_sizes(path: Path):
    original = (path / "zarr.json").read_bytes()

    def attributes(document: dict) -> dict:
        return document["attributes"]["wayhand"]

    def extras(name: str):
        def change(document: dict) -> None:
            attributes(document)["spec"]["extras"][name] = {"shape": [2], "dtype": "float32", "unit": ""}

        return change

    def camera(document: dict) -> None:
        attributes(document)["spec"]["cameras"][0].update(height=10**6, width=10**6)

    def chunks(document: dict) -> None:
        attributes(document)["layout"]["chunk_frames"] = 10**9

    def frames(document: dict) -> None:
        attributes(document)["frames"] = 10**15

    def codec(document: dict) -> None:
        document["consolidated_metadata"]["metadata"]["data/action"]["codecs"] = [{"name": "evil"}]

    def dtype(document: dict) -> None:
        attributes(document)["spec"]["extras"]["ee_target"]["dtype"] = "object"

    for change in (extras("../../x"), extras("a/b"), extras("__x"), camera, chunks, frames, codec, dtype):
        resealed(path, change)
        with pytest.raises((DataError, SpecError)):
            Dataset(path).read("action")
        (path / "zarr.json").write_bytes(original)
    Dataset(path).read("action")


def test_a_decompression_bomb_is_refused(path: Path):
    """A chunk that inflates to more than the column's chunk, checksums intact."""
    from numcodecs import blosc, zstd

    bomb = with_crc(zstd.compress(bytes(64 << 20), 3))
    (path / "data/action/c.0.0").write_bytes(bomb)
    with pytest.raises(CorruptDataError, match="is damaged"):
        Dataset(path).read("action")
    column = Dataset(path).arrays[FRONT]
    inflated = with_crc(blosc.compress(bytes(64 << 20), b"lz4hc", 5, blosc.NOSHUFFLE, 0))
    index = np.full((8, 2), 2**64 - 1, np.dtype("<u8"))
    index[:] = (0, len(inflated))
    (path / FRONT / "c.0.0.0.0").write_bytes(inflated + with_crc(index.tobytes()))
    with pytest.raises(CorruptDataError, match="another size"):
        column.read(0, 1)


def test_an_index_that_points_elsewhere_is_refused(path: Path):
    shard = path / FRONT / "c.0.0.0.0"
    size = 8 * 16
    content = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(content[-size - 4 : -4]), "<u8").copy()
    index[0] = 2**63
    content[-size - 4 :] = with_crc(index.tobytes())
    shard.write_bytes(content)
    assert google_crc32c.value(bytes(content[-size - 4 :])) == 0x48674BC7
    with pytest.raises(CorruptDataError, match="points outside"):
        Dataset(path).episode(0)


# --- combining --------------------------------------------------------------------------------------------------


def test_split_then_merge_is_the_identity(path: Path, tmp_path: Path):
    dataset = Dataset(path)
    split(dataset, tmp_path / "parts", by_fraction(5, 0.6, None))
    parts = [Dataset(tmp_path / "parts" / name) for name in ("train", "held_out")]
    assert [len(p) for p in parts] == [3, 2]
    merge(parts, tmp_path / "again", layout=Layout("raw", 2))
    again = Dataset(tmp_path / "again")
    assert again.hash() == again.hash(verify=True) == dataset.hash()
    for i in range(5):
        assert_same(again.episode(i), dataset.episode(i))


def test_parts_are_disjoint_complete_and_seeded(path: Path):
    for seed in (None, 0, 1):
        parts = by_fraction(10, 0.7, seed)
        assert sorted(parts["train"] + parts["held_out"]) == list(range(10))
        assert len(parts["train"]) == 7
        assert parts == by_fraction(10, 0.7, seed)
    assert by_fraction(10, 0.7, 0) != by_fraction(10, 0.7, 1)
    assert by_task(Dataset(path)) == {"pick": [0, 2, 4], "place": [1, 3]}


def test_an_interrupted_merge_leaves_no_dataset(path: Path, tmp_path: Path):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge([Dataset(path)], tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()
    merge([Dataset(path)], tmp_path / "out")
    assert Dataset(tmp_path / "out").hash() == Dataset(path).hash()


def test_specs_that_differ_are_not_merged(path: Path, tmp_path: Path):
    spec = Dataset(path).spec
    other = EnvSpec(spec.embodiment, 0.1, spec.cameras, spec.state, spec.action, {"force": ArraySpec((3,), "float32")})
    with pytest.raises(SpecError, match="control_dt"):
        merge([Dataset(path), fill(tmp_path / "other", range(1), other)], tmp_path / "out")


# --- the commands -----------------------------------------------------------------------------------------------


def test_the_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str]:
        code = data.main(list(arguments))
        return code, capsys.readouterr().out

    where, whole = str(path), Dataset(path).hash()
    assert run("hash", where) == (0, whole + "\n") == run("hash", where, "verify=true")
    code, text = run("info", where, "images=true")
    assert code == 0
    assert all(word in text for word in (whole, "toy", "take the cube number 3", "q99", "red"))
    assert run("view", where, f"out={tmp_path}/page.html", "episodes=2", "frames=3")[0] == 0
    html = (tmp_path / "page.html").read_text()
    assert html.count("<article>") == 2
    assert html.count("data:image/jpeg;base64,") == 2 * (1 + 2)  # cameras, and steps of the first and the last
    assert "http" not in html
    assert run("validate", where)[0] == 0
    assert run("split", where, f"out={tmp_path}/parts", "by=task")[0] == 0
    assert (
        run("merge", f"{tmp_path}/parts/pick", f"{tmp_path}/parts/place", f"out={tmp_path}/both", "codec=zstd")[0] == 0
    )
    assert len(Dataset(tmp_path / "both")) == 5

    file = path / FRONT / "c.0.0.0.0"
    flip(file, 40, 1)
    code, text = run("validate", where)
    assert code == 1
    assert f"{FRONT}/c.0.0.0.0, offset 40" in text
    assert run("merge", where, f"out={tmp_path}/healthy", "skip_damaged=true")[0] == 0
    assert len(Dataset(tmp_path / "healthy")) == 4
    assert run("repair", where)[0] == 0
    assert run("hash", where) == (0, whole + "\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "info, view"),
        (["inof", "x"], "did you mean 'info'"),
        (["info"], "needs the path"),
        (["view", "x", "ot=y"], "did you mean 'out'"),
        (["merge", "x"], "out=PATH"),
        (["split", "x", "out=y", "fraction=lots"], "not a number"),
        (["info", "x", "images=perhaps"], "true or false"),
    ],
)
def test_wrong_commands_are_explained(path: Path, arguments: list[str], says: str):
    given = [str(path) if a == "x" else a for a in arguments]
    with pytest.raises(ConfigError) as error:
        data.main(given)
    assert says in str(error.value)


def test_metadata_serialisation_is_canonical():
    assert dumps({"b": 1, "a": [1.5, None]}) == b'{"a":[1.5,null],"b":1}'
