"""Episodes as MCAP files, which Foxglove and other robotics tools play: https://mcap.dev.

Messages are JSON under JSON schemas, so that a reader needs nothing of ours. Times are those of the sensors and of the
commands. Channels: `/state` and `/action`, named values with units; `/camera/<name>`, `foxglove.CompressedImage` with
JPEG, lossy; and, of a recorded run, `/command/raw` and `/command/filtered` at every tick of the loop.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...vla.bridge.recorder import EXTRAS, REFERENCED, Trace
from ...vla.contract import Element, Episode
from ...vla.errors import ConfigError

QUALITY = 90
"""Of the JPEG pictures."""
_TIME = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_NAMES = {"type": "array", "items": {"type": "string"}}
VALUES = "wayhand.NamedValues"
IMAGE = "foxglove.CompressedImage"
SCHEMAS: dict[str, dict[str, Any]] = {
    VALUES: {
        "type": "object",
        "properties": {"timestamp": _TIME, "name": _NAMES, "unit": _NAMES, "value": _NUMBERS},
    },
    IMAGE: {
        "type": "object",
        "properties": {
            "timestamp": _TIME,
            "frame_id": {"type": "string"},
            "data": {"type": "string", "contentEncoding": "base64"},
            "format": {"type": "string"},
        },
    },
}

Message = tuple[str, str, int, dict[str, Any]]
"""Channel, schema, time [ns], content."""


def export_episode(episode: Episode, path: str | Path) -> int:
    """Write `episode` to a new file at `path`, whole or not at all; returns the number of messages.

    Instruction, success and provenance are the file's metadata record `episode`.

    Raises `ConfigError` where the `mcap` package is missing or the file exists.
    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise ConfigError("MCAP files need the mcap package", run="pip install 'wayhand[mcap]'") from error
    path = Path(path)
    if path.exists():
        raise ConfigError("There is a file already", got=str(path), run="choose another out=FILE.mcap")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    count = 0
    with temporary.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="", library="wayhand")
        schemas = {
            name: writer.register_schema(name=name, encoding="jsonschema", data=json.dumps(schema).encode())
            for name, schema in SCHEMAS.items()
        }
        channels: dict[str, int] = {}
        for topic, schema, time, content in sorted(_messages(episode), key=lambda m: m[2]):
            if topic not in channels:
                channels[topic] = writer.register_channel(
                    topic=topic, message_encoding="json", schema_id=schemas[schema]
                )
            data = json.dumps(content).encode()
            writer.add_message(channel_id=channels[topic], log_time=time, publish_time=time, data=data)
            count += 1
        writer.add_metadata("episode", _about(episode))
        writer.finish()
    os.replace(temporary, path)
    return count


def _about(episode: Episode) -> dict[str, str]:
    return {
        "embodiment": episode.spec.embodiment,
        "instruction": episode.instruction,
        "success": json.dumps(episode.success),
        "provenance": json.dumps(dict(episode.provenance), sort_keys=True),
    }


def _messages(episode: Episode) -> Iterator[Message]:
    spec = episode.spec
    rows = [*(episode.row(i) for i in range(len(episode))), episode.final]
    for i, row in enumerate(rows):
        time = row.times["state"]
        yield _values("/state", time, spec.state, row.state)
        if i < len(episode):
            yield _values("/action", time, spec.action_elements, episode.columns["action"][i])
        for camera in spec.cameras:
            yield _image(f"/camera/{camera.name}", row.times[camera.name], camera.frame, row.images[camera.name])
    if set(EXTRAS) <= set(spec.extras):
        trace, first = Trace.of(episode), float(rows[0].times["state"])
        for time, raw, filtered, flags in zip(trace.times, trace.references, trace.commands, trace.flags, strict=True):
            yield _values("/command/filtered", first + time, spec.action_elements, filtered)
            if int(flags) & REFERENCED:
                yield _values("/command/raw", first + time, spec.action_elements, raw)


def _values(topic: str, time: float, elements: Sequence[Element], values: np.ndarray) -> Message:
    finite = [float(v) if np.isfinite(v) else None for v in values]  # JSON has no other numbers
    content = {"name": [e.name for e in elements], "unit": [e.unit for e in elements], "value": finite}
    return topic, VALUES, _ns(time), {"timestamp": _stamp(time), **content}


def _image(topic: str, time: float, frame: str, image: np.ndarray) -> Message:
    import simplejpeg

    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=QUALITY, colorspace="RGB")
    content = {"frame_id": frame, "data": base64.b64encode(data).decode(), "format": "jpeg"}
    return topic, IMAGE, _ns(time), {"timestamp": _stamp(time), **content}


def _ns(time: float) -> int:
    return max(round(time * 1e9), 0)


def _stamp(time: float) -> Mapping[str, int]:
    seconds, rest = divmod(_ns(time), 1_000_000_000)
    return {"sec": seconds, "nsec": rest}
