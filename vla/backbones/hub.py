"""Models and tokenizers from folders that somebody else made, or from the Hugging Face hub.

A model folder is data. Whatever in it could become code is refused by name before anything is loaded: pickled
weights, classes to import (`auto_map`, `_target_`), attention kernels to fetch (`_attn_implementation_internal`),
other models to load instead, and Jinja templates. Wayhand renders no chat template, so that dropping one loses
nothing here; `cleaned` makes a copy without all that. From the hub only tensors, JSON and vocabularies are downloaded.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
TEMPLATES = (".jinja", ".jinja2", ".j2")
TEMPLATE_FILES = ("chat_template.json", "chat_template.txt")
REFUSED_KEYS = {
    "auto_map": "a class to import from the folder's own code",
    "_attn_implementation_internal": "an attention kernel to fetch and run",
    "_target_": "a class or function to call",
    "chat_template": "a Jinja template",
    "base_model_name_or_path": "another model, unseen, to load in this one's place",
}
# Their keys are words of a vocabulary, which may spell anything; the tokenizers library reads them as plain data.
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
SAFE_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.yaml", "*.yml")
_YAML_KEY = re.compile(r"""(?:^|[\s{,"'-])(""" + "|".join(REFUSED_KEYS) + r""")["']?\s*:""", re.MULTILINE)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_LONGEST_HEADER = 100_000_000  # the safetensors format's own limit, bytes


def checked(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a model, after every file in it was looked at.

    Args:
        source: a local folder, or a hub id such as `"HuggingFaceTB/SmolLM2-135M"`, of which tensors, JSON and
            vocabularies are downloaded into the hub's own cache.
        revision: commit, tag or branch of a hub id; a commit pins what is loaded.

    Raises `ConfigError` naming the first file and key that could become code, or saying that there is no such model.
    """
    folder = _folder(source, revision)
    for problem in problems(folder):
        raise ConfigError(
            f"The model folder {folder} is refused: {problem}",
            expected="safetensors, configurations and vocabularies: data alone",
            got=problem,
            run=f"python -c \"from wayhand.vla.backbones.hub import cleaned; cleaned('{source}', 'clean-model')\" "
            "makes a copy without it; or delete it there",
        )
    return folder


def problems(folder: Path) -> Iterator[str]:
    """Every file and key under a folder that could become code, as one sentence each."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if path.is_symlink():
                yield f"'{name}' is a link to another folder"
        elif (fault := _fault_of_name(path)) is not None:
            yield f"'{name}' is {fault}"
        elif path.suffix == ".safetensors":
            yield from (f"'{name}' {fault}" for fault in _faults_of_tensors(path))
        elif path.suffix == ".json" and path.name not in VOCABULARIES:
            try:
                yield from (f"'{name}' has {fault}" for fault in _faults_of_json(_json(path)))
            except (ValueError, RecursionError) as error:
                yield f"'{name}' is not readable as JSON ({type(error).__name__})"
        elif path.suffix in (".yaml", ".yml"):
            for key in sorted(set(_YAML_KEY.findall(path.read_text("utf-8", errors="replace")))):
                yield f"'{name}' has the key '{key}', {REFUSED_KEYS[key]}"


def cleaned(source: str | Path, destination: str | Path, revision: str | None = None) -> list[str]:
    """Copy a model without what `checked` refuses; returns what was left out, as `problems` says it.

    A model that was only its pickles or its own code has nothing left to load, and `load_model` then says so.

    Raises `ConfigError` if the destination exists already.
    """
    folder, target = _folder(source, revision), Path(destination)
    if target.exists():
        raise ConfigError("A cleaned model needs a folder of its own", expected="no such folder yet", got=str(target))
    target.mkdir(parents=True)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        copy = target / path.relative_to(folder)
        kept = _fault_of_name(path) is None and any(fnmatch(path.name, pattern) for pattern in SAFE_FILES)
        if not kept or path.suffix in (".yaml", ".yml"):
            continue
        if path.suffix == ".safetensors" and any(_faults_of_tensors(path)):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json" and path.name not in VOCABULARIES:
            copy.write_text(json.dumps(_without(_json(path)), indent=2, ensure_ascii=False), encoding="utf-8")
        else:
            shutil.copyfile(path, copy)
    return list(problems(folder))


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a transformers configuration that are given in place of a folder; refused by the same rules."""
    for fault in _faults_of_json(settings):
        raise ConfigError("The settings of a model are refused", expected="sizes and names", got=fault)
    if not isinstance(settings.get("model_type"), str):
        raise ConfigError("The settings of a model need its family", expected="model_type", got=", ".join(settings))
    return dict(settings)


def load_config(source: str | Path, revision: str | None = None) -> Any:
    """The transformers configuration of a checked model folder."""
    folder = checked(source, revision)
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(
    cls: Any,
    source: str | Path,
    revision: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
    may_lack: Sequence[str] = (),
    **more: Any,
) -> Any:
    """A pretrained model of a transformers class, in evaluation mode, from safetensors alone.

    Args:
        cls: e.g. `transformers.AutoModelForCausalLM` or `transformers.SiglipVisionModel`.
        source, revision: as for `checked`.
        attention: transformers' name of the attention implementation: "sdpa" or "eager".
        may_lack: patterns of weights that the folder may lack (they stay random); all others must be there.
        more: what else the class's `from_pretrained` takes.

    Raises `ConfigError` naming what is refused, or the weights that are missing or of another shape.
    """
    folder = checked(source, revision)
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"There are no weights in {folder}",
            expected="model.safetensors",
            got=", ".join(sorted(p.name for p in folder.iterdir())) or "an empty folder",
            run="in a place you trust: AutoModel.from_pretrained(…).save_pretrained(folder)",
        )
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for two seconds of loading would tear the caller's own
    try:
        model, report = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation=attention,
            dtype=dtype,
            **more,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{folder} does not load as {cls.__name__}", got=str(error).splitlines()[0]) from error
    wrong = [str(k) for k in (*report["missing_keys"], *report["mismatched_keys"])]
    wrong = [k for k in wrong if not any(fnmatch(k, pattern) for pattern in may_lack)]
    if wrong:
        raise ConfigError(
            f"{folder} lacks weights of {type(model).__name__}",
            expected="every weight, in the shape its configuration says",
            got=f"missing or misshapen: {', '.join(sorted(wrong)[:8])}" + (" …" if len(wrong) > 8 else ""),
        )
    assert isinstance(model, nn.Module)
    return model.eval()


def load_tokenizer(source: str | Path, revision: str | None = None) -> Any:
    """The transformers tokenizer of a checked model folder."""
    folder = checked(source, revision)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _folder(source: str | Path, revision: str | None) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(source, Path) or folder.exists() or not _HUB_ID.fullmatch(source):
        raise ConfigError("There is no such model folder", expected="a folder or a hub id owner/name", got=str(source))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(SAFE_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"The model '{source}' is neither a folder here nor to be had from the hub",
            expected="a folder with config.json and model.safetensors, or a hub id owner/name",
            got=(str(error).splitlines() or [type(error).__name__])[0].strip().removeprefix("Got: "),
            run=f"hf download {source} --local-dir FOLDER, where there is a network",
        ) from error


def _fault_of_name(path: Path) -> str | None:
    if path.suffix.lower() in PICKLES:
        return "a pickle: loading it can run any code"
    if path.suffix.lower() in TEMPLATES or path.name in TEMPLATE_FILES:
        return "a Jinja template"
    return None


def _faults_of_json(value: Any, where: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            place = f"{where}.{key}" if where else str(key)
            if (fault := _fault_of_key(str(key), inner)) is not None:
                yield f"the key '{place}', {fault}"
            elif key == "weight_map" and isinstance(inner, Mapping):
                yield from (f"'{place}' naming '{f}'" for f in sorted({str(f) for f in inner.values()}) if _astray(f))
            else:
                yield from _faults_of_json(inner, place)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _faults_of_json(inner, f"{where}[{i}]")


def _fault_of_key(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if key in REFUSED_KEYS:
        return REFUSED_KEYS[key]
    if "attn_implementation" in key and "/" in json.dumps(value):
        return REFUSED_KEYS["_attn_implementation_internal"]
    return None


def _astray(file: str) -> bool:
    return not file.endswith(".safetensors") or Path(file).name != file


def _faults_of_tensors(path: Path) -> Iterator[str]:
    """What is wrong with a safetensors header; the tensors themselves are numbers whatever they hold."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size) if size <= _LONGEST_HEADER else b""
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError):
        yield "is not a safetensors file"
        return
    for key in sorted(REFUSED_KEYS):
        if key in metadata or any(key in str(value) for value in metadata.values()):
            yield f"has '{key}' in its metadata, {REFUSED_KEYS[key]}"


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without(v) for k, v in value.items() if _fault_of_key(str(k), v) is None}
    return [_without(v) for v in value] if isinstance(value, list) else value


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
