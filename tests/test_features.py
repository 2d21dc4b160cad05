"""Feature files: what is written is read, what is broken is named; the cache knows what it was computed from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wayhand.datasets.features import FeatureCache, source_of
from wayhand.datasets.formats.features import (
    FeatureTable,
    Geometry,
    HDF5Features,
    load_tsv,
    save_hdf5,
    save_tsv,
)
from wayhand.vla.errors import DataError


def table(width: int = 5) -> FeatureTable:
    values = np.random.default_rng(0).normal(size=(3, 36, width)).astype(np.float32)
    return FeatureTable((("s1", "a"), ("s1", "b"), ("s2", "a")), values, Geometry(64, 48, 50))


def test_a_tsv_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_tsv(tmp_path / "f.tsv", table())
    again = load_tsv(tmp_path / "f.tsv")
    assert again.keys == table().keys and again.geometry == Geometry(64, 48, 50) and again.width == 5
    assert (again.values == table().values).all() and (again("s2", "a") == table().values[2]).all()
    save_tsv(tmp_path / "g.tsv", again)
    assert (tmp_path / "f.tsv").read_bytes() == (tmp_path / "g.tsv").read_bytes()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("s\ta\t640\t480\t60", "6 tab separated"),
        ("s\ta\t640\t480\t60\t!!!", "base64"),
        ("s\ta\t640\t480\t60\tAAAA", "float32"),
        ("s\ta\twide\t480\t60\tAAAA", "whole numbers"),
        ("", "holds no features"),
    ],
)
def test_a_broken_tsv_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "f.tsv").write_text(line + "\n")
    with pytest.raises(DataError, match=said):
        load_tsv(tmp_path / "f.tsv")


def test_unknown_viewpoints_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no features of this viewpoint"):
        table()("s1", "z")
    with pytest.raises(DataError, match="cannot be read"):
        load_tsv(tmp_path / "absent.tsv")
    with pytest.raises(DataError, match="do not fit"):
        FeatureTable((("s", "a"),), np.zeros((2, 36, 4), np.float32))


def test_an_hdf5_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5py is optional")
    save_hdf5(tmp_path / "f.hdf5", table())
    with HDF5Features(tmp_path / "f.hdf5") as features:
        assert features.width == 5
        assert all((features(*key) == row).all() for key, row in zip(table().keys, table().values, strict=True))
        with pytest.raises(DataError, match="no features of this viewpoint"):
            features("s1", "z")


def test_objects_after_the_views_are_left_out(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is optional")
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        file["s_a"] = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)
        file["s_b"] = np.zeros((36, 3), np.float32)
    with HDF5Features(tmp_path / "f.hdf5") as features:
        assert features("s", "a").shape == (36, 3) and features("s", "a")[35, 2] == 107
    (tmp_path / "bad.hdf5").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read"):
        HDF5Features(tmp_path / "bad.hdf5")


def test_without_h5py_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="pip install h5py"):
        HDF5Features(tmp_path / "f.hdf5")


def test_the_cache_belongs_to_a_source_and_a_building(tmp_path: Path) -> None:
    source = source_of({"weights": "abc", "size": 64})
    assert source != source_of({"weights": "abc", "size": 65}) and source == source_of({"size": 64, "weights": "abc"})
    cache = FeatureCache(tmp_path, source)
    with pytest.raises(DataError, match="no features yet"):
        _ = cache.width
    cache.put("s1", "digest", ("a", "b"), table().values[:2])
    again = FeatureCache(tmp_path, source)
    assert again.width == 5 and again.has("s1", "digest")
    assert not again.has("s1", "other") and not again.has("s2", "digest")
    assert again("s1", "b").dtype == np.float32 and np.allclose(again("s1", "b"), table().values[1], atol=2e-3)
    with pytest.raises(DataError, match="this viewpoint"):
        again("s1", "c")
    with pytest.raises(DataError, match="this building"):
        again("s2", "a")
    cache.put("s1", "other", ("a",), table().values[2:])
    assert FeatureCache(tmp_path, source).has("s1", "other") and not list(tmp_path.rglob(".*"))
