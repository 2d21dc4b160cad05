"""Episodes as small H.264 films: all cameras side by side, the words, the step and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..contract import Episode, Observation

TILE = 256
BAR = 34
HOLD = 0.8
"""How long the last frame stays [s]."""
INK, DIM, GOOD, BAD, GROUND = (238, 240, 244), (160, 166, 178), (92, 200, 130), (240, 110, 100), (18, 20, 26)


class VideoSink:
    """An `EpisodeSink` that writes every episode to `folder` and remembers what it shows.

    Attributes:
        entries: per episode the file names of film and still, and what the episode was; JSON types.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.entries: list[dict[str, object]] = []

    def append(self, episode: Episode) -> None:
        record = {k: episode.provenance.get(k, "") for k in ("task", "split", "ablation", "seed", "told", "digest")}
        name = "-".join(str(record[k]) for k in ("split", "ablation", "task", "seed") if record[k] != "")
        write_video(self._folder / f"{name}.mp4", film(episode), 1 / episode.spec.control_dt)
        still(episode).save(self._folder / f"{name}.png")
        self.entries.append(
            {
                **record,
                "video": f"{name}.mp4",
                "still": f"{name}.png",
                "instruction": episode.instruction,
                "success": bool(episode.success),
                "steps": len(episode),
            }
        )


def film(episode: Episode) -> list[np.ndarray]:
    """uint8 [h w 3] frames of even size, one per observation; the last one is held."""
    observations = [*(episode.row(i) for i in range(len(episode))), episode.final]
    told = str(episode.provenance.get("told", episode.instruction))
    words = f"“{told}”" if told else "(told nothing)"
    about = " · ".join(str(episode.provenance[k]) for k in ("task", "split", "ablation") if episode.provenance.get(k))
    if told != episode.instruction:
        about += f" · asked: {episode.instruction}"
    if episode.provenance.get("ablation") == "no_vision":
        about += " · it sees black"
    frames: list[np.ndarray] = []
    for i, observation in enumerate(observations):
        last = i == len(episode)
        note = f"{i}/{len(episode)}"
        end = ("success" if episode.success else "failure") if last else ""
        frames.append(_frame(observation, words, about, note, end))
    hold = round(HOLD / episode.spec.control_dt)
    return frames + [frames[-1]] * hold


def still(episode: Episode) -> Image.Image:
    """The last view of the first camera."""
    image = next(iter(episode.final.images.values()))
    return Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BICUBIC)


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """H.264 in MP4 (yuv420p, index first, so that browsers play it at once); uint8 [h w 3] frames of even size."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "26", "preset": "medium", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _frame(observation: Observation, words: str, about: str, note: str, end: str) -> np.ndarray:
    views = list(observation.images.items())
    width = max(TILE * len(views), 2 * TILE)
    canvas = Image.new("RGB", (width, TILE + 2 * BAR), GROUND)
    draw = ImageDraw.Draw(canvas)
    left = (width - TILE * len(views)) // 2
    for i, (name, image) in enumerate(views):
        view = Image.fromarray(np.ascontiguousarray(image)).resize((TILE, TILE), Image.Resampling.BICUBIC)
        canvas.paste(view, (left + i * TILE, BAR))
        draw.text(
            (left + i * TILE + 8, BAR + TILE - 20), name, fill=INK, font=_font(12), stroke_width=1, stroke_fill=GROUND
        )
    draw.text((10, BAR // 2), words, fill=INK, font=_fitting(words, width - 20, 17), anchor="lm")
    draw.text((10, TILE + BAR + BAR // 2), about, fill=DIM, font=_fitting(about, width - 160, 14), anchor="lm")
    draw.text((width - 10, TILE + BAR + BAR // 2), note, fill=DIM, font=_font(14), anchor="rm")
    if end:
        colour = GOOD if end == "success" else BAD
        draw.rectangle((0, BAR, width - 1, BAR + TILE - 1), outline=colour, width=4)
        draw.text((width - 80, TILE + BAR + BAR // 2), end, fill=colour, font=_font(15), anchor="rm")
    return np.asarray(canvas)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(text: str, width: float, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    while size > 9 and _font(size).getlength(text) > width:
        size -= 1
    return _font(size)
