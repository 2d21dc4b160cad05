"""`wayhand pretrain`: a vision-language model from pictures with words, rendered or of any folder."""

from __future__ import annotations

import json
import shlex
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from ..datasets.pairs import by_count, open_pairs
from ..vla import checkpoint
from ..vla.config import Config, instantiate
from ..vla.errors import ConfigError
from ..vla.learning import loop
from ..vla.learning.pair_batches import PairBatches
from ..vla.learning.pretraining import Pretrainer
from ..vla.pairs import Pairs
from .compose import load
from .pretrain_measure import FIGURES, measure, told_apart
from .pretrain_recipe import recipe, require_composition, start_from
from .pretrain_render import DESCRIPTION, SPLITS, counts_from, render, whole_parts
from .pretrain_tables import compare, show
from .train import cores, discard, resume_point

HELP = """\
Usage: wayhand pretrain data=PATH out=RUN [vlm=VLM] [objectives=OBJECTIVES] [key=value …]

Teaches a vision-language model from pictures with words. Where `data` is a folder that does not exist, tables with
things are rendered into it, with captions, questions and answers that are true of them; else it is a folder of
pictures with pairs.jsonl, or a zarr group. Ctrl-C saves; the same command continues. A finished run is measured on
pictures it has not seen: retrieval, answers, captions.

Examples:
  wayhand pretrain data=runs/pairs out=runs/vlm curriculum=few_first balance=generative steps=30000 max_minutes=52
  wayhand pretrain data=runs/pairs out=runs/all objectives=all steps=400
  wayhand pretrain data=my-pictures out=runs/mine init_from=runs/vlm stage=connector
  wayhand pretrain data=runs/pairs out=runs/other vision=vit connector=qformer
"""
FREE_TO_CHANGE = (
    *("steps", "log_every", "save_every", "keep", "threads", "overwrite", "out", "max_minutes", "workers"),
    *("compile", "measured", "gallery", "rerank"),
)
"""What a run that is continued may change without becoming another run."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    vlm: Config
    vision: Config | None = None
    connector: Config | None = None
    language: Config | None = None
    tokenizer: Config | None = None
    objectives: Config
    data: str | list[str]
    out: Path
    pairs: int
    held_out: int
    size: int
    part: int
    workers: int
    init_from: Path | None
    stage: Literal["all", "connector"]
    lora: Config | None
    without: list[str]
    balance: Config | None
    curriculum: Config | None
    ablation: bool
    blind: bool
    overwrite: bool
    steps: int
    max_minutes: float | None
    batch_size: int
    questions: int
    phrases: int
    ask: dict[str, float] | None
    lr: float
    weight_decay: float
    warmup: int
    clip: float
    ema: float
    precision: Literal["fp32", "bf16"]
    compile: bool
    shift: int
    jitter: float
    measured: list[str]
    gallery: int
    rerank: int
    seed: int
    log_every: int
    save_every: int
    keep: int
    threads: int | None

    def __post_init__(self) -> None:
        for name in (
            "pairs",
            "held_out",
            "size",
            "part",
            "workers",
            "steps",
            "batch_size",
            "log_every",
            "save_every",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"'{name}' is too small", expected="at least 1", got=str(getattr(self, name)))
        unknown = [name for name in self.measured if name not in SPLITS]
        if unknown:
            raise ConfigError(f"There is no split '{unknown[0]}' to measure on", exists=SPLITS)
        if not self.lr > 0:
            raise ConfigError("'lr' must be positive", got=str(self.lr))

    @property
    def settings(self) -> loop.Settings:
        names = {f.name for f in fields(loop.Settings)}
        return loop.Settings(**{k: v for k, v in asdict(self).items() if k in names})


def main(overrides: list[str]) -> int:
    cfg, whole = load("pretrain", overrides, PretrainConfig)
    return ablate(cfg, overrides) if cfg.ablation else pretrain(cfg, whole, overrides)


def ablate(cfg: PretrainConfig, overrides: list[str]) -> int:
    """One run as asked, one less each objective, one more each that `without` names, in folders of `out`; a table."""
    objectives = [name for name in cfg.objectives if name not in cfg.without]
    if len(objectives) < 2:
        raise ConfigError("An ablation needs two objectives, to leave out one", got=", ".join(objectives))
    absent = {
        "whole": cfg.without,
        **{f"without_{name}": [*cfg.without, name] for name in objectives},
        **{f"with_{name}": [other for other in cfg.without if other != name] for name in cfg.without},
    }
    kept = [o for o in overrides if o.partition("=")[0] not in ("out", "ablation", "without")]
    runs: dict[str, Any] = {}
    minutes: dict[str, float] = {}
    for name, without in absent.items():
        out, name = cfg.out / name, name.replace("_", " ")
        mine = [*kept, f"out={out}", f"without=[{','.join(without)}]"]
        Console().print(f"{name}: run {len(minutes) + 1} of {len(absent)}", highlight=False)
        code = pretrain(*load("pretrain", mine, PretrainConfig), overrides)
        if code:
            return code
        minutes[name] = checkpoint.load(out).trainer["seconds"] / 60
        if cfg.measured and (out / FIGURES).exists():
            figures: dict[str, Any] = json.loads((out / FIGURES).read_text())
            runs[name] = figures[cfg.measured[0]]
    if not runs:
        Console().print("Nothing was measured: `measured` names no split, or none of the pictures are rendered.")
        return 0
    compare(runs, minutes, cfg.out, Console())
    return 0


def pretrain(cfg: PretrainConfig, whole: Config, overrides: list[str]) -> int:
    """One run: its pairs, its training, its figures; `overrides` are those of the command that continues it."""
    console = Console()
    torch.set_num_threads(cfg.threads or cores())
    require_composition(cfg.vlm)
    sources, tests = sources_of(cfg, console)
    for name, pairs in tests.items():
        told_apart(name, pairs, cfg.gallery)  # what cannot be measured is said before it is trained for
    if cfg.overwrite:
        discard(cfg.out)
    resume = resume_point(cfg.out, whole, FREE_TO_CHANGE)
    node = resume.policy if resume else recipe(cfg, sources)
    torch.manual_seed(cfg.seed)
    model: Pretrainer = instantiate(node)
    if resume is None and cfg.init_from is not None:
        start_from(model, cfg.init_from)
    if cfg.compile:
        model.vlm.vision.compile()
        model.vlm.language.compile(dynamic=True)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    pictures = sum(len(s) for s in sources.values())
    console.print(
        f"{pictures} pictures; {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{trained / 1e6:.2f} M trained; {cfg.steps * cfg.batch_size / pictures:.1f} epochs"
    )
    batches = PairBatches(
        sources,
        batch_size=cfg.batch_size,
        questions=cfg.questions,
        phrases=cfg.phrases,
        seed=cfg.seed,
        ask=cfg.ask,
        curriculum=None if cfg.curriculum is None else instantiate(cfg.curriculum),
        shift=cfg.shift,
        jitter=cfg.jitter,
    )
    with warnings.catch_warnings():
        # Under autocast the norms' weights stay fp32; PyTorch says so once a call site.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        done = loop.fit(model, batches, cfg.settings, cfg.out, recipe=node, config=whole.to_dict(), resume=resume)
        if done.stopped:
            again = shlex.join(["wayhand", "pretrain", *(o for o in overrides if not o.startswith("overwrite="))])
            # Markup would take the brackets of a list for a style.
            said = f"Stopped and saved at step {done.step}. Continue with:\n  {again}"
            console.print(said, soft_wrap=True, markup=False)
            return 130
        console.print(f"Trained {done.step} steps in {done.seconds / 60:.1f} min.")
        if tests:
            model.load_state_dict(checkpoint.load(cfg.out).weights("ema"))
            figures = measure(model.eval(), tests, gallery=cfg.gallery, k=cfg.rerank, out=cfg.out, seed=cfg.seed)
            show(figures, console)
    console.print(f"checkpoint  {checkpoint.steps(cfg.out)[-1]}", soft_wrap=True)
    return 0


def sources_of(cfg: PretrainConfig, console: Console) -> tuple[dict[str, Pairs], dict[str, Pairs]]:
    """What is trained on, and the test splits of rendered pairs; renders what is missing."""
    paths = [Path(p) for p in ([cfg.data] if isinstance(cfg.data, str) else cfg.data)]
    sources: dict[str, Pairs] = {}
    tests: dict[str, Pairs] = {}
    for path in paths:
        if path.exists() and not (path / DESCRIPTION).exists():
            sources[path.name] = open_pairs(path, size=cfg.size)
            continue
        counts, made = whole_parts(counts_from(cfg.pairs, cfg.held_out, cfg.measured), cfg.part), 0
        for new in render(path, counts, size=cfg.size, part=cfg.part, workers=cfg.workers):
            made += new
            console.print(f"{made} of {sum(counts.values())} pictures are rendered", highlight=False)
        found = open_pairs(path / "train")
        # A curriculum may begin with the pictures that show few things.
        parts = {path.name: found} if cfg.curriculum is None else by_count(found)
        sources |= parts if len(paths) == 1 else {f"{path.name}/{name}": part for name, part in parts.items()}
        tests |= {name: open_pairs(path / name) for name in cfg.measured}
    return sources, tests
