"""Laws of normalisation: decode inverts encode, statistics survive JSON, nothing passes through silently."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wayhand.vla.errors import SpecError
from wayhand.vla.normalize import FLOOR, MODES, NormStats

PATH = "observation.state"


def describe(x: np.ndarray) -> dict[str, Any]:
    """Statistics over the first axis."""
    q01, q99 = np.quantile(x, (0.01, 0.99), axis=0)
    return {"mean": x.mean(0), "std": x.std(0), "min": x.min(0), "max": x.max(0), "q01": q01, "q99": q99}


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).normal([5.0, -1.0, 0.0], [2.0, 0.1, 30.0], (500, 3)).astype(np.float32)


@given(
    hnp.arrays(np.float64, (20, 3), elements=st.floats(-1e3, 1e3)),
    hnp.arrays(np.float64, (4, 2, 3), elements=st.floats(-1e3, 1e3)),
    st.sampled_from(MODES),
)
def test_decode_inverts_encode(seen: np.ndarray, x: np.ndarray, mode: Any) -> None:
    stats = NormStats({PATH: describe(seen)}, {PATH: mode})
    np.testing.assert_allclose(stats.decode(PATH, stats.encode(PATH, x)), x, atol=1e-6, rtol=1e-9)


def test_each_mode_has_its_meaning(data: np.ndarray) -> None:
    def encoded(mode: Any) -> np.ndarray:
        return NormStats({PATH: describe(data)}, {PATH: mode}).encode(PATH, data)

    np.testing.assert_allclose(encoded("mean_std").mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(encoded("mean_std").std(0), 1, atol=1e-4)
    np.testing.assert_allclose([encoded("min_max").min(0), encoded("min_max").max(0)], [[-1] * 3, [1] * 3], atol=1e-5)
    inside = (np.abs(encoded("quantile")) <= 1).mean(0)
    np.testing.assert_allclose(inside, 0.98, atol=0.005)
    np.testing.assert_array_equal(encoded("identity"), data)


def test_dtype_and_leading_axes_are_kept(data: np.ndarray) -> None:
    stats = NormStats({PATH: describe(data)})
    for shape in ((3,), (7, 3), (2, 5, 3)):
        out = stats.encode(PATH, np.zeros(shape, np.float32))
        assert out.shape == shape and out.dtype == np.float32


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "quantile"])
def test_an_element_that_never_moves_is_centred_not_blown_up(mode: Any) -> None:
    still = np.full((10, 1), 0.7)
    stats = NormStats({PATH: describe(still)}, {PATH: mode})
    np.testing.assert_allclose(stats.encode(PATH, still), 0, atol=1e-9)
    assert stats.encode(PATH, still + FLOOR).max() == pytest.approx(1)


def test_json_keeps_every_bit_and_the_hash_sees_every_change(data: np.ndarray) -> None:
    stats = NormStats({PATH: describe(data), "action": describe(data[:, :2])}, {"action": "quantile"})
    again = NormStats.from_dict(json.loads(json.dumps(stats.to_dict())))
    assert again.to_dict() == stats.to_dict() and again.sha256() == stats.sha256()
    assert again.modes == {PATH: "mean_std", "action": "quantile"}
    nudged = describe(data)
    nudged["mean"] = np.nextafter(nudged["mean"].astype(np.float64), 9)
    others = [
        NormStats({PATH: nudged, "action": describe(data[:, :2])}, {"action": "quantile"}),
        NormStats({PATH: describe(data), "action": describe(data[:, :2])}),
    ]
    assert len({stats.sha256(), *(o.sha256() for o in others)}) == 3


def test_a_missing_path_is_refused_and_what_exists_is_named(data: np.ndarray) -> None:
    stats = NormStats({PATH: describe(data)})
    for call in (stats.encode, stats.decode):
        with pytest.raises(SpecError, match=r"'action'(.|\n)*exists: +observation\.state"):
            call("action", data)


def test_another_dimension_is_refused(data: np.ndarray) -> None:
    stats = NormStats({PATH: describe(data)})
    with pytest.raises(SpecError, match=r"expected: \[… \(3,\)\](.|\n)*\(500, 2\)"):
        stats.encode(PATH, data[:, :2])
    with pytest.raises(SpecError, match="wrong size"):
        stats.require(PATH, 4)
    stats.require(PATH, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("q99"), "lack q99"),
        (lambda d: d.update(std=np.array([1.0, np.nan, 1.0])), "not finite"),
    ],
)
def test_broken_statistics_are_refused(data: np.ndarray, change: Any, words: str) -> None:
    fields = describe(data)
    change(fields)
    with pytest.raises(SpecError, match=words):
        NormStats({PATH: fields})


def test_unknown_modes_and_modes_of_unknown_paths_are_refused(data: np.ndarray) -> None:
    modes: Any
    for modes, words in (({PATH: "median"}, "exists: +mean_std"), ({"reward": "identity"}, "without statistics")):
        with pytest.raises(SpecError, match=words):
            NormStats({PATH: describe(data)}, modes)
