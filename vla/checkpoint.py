"""Checkpoints: safetensors and one JSON manifest, written atomically, verified by hash, never a pickle.

    RUN/step-00001000/manifest.json      spec and statistics per embodiment, policy recipe, versions, hash of each file
    RUN/step-00001000/<part>.safetensors model, ema, optimizer, …

A step folder is complete or absent: it is written aside, flushed to disk, and renamed as the last act.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .contract import EnvSpec
from .errors import CheckpointError, SpecError
from .normalize import NormStats

FORMAT = 1
MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(\d{8,})")
_PART = re.compile(r"[a-z][a-z_]*\.safetensors")
_PACKAGES = ("wayhand", "torch", "numpy", "transformers", "accelerate", "safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """One verified step.

    Args:
        path: its folder.
        step: optimiser steps taken.
        policy: the recipe, a node with `_target_`.
        config: the whole training configuration, as it was resolved.
        trainer: what the loop needs to go on, JSON types.
        specs, statistics: keyed by embodiment.
    """

    path: Path
    step: int
    policy: Mapping[str, Any]
    config: Mapping[str, Any]
    trainer: Mapping[str, Any]
    specs: Mapping[str, EnvSpec]
    statistics: Mapping[str, NormStats]
    versions: Mapping[str, str]
    parts: Sequence[str]

    @property
    def spec(self) -> EnvSpec:
        """The spec of the only embodiment; raises `CheckpointError` where there are several."""
        return self.specs[self._only()]

    @property
    def stats(self) -> NormStats:
        return self.statistics[self._only()]

    def _only(self) -> str:
        if len(self.specs) != 1:
            raise CheckpointError(f"{self.path} holds several embodiments; name one", exists=sorted(self.specs))
        return next(iter(self.specs))

    def has(self, part: str) -> bool:
        return part in self.parts

    def weights(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part, e.g. `"model"`, `"ema"`, `"optimizer"`."""
        if part not in self.parts:
            raise CheckpointError(f"{self.path} has no part '{part}'", exists=self.parts)
        return load_file(self.path / f"{part}.safetensors")


def save(
    run: str | Path,
    step: int,
    *,
    parts: Mapping[str, Mapping[str, Tensor]],
    policy: Mapping[str, Any],
    specs: Mapping[str, EnvSpec],
    statistics: Mapping[str, NormStats],
    config: Mapping[str, Any],
    trainer: Mapping[str, Any],
    keep: int | None = None,
) -> Path:
    """Write `RUN/step-<step>` and return it; raises `CheckpointError` where an intact one of that step exists.

    Args:
        keep: how many newest steps to keep; older ones go after the commit, never before. None keeps all.
    """
    run = Path(run)
    if not run.exists():
        run.mkdir(parents=True, exist_ok=True)
        _fsync(run.parent)
    target = run / f"step-{step:08d}"
    _make_room(target)
    staging = run / f".writing-{target.name}-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    for name, tensors in parts.items():
        save_file(_separate(tensors), staging / f"{name}.safetensors")
    manifest = {
        "format": FORMAT,
        "step": step,
        "policy": policy,
        "specs": {k: v.to_dict() for k, v in specs.items()},
        "statistics": {k: v.to_dict() for k, v in statistics.items()},
        "config": config,
        "trainer": trainer,
        "versions": versions(),
        "files": {p.name: {"sha256": _sha256(p), "bytes": p.stat().st_size} for p in sorted(staging.iterdir())},
    }
    body = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode()
    sealed = {"sha256": hashlib.sha256(body).hexdigest(), "manifest": manifest}
    (staging / MANIFEST).write_text(json.dumps(sealed, indent=1, sort_keys=True))
    for path in (*staging.iterdir(), staging):
        _fsync(path)
    staging.rename(target)
    _fsync(run)
    _clean(target, keep)
    return target


def load(path: str | Path, *, verify: bool = True) -> Checkpoint:
    """A step folder, or the newest valid step of a run folder.

    A damaged newest step of a run is named in a warning and the one before is taken; a damaged step that was asked
    for by name raises `CheckpointError`.
    """
    path = Path(path)
    if (path / MANIFEST).exists() or _STEP.fullmatch(path.name):
        return _load_step(path, verify=verify)
    found = steps(path)
    if not found:
        raise CheckpointError(
            f"There is no checkpoint in {path}",
            expected="a folder that `wayhand train` wrote",
            run=f"wayhand train policy=regression data=PATH out={path}",
        )
    broken: Exception | None = None
    for step in reversed(found):
        try:
            return _load_step(step, verify=verify)
        except (CheckpointError, SpecError) as error:
            broken = error
            warnings.warn(f"skipping the damaged checkpoint {step}: {error}", stacklevel=2)
    raise CheckpointError(f"No checkpoint in {path} is intact", got=str(broken), exists=[p.name for p in found])


def steps(run: str | Path) -> list[Path]:
    """The step folders of a run, oldest first; not verified."""
    run = Path(run)
    found = [p for p in run.iterdir() if _STEP.fullmatch(p.name) and p.is_dir()] if run.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _load_step(path: Path, *, verify: bool) -> Checkpoint:
    try:
        sealed = json.loads((path / MANIFEST).read_text())
        manifest, seal = sealed["manifest"], sealed["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read", got=f"{type(error).__name__}: {error}") from error
    body = json.dumps(manifest, indent=1, sort_keys=True).encode()
    if hashlib.sha256(body).hexdigest() != seal:
        raise CheckpointError(f"{path / MANIFEST} is damaged: its checksum does not match")
    if manifest["format"] != FORMAT:
        raise CheckpointError(f"{path} has another format", expected=str(FORMAT), got=str(manifest["format"]))
    _check_files(path, manifest["files"], verify=verify)
    return Checkpoint(
        path=path,
        step=int(manifest["step"]),
        policy=manifest["policy"],
        config=manifest["config"],
        trainer=manifest["trainer"],
        specs={k: EnvSpec.from_dict(v) for k, v in manifest["specs"].items()},
        statistics={k: NormStats.from_dict(v) for k, v in manifest["statistics"].items()},
        versions=manifest["versions"],
        parts=[name.removesuffix(".safetensors") for name in manifest["files"]],
    )


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, which the format cannot express (tied weights are written twice)."""
    out: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        where = value.untyped_storage().data_ptr()
        out[name] = value.clone() if where in seen else value
        seen.add(where)
    return out


def _check_files(path: Path, files: Mapping[str, Mapping[str, Any]], *, verify: bool) -> None:
    if (path / MANIFEST).is_symlink():
        raise CheckpointError(f"{path / MANIFEST} is a link", expected="a file")
    for name in sorted({p.name for p in path.iterdir()} - {MANIFEST}):
        if name not in files or not _PART.fullmatch(name):
            raise CheckpointError(f"{path / name} does not belong to a checkpoint", exists=[MANIFEST, *files])
    for name, expected in files.items():
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise CheckpointError(f"{file} is missing or is a link")
        if file.stat().st_size != expected["bytes"]:
            raise CheckpointError(
                f"{file} is damaged", expected=f"{expected['bytes']} bytes", got=f"{file.stat().st_size} bytes"
            )
        if verify and _sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file} is damaged: its checksum does not match")
        if verify:
            try:
                with safe_open(file, "pt"):
                    pass
            except SafetensorError as error:
                raise CheckpointError(f"{file} is not a safetensors file", got=str(error)) from error


def _make_room(target: Path) -> None:
    if not target.exists():
        return
    try:
        _load_step(target, verify=True)
    except (CheckpointError, SpecError):
        _remove(target)
        return
    raise CheckpointError(f"{target} exists already", run="train into another folder, or remove this one")


def _clean(newest: Path, keep: int | None) -> None:
    for leftover in (p for p in newest.parent.iterdir() if p.name.startswith((".writing-step-", ".removing-step-"))):
        shutil.rmtree(leftover, ignore_errors=True)
    if keep is not None:
        found = steps(newest.parent)
        # A later step is a damaged one that the run was not resumed from: it must not crowd out an intact one.
        for old in found[: max(found.index(newest) + 1 - max(keep, 1), 0)]:
            _remove(old)


def _remove(step: Path) -> None:
    # Renamed first: a half deleted folder must not look like a checkpoint.
    shutil.rmtree(step.rename(step.with_name(f".removing-{step.name}-{os.getpid()}")), ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
