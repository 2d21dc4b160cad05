"""What an evaluation leaves behind: numbers, films and one page that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
from pads import PadsEnv, ReadingPolicy
from PIL import Image

from wayhand.scripts import eval as evaluate
from wayhand.scripts.cli import main as wayhand
from wayhand.vla.errors import ConfigError, DataError
from wayhand.vla.evaluation.baselines import Baseline
from wayhand.vla.evaluation.page import page
from wayhand.vla.evaluation.plots import curve, short
from wayhand.vla.evaluation.protocols import FIRST_EVALUATION_SEED, SPAN, TABLETOP_V1
from wayhand.vla.evaluation.records import EpisodeResult
from wayhand.vla.evaluation.report import find, write_report
from wayhand.vla.evaluation.rollout import EpisodeRequest, rollout
from wayhand.vla.evaluation.statistics import paired_difference, wilson
from wayhand.vla.evaluation.summary import ALL, costs, rows, summarise
from wayhand.vla.evaluation.video import VideoSink

# --- protocol --------------------------------------------------------------------------------------------------


def test_the_protocol_is_frozen() -> None:
    # A protocol is a name for numbers that can be compared: change it by adding another one, never this digest.
    assert TABLETOP_V1.name == "wayhand-tabletop-v1"
    assert TABLETOP_V1.hash == "969aa5115cfb8399"


def test_splits_share_no_seed_with_each_other_or_with_demonstrations() -> None:
    previous = FIRST_EVALUATION_SEED - 1
    for split in TABLETOP_V1.splits:
        assert TABLETOP_V1.requests(split, 3)[0].seed > previous
        previous = TABLETOP_V1.requests(split, 3, base=SPAN - 3)[-1].seed
    with pytest.raises(ConfigError, match="leave their split"):
        TABLETOP_V1.requests("seen", 3, base=SPAN - 2)


def test_ablations_share_their_seeds_and_tasks_take_turns() -> None:
    plain = TABLETOP_V1.requests("seen", 6, tasks=("a", "b", "c"))
    ablated = TABLETOP_V1.requests("seen", 6, tasks=("a", "b", "c"), ablated="grounding")
    assert [r.seed for r in plain] == [r.seed for r in ablated]
    assert sorted(str(r.options["task"]) for r in plain) == ["a", "a", "b", "b", "c", "c"]


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'seen'"):
        TABLETOP_V1.requests("sen", 1)


# --- numbers ---------------------------------------------------------------------------------------------------


def results(successes: Sequence[bool], ablation: str = "", first: int = 0) -> list[EpisodeResult]:
    return [
        EpisodeResult(
            first + i, {}, ablation, task=("a", "b")[i % 2], split="seen", success=s, compatible=3, steps=10 + i
        )
        for i, s in enumerate(successes)
    ]


def test_rows_count_per_task_and_overall() -> None:
    a, b, overall = rows(results([True, False, True, True]))
    assert [(r.task, r.successes, r.n) for r in (a, b, overall)] == [("a", 2, 2), ("b", 1, 2), (ALL, 3, 4)]
    assert (overall.low, overall.high) == wilson(3, 4)
    assert overall.chance == pytest.approx(1 / 3)
    assert (overall.steps, overall.first_seed, overall.last_seed) == (11.5, 0, 3)


def test_costs_pair_by_seed_whatever_the_order() -> None:
    plain, ablated = results([True, True, False]), results([False, True, False], "no_vision")
    (cost,) = costs([*ablated[::-1], *plain])
    wanted = paired_difference([True, True, False], [False, True, False])
    assert (cost.estimate, cost.low, cost.high) == (wanted.estimate, wanted.low, wanted.high)


def test_baselines_stay_inside_the_limits_and_repeat_themselves() -> None:
    requests = [EpisodeRequest(i) for i in range(4)]
    for kind in ("random", "zero"):

        def policy(spec: object, kind: str = kind) -> Baseline:
            return Baseline(PadsEnv().body, kind=kind)  # type: ignore[arg-type]

        once, again = (rollout(PadsEnv, policy, requests, workers=0, envs_per_worker=n) for n in (1, 3))
        assert once == again
        assert not any(r.error for r in once)


# --- films -----------------------------------------------------------------------------------------------------


def test_films_hold_every_observation_and_browsers_can_play_them(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path)
    (result,) = rollout(PadsEnv, ReadingPolicy, [EpisodeRequest(1, {"split": "seen"})], workers=0, sink=sink)
    (entry,) = sink.entries
    assert (entry["digest"], entry["success"], entry["seed"]) == (result.digest, True, 1)
    with av.open(str(tmp_path / str(entry["video"]))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
        assert stream.average_rate == 20
        frames = sum(1 for _ in container.decode(stream))
    assert frames == result.steps + 1 + 16
    data = (tmp_path / str(entry["video"])).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


# --- the page --------------------------------------------------------------------------------------------------


class Parts(HTMLParser):
    """Every address a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "poster", "data", "action")]
        if tag not in ("meta", "link", "br", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open[-1:] else ""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evaluation, a training run and a deployment, as the commands leave them."""
    out = tmp_path_factory.mktemp("out")
    requests = [EpisodeRequest(i, {"split": s}) for s in ("seen", "unseen_phrasing") for i in range(6)]
    requests += [EpisodeRequest(i, {"split": "seen"}, "no_language") for i in range(6)]
    found = rollout(PadsEnv, ReadingPolicy, requests, workers=0)
    sink = VideoSink(out / "eval" / "videos")
    rollout(PadsEnv, ReadingPolicy, [r.request for r in evaluate.worth_seeing(found, 2)], workers=0, sink=sink)
    summary = {
        "protocol": {k: getattr(TABLETOP_V1, k) for k in ("name", "hash", "success", "chance")}
        | {"splits": dict(TABLETOP_V1.splits)},
        "policy": {"name": "Reading<Policy>", "sha256": "ab" * 32},
        "environment_name": "Pads",
        "environment": {"_target_": "pads.PadsEnv"},
        "settings": {"episodes": 6, "execute": 8},
        **summarise(found),
        "videos": sink.entries,
        "replays": "4 of 4",
        "versions": {"python": "3.11.7", "GL_RENDERER": "llvmpipe"},
        "command": "wayhand eval checkpoint=x 'splits=[seen,unseen_phrasing]'",
    }
    evaluate.write_json(out / "eval" / "summary.json", summary)
    lines = [{"step": 20 * i, "loss": 0.5 / i, "lr": 1e-3} for i in range(1, 9)]
    (out / "policy").mkdir()
    (out / "policy" / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"step": 18')
    (out / "deploy").mkdir()
    loop = {"rate_hz": 100.0, "missed_deadlines": 7, "lateness_us": {"p50": 61.5, "max": 4321.0}, "latches": []}
    deploy = {"config": {"robot": "simulated"}, "loop": loop, "outcomes": [{"seed": 1, "success": True}], "success": 31}
    (out / "deploy" / "deploy.json").write_text(json.dumps(deploy))
    write_report(out)
    return out


def test_the_page_is_self_contained(evaluated: Path) -> None:
    text = (evaluated / "report.html").read_text(encoding="utf-8")
    parts = Parts()
    parts.feed(text)
    assert not parts.open
    assert parts.addresses
    assert all(a.startswith("data:") for a in parts.addresses)
    assert not {"script", "iframe", "object"} & set(parts.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "Reading&lt;Policy&gt;" in text


def test_the_page_holds_every_number(evaluated: Path) -> None:
    parts = Parts()
    parts.feed((evaluated / "report.html").read_text(encoding="utf-8"))
    summary = json.loads((evaluated / "eval" / "summary.json").read_text())
    for row in summary["rows"]:
        if not row["ablation"] or row["task"] == ALL:
            for number in (
                f"{row['rate']:.1%}",
                f"{row['low']:.1%} – {row['high']:.1%}",
                f"{row['successes']}/{row['n']}",
            ):
                assert number in parts.text
    for cost in summary["costs"]:
        assert f"{cost['estimate']:+.1%}" in parts.text
    wanted = (
        TABLETOP_V1.name,
        TABLETOP_V1.hash,
        "llvmpipe",
        "3.11.7",
        "61.5",
        "4321",
        "loss",
        "missed deadlines",
        "31",
    )
    for fact in (*wanted, "wayhand eval checkpoint=x", "seeds 0 – 5"):
        assert fact in parts.text
    assert parts.tags.count("video") == len(summary["videos"]) >= 4


def test_the_picture_shows_the_numbers(evaluated: Path) -> None:
    with Image.open(evaluated / "summary.png") as image:
        assert image.width == 1200
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50


def test_nothing_to_report_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wayhand eval"):
        find(tmp_path)


def test_each_part_alone_makes_a_page(evaluated: Path) -> None:
    for part in ("policy", "deploy", "eval"):
        assert write_report(evaluated / part).stat().st_size > 2000


def test_the_report_command(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert wayhand(["report", f"out={evaluated}"]) == 0
    assert "report.html" in capsys.readouterr().out


def test_curves_stay_inside_their_frame() -> None:
    values = [10.0 ** (-i / 50) for i in range(1000)]
    svg = curve("loss", list(range(1000)), values)
    points = re.search(r'points="([^"]+)"', svg)
    assert points
    assert "(log)" in svg
    assert len(points[1].split()) <= 300
    for point in points[1].split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 360
        assert 0 <= y <= 170
    assert "<polyline" in curve("flat", [0, 1], [2.0, 2.0])
    assert curve("nothing", [0], [float("nan")]) == ""


def test_numbers_are_short() -> None:
    assert [short(x) for x in (0, 0.00031, 1.5, 12_345, 999.4)] == ["0", "3.1e-4", "1.5", "12.3k", "999"]


def test_titles_are_escaped() -> None:
    assert "<title>a &lt; b</title>" in page("a < b", "")


# --- the command -----------------------------------------------------------------------------------------------


def test_films_show_failures_and_successes_of_all_tasks() -> None:
    seen = evaluate.worth_seeing(results([True] * 8 + [False] * 8), 4)
    assert [r.success for r in seen] == [True, True, False, False]
    assert {r.task for r in seen[:2]} == {"a", "b"}
    assert len(evaluate.worth_seeing(results([True] * 8), 4)) == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("splits=[sen]", "did you mean 'seen'"),
        ("ablations=[vision]", "no_vision"),
        ("episodes=0", "episodes"),
        ("splits=[]", "split"),
    ],
)
def test_wrong_settings_are_said_before_anything_runs(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        evaluate.main(["checkpoint=oracle", f"out={tmp_path / 'out'}", override])
    assert not (tmp_path / "out").exists()
