"""Laws of the houses: the same seed is the same house, one can live in it, and no split shows what another hides."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from wayhand.envs.house import map as house_map
from wayhand.envs.house.assets import HELD_OUT, KINDS, asset, numbers
from wayhand.envs.house.blueprint import ASSETS, POOLS
from wayhand.envs.house.check import FAULTS, check, layout_hash
from wayhand.envs.house.dice import Dice
from wayhand.envs.house.generate import SPLITS, generate
from wayhand.envs.house.house import House, Item
from wayhand.envs.house.materials import FAMILIES, texture_pixels, textures
from wayhand.envs.house.palette import COLOURS, FIXED
from wayhand.envs.house.palette import FAMILIES as MADE_OF
from wayhand.vla.errors import ConfigError, DataError

GOLDEN = {
    (0, "train"): "9d047a48ea164e53",
    (7, "train"): "8477b0742b5bd5b2",
    (3, "val_unseen_object"): "bb2c4a4a2b6a9a02",
}
"""First digits of `House.digest`. They change only together with `generate.VERSION`."""
GOLDEN_TEXTURES = "4fd49fad97417c4b"


@pytest.fixture(scope="module")
def houses() -> list[House]:
    return [generate(seed) for seed in range(10)] + [generate(1, "val"), generate(1, "test", storeys=2)]


# --- determinism -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "split"), sorted(GOLDEN))
def test_a_seed_gives_the_same_bytes_on_every_machine(seed: int, split: str) -> None:
    assert generate(seed, split).digest[:16] == GOLDEN[seed, split]


def test_textures_are_the_same_bytes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for family in sorted(FAMILIES):
        digest.update(texture_pixels(f"{family}/0").tobytes())
    assert digest.hexdigest()[:16] == GOLDEN_TEXTURES


def test_seeds_splits_and_requests_all_change_the_house() -> None:
    asked = [generate(1), generate(2), generate(1, "val"), generate(1, storeys=1), generate(1, rooms=(3, 9))]
    assert len({h.scan for h in asked}) == len({h.digest for h in asked}) == len(asked)
    assert all(len(h.scan) == 11 and h.scan.isalnum() for h in asked)


def test_json_round_trip(houses: list[House]) -> None:
    for house in houses[:3]:
        again = House.from_json(house.to_json())
        assert again.digest == house.digest
        assert again.items == house.items
    with pytest.raises(DataError, match="not the description of a house"):
        House.from_json('{"scan": 1}')


def test_dice_are_fair_and_repeat() -> None:
    dice, again = Dice("a"), Dice("a")
    drawn = [dice.whole(3, 9, 3) for _ in range(300)]
    assert drawn == [again.whole(3, 9, 3) for _ in range(300)]
    assert set(drawn) == {3, 6, 9}
    assert sorted(dice.shuffled(range(20))) == list(range(20))


# --- houses one can live in ----------------------------------------------------------------------------------------


def test_nothing_is_wrong_with_generated_houses(houses: list[House]) -> None:
    for house in houses:
        assert check(house) == [], (house.seed, house.split)


@pytest.mark.parametrize(("storeys", "rooms"), [(1, (2, 2)), (1, (10, 10)), (2, (6, 6)), (2, (10, 10))])
def test_storeys_and_rooms_are_as_asked(storeys: int, rooms: tuple[int, int]) -> None:
    house = generate(5, storeys=storeys, rooms=rooms)
    assert len(house.rooms) == rooms[0]
    assert len({r.storey for r in house.rooms}) == storeys
    assert len(house.stairs) == storeys - 1
    for flight in house.stairs:
        assert (flight.top - flight.bottom) / flight.steps <= 0.19


def test_requests_that_no_plan_meets_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        generate(0, "trian")
    for storeys, rooms in ((3, (2, 10)), (1, (1, 4)), (2, (2, 5)), (None, (5, 3))):
        with pytest.raises(ConfigError, match="so many rooms"):
            generate(0, storeys=storeys, rooms=rooms)


def test_rooms_have_sensible_sizes_names_doors_and_windows(houses: list[House]) -> None:
    least = {"bedroom": 8.0, "living_room": 13.0, "kitchen": 7.0, "bathroom": 3.7}
    for house in houses:
        assert len({r.name for r in house.rooms}) == len(house.rooms)
        for room in house.rooms:
            (x0, y0), _, (x1, y1), _ = room.polygon
            assert min(x1 - x0, y1 - y0) >= 1.2
            assert (x1 - x0) * (y1 - y0) >= least.get(room.kind, 2.5)
            assert house.openings_of(room.id) or house.stairs
        for o in house.openings:
            wide = abs(o.end[0] - o.start[0]) + abs(o.end[1] - o.start[1])
            if o.kind == "door":
                assert 0.8 <= round(wide, 3) <= 1.0
            if o.kind == "window":
                assert None in o.rooms
        assert any(o.kind == "door" and None in o.rooms for o in house.openings)


def test_every_number_is_a_whole_millimetre(houses: list[House]) -> None:
    values = [v for i in houses[0].items for v in (*i.position, *i.size)]
    values += [v for w in houses[0].walls for v in (*w.start, *w.end, w.top)]
    assert np.allclose(np.round(values, 3), values, atol=0)


def test_rooms_hold_what_they_are_for() -> None:
    wanted = {"kitchen": {"stove", "kitchen_sink"}, "bathroom": {"toilet"}, "bedroom": {"double_bed", "single_bed"}}
    found, of = Counter[str](), Counter[str]()
    for seed in range(20, 34):
        house = generate(seed)
        for room in house.rooms:
            inside = {i.category for i in house.items if i.room == room.id}
            of[room.kind] += 1
            found[room.kind] += bool(inside & wanted.get(room.kind, inside))
            assert "ceiling_lamp" in inside
    assert all(found[kind] >= 0.9 * of[kind] for kind in wanted)


# --- planted faults -------------------------------------------------------------------------------------------------


def _moved(house: House, item: Item, x: float, y: float) -> House:
    changed = replace(item, position=(x, y, item.position[2]))
    return replace(house, items=tuple(changed if i.id == item.id else i for i in house.items))


def _faults(house: House) -> set[str]:
    found = {fault.partition(":")[0] for fault in check(house)}
    assert found <= set(FAULTS)
    return found


def test_check_finds_furniture_in_a_doorway(houses: list[House]) -> None:
    house = next(h for h in houses if any(i.category == "sofa" for i in h.items))
    sofa = next(i for i in house.items if i.category == "sofa")
    door = next(o for o in house.openings_of(sofa.room) if None not in o.rooms)
    x, y = (door.start[0] + door.end[0]) / 2, (door.start[1] + door.end[1]) / 2
    assert "blocked door" in _faults(_moved(house, sofa, x, y))


def test_check_finds_a_sealed_room(houses: list[House]) -> None:
    house = next(h for h in houses if len(h.rooms) >= 4 and not h.stairs)
    sealed = next(r.id for r in house.rooms if r.kind != "hallway")
    walled = replace(house, openings=tuple(o for o in house.openings if o.kind == "window" or sealed not in o.rooms))
    assert _faults(walled) & {"no way in", "not reached"}


def test_check_finds_a_room_that_furniture_seals(houses: list[House]) -> None:
    house = next(h for h in houses if any(i.category == "wardrobe" for i in h.items))
    item = next(i for i in house.items if i.category == "wardrobe")
    room = house.rooms[item.room]
    (x0, y0), _, (x1, y1), _ = room.polygon
    size = (x1 - x0, y1 - y0, 1.0)
    block = replace(item.parts[0], shape="box", centre=(0.0, 0.0, 0.5), half=(size[0] / 2, size[1] / 2, 0.5), yaw=0.0)
    full = replace(item, position=((x0 + x1) / 2, (y0 + y1) / 2, item.position[2]), yaw=0.0, size=size, parts=(block,))
    assert "not reached" in _faults(replace(house, items=tuple(full if i.id == item.id else i for i in house.items)))


def test_check_finds_things_outside_inside_and_in_the_air(houses: list[House]) -> None:
    house = houses[0]
    standing = [i for i in house.items if i.support is None and i.position[2] == 0.0 and i.size[2] > 0.3]
    a, b = standing[:2]
    assert "out of the room" in _faults(_moved(house, a, -5.0, -5.0))
    assert "inside another" in _faults(_moved(house, a, *b.position[:2])) or a.room != b.room
    lifted = replace(a, position=(*a.position[:2], 0.4))
    assert "unsupported" in _faults(replace(house, items=tuple(lifted if i.id == a.id else i for i in house.items)))


def test_check_finds_rooms_that_overlap(houses: list[House]) -> None:
    house = next(h for h in houses if len(h.rooms) >= 3)
    grown = replace(house.rooms[0], polygon=((-50.0, -50.0), (50.0, -50.0), (50.0, 50.0), (-50.0, 50.0)))
    assert "rooms overlap" in _faults(replace(house, rooms=(grown, *house.rooms[1:])))


def test_the_layout_hash_sees_kinds_and_doors_only(houses: list[House]) -> None:
    house = next(h for h in houses if len(h.rooms) >= 4)
    order = list(range(len(house.rooms)))[::-1]
    new = {old: i for i, old in enumerate(order)}
    shuffled = replace(
        house,
        rooms=tuple(replace(house.rooms[old], id=i) for i, old in enumerate(order)),
        openings=tuple(replace(o, rooms=tuple(None if r is None else new[r] for r in o.rooms)) for o in house.openings),
        stairs=tuple(replace(s, rooms=(new[s.rooms[0]], new[s.rooms[1]])) for s in house.stairs),
        items=(),
    )
    assert layout_hash(shuffled) == layout_hash(house)
    other = replace(house, rooms=(replace(house.rooms[0], kind="chapel"), *house.rooms[1:]))
    assert layout_hash(other) != layout_hash(house)


# --- assets, textures and splits --------------------------------------------------------------------------------------


def test_pools_are_disjoint_and_complete() -> None:
    assert sorted(n for pool in POOLS.values() for n in pool) == list(range(ASSETS))
    ids = [t for pool in POOLS for t in textures(pool)]
    assert len(ids) == len(set(ids)) == ASSETS * len(FAMILIES)
    assert set(SPLITS.values()) == set(POOLS)


def test_there_are_many_categories_and_each_has_assets_in_each_pool() -> None:
    assert len(KINDS) - len(HELD_OUT) >= 60
    assert len(COLOURS) >= 8
    for category, kind in KINDS.items():
        assert set(kind.colours) <= set(COLOURS)
        for pool in POOLS:
            assert len(numbers(pool)) >= 2
            for n in numbers(pool):
                made = asset(category, n)
                assert made.id == f"{category}/{n}"
                for piece in made.pieces:
                    assert (
                        piece.slot in FIXED
                        or piece.slot in ("main", "second", "accent", "counter", "wood")
                        or (piece.slot.startswith("art_"))
                    )
        assert kind.main in MADE_OF


def test_no_two_assets_of_a_category_are_the_same_shape() -> None:
    for category in KINDS:
        shapes = {asset(category, n).pieces for n in range(ASSETS)}
        assert len(shapes) == ASSETS, category


def test_assets_stand_on_their_base_within_their_size() -> None:
    for category in KINDS:
        for n in range(0, ASSETS, 3):
            made = asset(category, n)
            assert min(p.at[2] for p in made.pieces) == 0
            for p in made.pieces:
                for axis in (0, 1):
                    assert abs(p.at[axis]) + p.size[axis] / 2 <= made.size[axis] / 2 + 3, made.id
                assert p.at[2] + p.size[2] <= made.size[2] + 2, made.id


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_a_split_uses_its_own_assets_and_textures(split: str) -> None:
    pool = POOLS[SPLITS[split]]
    unseen = 0
    for seed in range(3):
        house = generate(seed, split, rooms=(6, 10))
        assert all(int(i.asset.partition("/")[2]) in pool for i in house.items)
        assert all(int(m.texture.partition("/")[2]) in pool for m in house.materials.values() if m.texture)
        unseen += sum(i.category in HELD_OUT for i in house.items)
    assert (unseen > 0) == (split == "val_unseen_object")


def test_textures_repeat_without_a_seam_and_are_pale() -> None:
    for family in sorted(FAMILIES):
        image = texture_pixels(f"{family}/1").astype(float)[..., 0]
        assert image.shape == (256, 256)
        assert image.mean() > 140
        inner = np.abs(np.diff(image, axis=1)).mean() + 3
        assert np.abs(image[:, 0] - image[:, -1]).mean() < 6 * inner + 40
    with pytest.raises(ConfigError, match="no such texture"):
        texture_pixels("plank/0")
    with pytest.raises(ConfigError, match="no such asset"):
        asset("sofas", 0)


# --- the map ----------------------------------------------------------------------------------------------------------


def test_the_map_shows_floors_where_rooms_are(houses: list[House]) -> None:
    house = houses[0]
    drawn = house_map.plan(house, pixels_per_metre=20, names=False)
    room = house.rooms[0]
    (x0, y0), _, (x1, _), _ = room.polygon
    column, row = (round(v) for v in drawn.to_pixel(((x0 + x1) / 2, y0 + 0.3)))
    assert tuple(drawn.image[row, column]) != house_map.PAPER
    assert tuple(drawn.image[1, 1]) == house_map.PAPER
    left, top = drawn.to_pixel((x0, y0))
    assert drawn.to_pixel((x0 + 1, y0 + 1)) == pytest.approx((left + 20, top - 20))


def test_paths_are_drawn_over_the_map(houses: list[House]) -> None:
    house = houses[0]
    (x0, y0), _, (x1, y1), _ = house.rooms[0].polygon
    plain = house_map.draw(house, pixels_per_metre=20)
    way = house_map.draw(house, pixels_per_metre=20, paths=[[(x0, y0), (x1, y1)]])
    upstairs = house_map.draw(house, pixels_per_metre=20, paths=[[(x0, y0, 2.8), (x1, y1, 2.8)]])
    assert (plain != way).any()
    assert np.array_equal(plain, upstairs)
