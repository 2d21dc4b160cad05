"""Episodes as MCAP files, read back with the reference reader."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_fixtures import make_episode, make_spec
from recorded_runs import record_stick

from wayhand.datasets.formats.mcap import export_episode
from wayhand.datasets.store import create
from wayhand.scripts import data
from wayhand.vla.bridge.recorder import Trace
from wayhand.vla.errors import ConfigError

pytest.importorskip("mcap", reason="the optional mcap package is not installed")


def read(path: Path) -> tuple[dict[str, list[tuple[int, dict[str, Any]]]], dict[str, str]]:
    """Messages with their times by channel, and the episode's metadata."""
    from mcap.reader import make_reader

    channels: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    with path.open("rb") as file:
        reader = make_reader(file)
        for schema, channel, message in reader.iter_messages():
            assert schema is not None and schema.encoding == "jsonschema" and channel.message_encoding == "json"
            assert (schema.name == "foxglove.CompressedImage") == channel.topic.startswith("/camera/")
            channels.setdefault(channel.topic, []).append((message.log_time, json.loads(message.data)))
        (about,) = reader.iter_metadata()
    return channels, about.metadata


def test_an_episode_comes_back(tmp_path: Path) -> None:
    import simplejpeg

    spec = make_spec()
    episode = make_episode(spec, 3)
    for name in ("state", "front", "wrist"):
        episode.columns[f"observation.times.{name}"][:] = 0.05 * np.arange(len(episode))
        episode.final.times[name] = 0.05 * len(episode)  # type: ignore[index]
    count = export_episode(episode, tmp_path / "a.mcap")
    channels, about = read(tmp_path / "a.mcap")
    assert set(channels) == {"/state", "/action", "/camera/front", "/camera/wrist"}
    assert count == sum(map(len, channels.values())) == 4 * len(episode) + 3
    states = np.array([m["value"] for _, m in channels["/state"]], np.float32)
    np.testing.assert_array_equal(states[:-1], episode.columns["observation.state"])
    np.testing.assert_array_equal(states[-1], episode.final.state)
    actions = np.array([m["value"] for _, m in channels["/action"]], np.float32)
    np.testing.assert_array_equal(actions, episode.columns["action"])
    assert channels["/action"][0][1]["name"] == ["dx", "dy", "width"] and channels["/action"][0][1]["unit"] == ["m"] * 3
    assert [t for t, _ in channels["/state"]] == [round(0.05e9 * k) for k in range(len(episode) + 1)]
    last, picture = channels["/camera/front"][-1]
    assert picture["timestamp"]["sec"] * 10**9 + picture["timestamp"]["nsec"] == last
    seen = simplejpeg.decode_jpeg(base64.b64decode(picture["data"]))
    assert seen.shape == episode.final.images["front"].shape and picture["format"] == "jpeg"
    assert about["instruction"] == episode.instruction and json.loads(about["success"]) == episode.success
    with pytest.raises(ConfigError, match="already"):
        export_episode(episode, tmp_path / "a.mcap")


def test_a_recorded_run_shows_every_command(tmp_path: Path) -> None:
    episode = record_stick()
    export_episode(episode, tmp_path / "run.mcap")
    channels, about = read(tmp_path / "run.mcap")
    trace = Trace.of(episode)
    filtered = channels["/command/filtered"]
    np.testing.assert_array_equal([m["value"] for _, m in filtered], trace.commands)
    assert [t for t, _ in filtered] == [round(t * 1e9) for t in trace.times]
    raw = [m["value"] for _, m in channels["/command/raw"]]
    np.testing.assert_array_equal(raw, trace.references[trace.flags % 2 == 1])
    assert json.loads(about["provenance"])["outcome"]["success"]


def test_the_command_exports_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(cameras=())
    with create(tmp_path / "set", spec) as writer:
        writer.append(make_episode(spec, 2))
    assert data.main(["export", str(tmp_path / "set"), "episode=0", f"out={tmp_path / 'b.mcap'}"]) == 0
    assert set(read(tmp_path / "b.mcap")[0]) == {"/state", "/action"}
    with pytest.raises(ConfigError, match="mcap"):
        data.main(["export", str(tmp_path / "set"), "out=c.bag"])
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(ConfigError, match="pip install"):
        export_episode(make_episode(spec, 1), tmp_path / "d.mcap")
