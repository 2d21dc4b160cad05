"""Films of navigation episodes: every move is in them, the words are, and the last frame says how it ended."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from houses import flat
from nav_fixtures import episode, line

from wayhand.datasets.formats import connectivity, r2r
from wayhand.datasets.formats.vocabulary import Vocabulary
from wayhand.envs.house.generate import generate
from wayhand.envs.house.house import House
from wayhand.envs.house.instructions import make_episodes
from wayhand.envs.house.viewpoints import viewpoint_graph
from wayhand.scripts import bench, bench_nav_video
from wayhand.scripts.navigation import files as nav_files
from wayhand.scripts.navigation import film as nav_film
from wayhand.scripts.navigation.film import VIEW, Shot, Take, film, on_floor, on_graph
from wayhand.scripts.navigation.floor import Floor
from wayhand.vla.errors import ConfigError, DataError
from wayhand.vla.evaluation.video import BAD, GOOD
from wayhand.vla.navigation import Instruction, NavResult

METRICS = {"sr": 1.0, "ne": 0.5, "spl": 0.9}


class Grey:
    """Draws nothing, quickly, and remembers from where."""

    def __init__(self) -> None:
        self.eyes: list[np.ndarray] = []

    def load(self, house: House) -> None:
        assert house.rooms

    def render(self, positions: np.ndarray, headings: np.ndarray, elevations: np.ndarray) -> dict[str, np.ndarray]:
        assert len(positions) == len(headings) == len(elevations)
        self.eyes += list(positions)
        return {"rgb": np.full((len(positions), VIEW[1], VIEW[0], 3), 90, np.uint8)}


def take(**changed: object) -> Take:
    shots = tuple(Shot((1.0 + 0.5 * n, 2.0, 0.0), 1.57, 0.0, n, 3.0 - n) for n in range(3))
    told = Instruction("1_0", "Walk past the sofa and wait")
    reference = ((1.0, 2.0, 0.0), (2.5, 2.0, 0.0))
    given = {"house": flat(), "instruction": told, "shots": shots, "reference": reference, "eye": 1.5}
    return Take(**{**given, "title": "flat 1_0", "metrics": METRICS, "fps": 2.0, **changed})  # pyright: ignore


def small_release(folder: Path) -> Path:
    """One path of one house, in all layouts that are shown."""
    house = generate(7, "val_unseen_house", rooms=(4, 6))
    graph = viewpoint_graph(house)
    (folder / "houses").mkdir(parents=True)
    (folder / "houses" / f"{house.scan}.json").write_text(house.to_json())
    (folder / "manifest.json").write_text("{}")
    connectivity.save(folder / "connectivity", [graph])
    name = "val_unseen_house"
    (told,) = make_episodes(house, graph, 1, 1, split=name)
    r2r.save(folder / f"R2R_{name}.json", [told])
    (spoken,) = make_episodes(house, graph, 1, 1, split=name, register="rxr")
    nav_files.write_told(folder, "rxr", name, [spoken])
    walk = Floor(house, graph).walk(told)
    assert walk is not None
    nav_files.write_walks(folder, name, [walk], Vocabulary.of(i.text for i in told.instructions))
    return folder


def test_a_walk_on_a_graph_turns_and_goes_without_leaps() -> None:
    graph, asked = line(4), episode("line", "abcd", heading=0.0)
    walked = NavResult("abcd_0", ("a", "b", "b", "c"))
    made = on_graph(flat(), graph, asked, asked.instructions[0], walked, METRICS)
    points = np.array([s.floor for s in made.shots])
    assert np.allclose(points[0], (0, 0, 0)) and np.allclose(points[-1], (4, 0, 0))
    assert np.linalg.norm(np.diff(points, axis=0), axis=1).max() <= nav_film.SPEED / nav_film.FPS * 1.1
    headings = np.unwrap([s.heading for s in made.shots])
    assert np.abs(np.diff(headings)).max() <= nav_film.TURN / nav_film.FPS + 1e-9
    assert headings[0] == 0.0 and headings[-1] == pytest.approx(np.pi / 2)
    assert [s.node for s in made.shots] == sorted(s.node for s in made.shots) and made.shots[-1].node == 2
    assert made.shots[0].to_goal == pytest.approx(6) and made.shots[-1].to_goal == pytest.approx(2)
    assert made.eye == 1.5 and len(made.reference) == 4


def test_a_run_on_the_floor_has_a_frame_for_every_position() -> None:
    asked = episode("flat", "ab")
    run = NavResult("1", positions=((1.0, 1.0, 0.0), (1.0, 1.25, 0.0)), headings=(0.0, 0.3), stopped=True)
    made = on_floor(flat(), asked, run, [2.0, 1.75], METRICS, eye=1.25)
    assert [(s.floor, s.heading, s.to_goal) for s in made.shots] == [
        ((1.0, 1.0, 0.0), 0.0, 2.0),
        ((1.0, 1.25, 0.0), 0.3, 1.75),
    ]


def test_frames_fit_a_film_and_the_last_one_tells_the_end() -> None:
    renderer = Grey()
    frames = list(film(take(), renderer))  # pyright: ignore[reportArgumentType]
    hold = round(nav_film.HOLD * 2.0)
    assert len(frames) == 3 + 2 * (hold - 1) and len({f.shape for f in frames}) == 1
    height, width, _ = frames[0].shape
    assert height % 2 == width % 2 == 0
    assert np.allclose(renderer.eyes[0], (1.0, 2.0, 1.5))
    assert not np.array_equal(frames[0], frames[hold])  # the agent moves on the map
    edge = frames[-1][height // 2, 2]
    assert tuple(edge) == GOOD
    lost = list(film(take(metrics={**METRICS, "sr": 0.0}), Grey()))  # pyright: ignore[reportArgumentType]
    assert tuple(lost[-1][height // 2, 2]) == BAD


def test_words_of_this_part_of_the_path_stand_out() -> None:
    frames = list(film(take(word_nodes=(0, 0, 0, 0, 2, 2)), Grey()))  # pyright: ignore[reportArgumentType]
    first, last = (f[:20, :, :].astype(int) for f in (frames[0], frames[-1]))
    left, right = slice(0, 150), slice(160, 260)
    assert first[:, left].max() > last[:, left].max() and first[:, right].max() < last[:, right].max()


def test_the_command_films_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = small_release(tmp_path / "nav")
    monkeypatch.setattr(nav_film, "SPEED", 30.0)
    monkeypatch.setattr(nav_film, "TURN", 30.0)
    monkeypatch.setattr(nav_film, "HOLD", 0.1)
    for task in ("r2r", "rxr", "vlnce"):
        given = [f"release={release}", f"out={tmp_path / 'films'}", f"task={task}", "episodes=1"]
        assert bench.main(["nav-video", *given]) == 0
    for file in (tmp_path / "films").iterdir():
        with av.open(str(file)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert len(frames) >= 4 and frames[0].shape[1] == VIEW[0] + VIEW[1]
        assert frames[0][100:400, : VIEW[0]].std() > 5  # something is to be seen
    assert len(list((tmp_path / "films").iterdir())) == 3
    with pytest.raises(ConfigError, match="no id"):
        bench_nav_video.main([f"release={release}", f"out={tmp_path}", "ids=[nobody]"])
    with pytest.raises(DataError, match="registers"):
        bench_nav_video.main([f"release={release}", f"out={tmp_path}", "task=rxr", "split=val_long"])


def test_wrong_arguments_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wayhand bench nav"):
        bench_nav_video.main([f"release={tmp_path}", f"out={tmp_path}"])
    (tmp_path / "manifest.json").write_text("{}")
    for wrong, words in (("split=val_unsen_house", "val_unseen_house"), ("task=soon", "rxr"), ("episodes=0", "least")):
        with pytest.raises(ConfigError, match=words):
            bench_nav_video.main([f"release={tmp_path}", f"out={tmp_path}", wrong])
