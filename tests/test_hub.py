"""Laws of untrusted model folders: whatever could become code is refused by name, and the rest still loads."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from wayhand.vla.backbones.hub import checked, checked_settings, cleaned, load_config, load_model, load_tokenizer
from wayhand.vla.errors import ConfigError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A healthy folder: a tiny Llama as transformers saves it."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **settings: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **settings}))


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def spoil_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(folder / "trace")))


def spoil_nested_pickle(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "weights.PT").write_bytes(pickle.dumps(Trap(folder / "trace")))


def spoil_auto_map(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder / 'trace')!r}, 'w')")
    edit(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})


def spoil_kernel(folder: Path) -> None:
    edit(folder, _attn_implementation_internal="someone/kernel")


def spoil_kernel_by_its_plain_name(folder: Path) -> None:
    edit(folder, inner={"_attn_implementation": "someone/kernel"})


def spoil_target(folder: Path) -> None:
    edit(folder, deep=[{"er": {"_target_": "os.system", "command": "touch trace"}}])


def spoil_target_in_yaml(folder: Path) -> None:
    (folder / "model_config.yaml").write_text("model:\n  - {_target_: os.system}\n")


def spoil_target_in_tensors(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"format": "pt", "config": '{"_target_": "os.system"}'})


def spoil_template(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))


def spoil_template_list(folder: Path) -> None:
    (folder / "processor_config.json").write_text(json.dumps({"chat_template": [{"name": "a", "template": "{{"}]}))


def spoil_template_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ cycler.__init__.__globals__.os.system('touch trace') }}")


def spoil_old_template_file(folder: Path) -> None:
    (folder / "chat_template.json").write_text("{}")


def spoil_base(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "/else"}))


def spoil_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "additional_chat_templates").symlink_to(folder.parent / "elsewhere")


def spoil_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "../evil.bin"}}))


def spoil_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap(folder / "trace")))


def spoil_depth(folder: Path) -> None:
    (folder / "extra.json").write_text("[" * 100_000)


SPOILT = {
    spoil_pickle: "'pytorch_model.bin' is a pickle",
    spoil_nested_pickle: "'part/weights.PT' is a pickle",
    spoil_auto_map: "'config.json' has the key 'auto_map'",
    spoil_kernel: "'config.json' has the key '_attn_implementation_internal'",
    spoil_kernel_by_its_plain_name: "'config.json' has the key 'inner._attn_implementation'",
    spoil_target: r"'config.json' has the key 'deep\[0\].er._target_'",
    spoil_target_in_yaml: "'model_config.yaml' has the key '_target_'",
    spoil_target_in_tensors: "'model.safetensors' has '_target_' in its metadata",
    spoil_template: "'tokenizer_config.json' has the key 'chat_template', a Jinja template",
    spoil_template_list: "'processor_config.json' has the key 'chat_template', a Jinja template",
    spoil_template_file: "'chat_template.jinja' is a Jinja template",
    spoil_old_template_file: "'chat_template.json' is a Jinja template",
    spoil_base: "'adapter_config.json' has the key 'base_model_name_or_path'",
    spoil_link: "'additional_chat_templates' is a link to another folder",
    spoil_index: "'model.safetensors.index.json' has 'weight_map' naming '../evil.bin'",
    spoil_header: "'model.safetensors' is not a safetensors file",
    spoil_depth: "'extra.json' is not readable as JSON",
}


def test_a_healthy_folder_is_accepted_and_loads_what_was_saved(model: Path) -> None:
    assert checked(model) == model
    loaded = load_model(AutoModelForCausalLM, model)
    assert load_config(model).model_type == "llama" and not loaded.training
    saved = load_file(model / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items() if name in saved)


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_what_could_become_code_is_refused_by_name_and_does_not_run(model: Path, spoil: Any) -> None:
    spoil(model)
    for load in (
        lambda: load_model(AutoModelForCausalLM, model),
        lambda: load_tokenizer(model),
        lambda: load_config(model),
    ):
        with pytest.raises(ConfigError, match=SPOILT[spoil]) as error:
            load()
        assert all(word in str(error.value) for word in ("expected:", "got:", "run:", "cleaned"))
    assert not (model / "trace").exists()


@pytest.mark.parametrize("spoil", [s for s in SPOILT if s not in (spoil_header, spoil_depth, spoil_index, spoil_base)])
def test_a_cleaned_copy_loads_if_its_tensors_are_sound(model: Path, tmp_path: Path, spoil: Any) -> None:
    spoil(model)
    said = cleaned(model, tmp_path / "clean")
    assert len(said) == 1 and not (tmp_path / "clean" / "trace").exists()
    if spoil is spoil_target_in_tensors:
        with pytest.raises(ConfigError, match="There are no weights"):
            load_model(AutoModelForCausalLM, tmp_path / "clean")
    else:
        load_model(AutoModelForCausalLM, tmp_path / "clean")
    assert cleaned(tmp_path / "clean", tmp_path / "again") == []


def test_a_clean_copy_never_overwrites(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder of its own"):
        cleaned(model, model)


def test_words_of_a_vocabulary_may_spell_anything(model: Path) -> None:
    (model / "vocab.json").write_text(json.dumps({"_target_": 0, "auto_map": 1}))
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": None}))
    assert checked(model) == model


def test_missing_weights_are_named_and_not_left_random(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.norm\.weight"):
        load_model(AutoModelForCausalLM, model)
    assert load_model(AutoModelForCausalLM, model, may_lack=("*norm*",)) is not None


def test_a_model_that_is_nowhere_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such model folder"):
        checked(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"neither a folder here nor to be had from the hub[\s\S]*hf download"):
        checked("nobody/has-this-model")


def test_settings_obey_the_same_rules() -> None:
    assert checked_settings({"model_type": "llama"}) == {"model_type": "llama"}
    with pytest.raises(ConfigError, match="auto_map"):
        checked_settings({"model_type": "llama", "auto_map": {"AutoModel": "a.b"}})
    with pytest.raises(ConfigError, match="needs? its family"):
        checked_settings({"hidden_size": 4})
