"""Laws of connectors: shapes, gradients, independence of rows; parity with transformers' LLaVA, BLIP-2 and IDEFICS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from wayhand.vla.backbones.attention import Attention
from wayhand.vla.backbones.base import Connector
from wayhand.vla.backbones.connectors.projection import LinearConnector, MLPConnector
from wayhand.vla.backbones.connectors.queries import BottleneckConnector, QFormerConnector, ResamplerConnector
from wayhand.vla.errors import ConfigError

SOURCE, WIDTH, GRID = 24, 32, (3, 4)
CONNECTORS: dict[str, Callable[..., Connector]] = {
    "linear": LinearConnector,
    "mlp": MLPConnector,
    "mlp3": partial(MLPConnector, depth=3, hidden=40),
    "qformer": partial(QFormerConnector, queries=5, depth=3, heads=2, hidden=16),
    "resampler": partial(ResamplerConnector, queries=5, depth=2, heads=2),
    "bottleneck": partial(BottleneckConnector, queries=5, depth=2, heads=2, hidden=16),
}


@pytest.fixture(params=CONNECTORS)
def connector(request: pytest.FixtureRequest) -> Connector:
    torch.manual_seed(0)
    return CONNECTORS[request.param](source=SOURCE, width=WIDTH).eval()


def tokens(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, GRID[0] * GRID[1], SOURCE, generator=torch.Generator().manual_seed(1))


def test_tokens_have_the_promised_count_and_width(connector: Connector) -> None:
    assert connector(tokens(), GRID).shape == (2, connector.count(GRID), WIDTH)
    assert connector.width == WIDTH


def test_rows_do_not_mix(connector: Connector) -> None:
    whole = connector(tokens(3), GRID)
    for i in range(3):
        torch.testing.assert_close(connector(tokens(3)[i : i + 1], GRID)[0], whole[i], atol=1e-5, rtol=1e-5)


def test_every_parameter_and_every_token_gets_a_gradient(connector: Connector) -> None:
    x = tokens().requires_grad_()
    (connector(x, GRID) * torch.randn(WIDTH)).sum().backward()
    assert [n for n, p in connector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert x.grad is not None and (x.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", ["qformer", "resampler"])
def test_queries_do_not_know_the_order_of_tokens(name: str) -> None:
    """Learned queries read a set: places must come from the tower."""
    connector = CONNECTORS[name](source=SOURCE, width=WIDTH).eval()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(connector(tokens()[:, order], GRID), connector(tokens(), GRID), atol=1e-5, rtol=1e-5)


def test_an_mlp_of_one_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth ≥ 2"):
        MLPConnector(source=4, width=4, depth=1)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 3"):
        Attention(8, 3)


# --- parity ----------------------------------------------------------------------------------------------------


def copy(ours: nn.Linear | nn.LayerNorm | nn.Embedding, *theirs: nn.Module) -> None:
    """Weights and biases of one or several stacked layers."""
    state = [dict(module.named_parameters()) for module in theirs]
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(torch.cat([s[name] for s in state]))


def test_llava_projector() -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    config = LlavaConfig(vision_config=CLIPVisionConfig(hidden_size=SOURCE), text_config=LlamaConfig(hidden_size=WIDTH))
    theirs, ours = LlavaMultiModalProjector(config), MLPConnector(source=SOURCE, width=WIDTH)
    first, last = ours.layers[0], ours.layers[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    copy(first, theirs.linear_1)
    copy(last, theirs.linear_2)
    torch.testing.assert_close(ours(tokens(), GRID), theirs(tokens()), atol=1e-5, rtol=1e-5)


def test_blip2_qformer() -> None:
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    torch.manual_seed(0)
    config = Blip2QFormerConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40, encoder_hidden_size=SOURCE
    )
    theirs, project = Blip2QFormerModel(config).eval(), nn.Linear(16, WIDTH)
    for parameter in theirs.parameters():  # zero biases and unit norms would hide a mistake
        nn.init.normal_(parameter, std=0.3)
    ours = QFormerConnector(source=SOURCE, width=WIDTH, queries=5, hidden=16, depth=3, heads=2, ratio=2.5).eval()
    copy(ours.norm, theirs.layernorm)
    copy(ours.project, project)
    for mine, layer in zip(ours.layers, theirs.encoder.layer, strict=True):
        parts = [(mine.own, mine.own_norm, layer.attention)]
        if layer.has_cross_attention:
            parts.append((mine.image, mine.image_norm, layer.crossattention))
        else:
            assert mine.image is None
        for attention, norm, block in parts:
            copy(attention.query, block.attention.query)
            copy(attention.keys_values, block.attention.key, block.attention.value)
            copy(attention.out, block.output.dense)
            copy(norm, block.output.LayerNorm)
        copy(mine.feed[0], layer.intermediate_query.dense)
        copy(mine.feed[2], layer.output_query.dense)
        copy(mine.feed_norm, layer.output_query.LayerNorm)
    with torch.no_grad():
        found = ours(tokens(), GRID)
        queries = ours.queries[None].expand(2, -1, -1)
        expected = project(theirs(query_embeds=queries, encoder_hidden_states=tokens()).last_hidden_state)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_idefics_resampler() -> None:
    from transformers import IdeficsConfig
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

    torch.manual_seed(0)
    config = IdeficsConfig(vision_config=dict(embed_dim=SOURCE))
    theirs = IdeficsPerceiverResampler(config, SOURCE, depth=2, n_heads=3, head_dim=10, n_latents=5)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = ResamplerConnector(source=SOURCE, width=SOURCE, queries=5, depth=2, heads=3, head_width=10)
    with torch.no_grad():
        ours.latents.copy_(theirs.latents)
    copy(ours.norm, theirs.layer_norm)
    for mine, (attention, feed) in zip(ours.layers, theirs.blocks, strict=True):
        copy(mine.image_norm, attention.context_layer_norm)
        copy(mine.norm, attention.latents_layer_norm)
        copy(mine.attention.query, attention.q_proj)
        copy(mine.attention.keys_values, attention.k_proj, attention.v_proj)
        copy(mine.attention.out, attention.output_proj)
        copy(mine.feed[0], feed.ln)
        copy(mine.feed[1], feed.fc)
        copy(mine.feed[3], feed.c_proj)
    torch.testing.assert_close(ours(tokens(), GRID), theirs(tokens()), atol=1e-5, rtol=1e-5)
