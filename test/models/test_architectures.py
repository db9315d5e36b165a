# SPDX-License-Identifier: Apache-2.0
"""The fast decoder on models of several kinds, small and of random weights."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from rt2_ros.models.constrain import generate
from rt2_ros.models.decode import Decoder, Prompt
from rt2_ros.models.forward import CachedForward
from rt2_ros.models.static import StaticForward, StaticSteps

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = 390  # token
TEXT = dict(
    vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    image_size=32, patch_size=8,
)  # fmt: skip


@dataclass
class Kind:
    """A model and what its processor would give beside the ids, for a picture."""

    model: Any
    head: list[int]
    picture: Any

    def inputs(self, seed, prompt):
        ids = torch.tensor([[*self.head, *prompt]])
        noise = torch.Generator().manual_seed(seed)
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), **self.picture(ids, noise))


def pixels(*shape):
    return lambda ids, noise: dict(pixel_values=torch.randn(*shape, generator=noise))


def llava():
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**TEXT),
        vision_feature_layer=-1, image_token_index=IMAGE,
    )  # fmt: skip
    return Kind(
        LlavaForConditionalGeneration(config), [5, 6, 7, *[IMAGE] * 16], pixels(1, 3, 32, 32)
    )


def idefics3(config_class=Idefics3Config, model_class=Idefics3ForConditionalGeneration):
    config = config_class(
        text_config=dict(model_type="llama", **TEXT), vision_config=VISION, scale_factor=2,
        image_token_id=IMAGE, pad_token_id=0,
    )  # fmt: skip

    def picture(ids, noise):
        whole = torch.ones(1, 1, 32, 32, dtype=torch.long)
        return dict(**pixels(1, 1, 3, 32, 32)(ids, noise), pixel_attention_mask=whole)

    return Kind(model_class(config), [5, 6, 7, *[IMAGE] * 4], picture)


def smolvlm():
    return idefics3(SmolVLMConfig, SmolVLMForConditionalGeneration)


def qwen2_5_vl():
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config=dict(**TEXT, max_position_embeddings=512, rope_parameters=rope),
        vision_config=dict(
            depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=14,
            spatial_merge_size=2, out_hidden_size=64, fullatt_block_indexes=[1], window_size=56,
            temporal_patch_size=2,
        ),
        image_token_id=IMAGE, video_token_id=391, vision_start_token_id=392,
        vision_end_token_id=393,
    )  # fmt: skip

    def picture(ids, noise):
        grid = torch.tensor([[1, 4, 6]])
        kinds = (ids == IMAGE).long()
        patches = torch.randn(24, 3 * 2 * 14 * 14, generator=noise)
        return dict(mm_token_type_ids=kinds, pixel_values=patches, image_grid_thw=grid)

    head = [5, 6, 392, *[IMAGE] * 6, 393]
    return Kind(Qwen2_5_VLForConditionalGeneration(config), head, picture)


def paligemma(model_type="gemma", **text):
    config = PaliGemmaConfig(
        vision_config=dict(
            model_type="siglip_vision_model", projection_dim=64, vision_use_head=False, **VISION
        ),
        text_config=dict(model_type=model_type, head_dim=16, **text, **TEXT),
        projection_dim=64, image_token_index=IMAGE,
    )  # fmt: skip

    def picture(ids, noise):
        types = torch.zeros_like(ids)
        return dict(token_type_ids=types, **pixels(1, 3, 32, 32)(ids, noise))

    return Kind(PaliGemmaForConditionalGeneration(config), [*[IMAGE] * 16, 5], picture)


def paligemma2():
    """With a cap on its scores, and layers that see eight tokens back only."""
    return paligemma(
        "gemma2", final_logit_softcapping=3.0, sliding_window=8, query_pre_attn_scalar=16
    )


KINDS = (llava, idefics3, smolvlm, qwen2_5_vl, paligemma, paligemma2)


@pytest.fixture(scope="module", params=KINDS, ids=lambda build: build.__name__)
def kind(request):
    torch.manual_seed(0)
    kind = request.param()
    for weight in kind.model.eval().parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.15)
    return kind


@pytest.fixture
def case(kind, numbers):
    """Prompts of three lengths, the grammar, and what the reference writes."""
    texts = ([20, 21, 22], [30], [40, 41, 42, 43, 44, 45, 46])
    given = [kind.inputs(seed, text) for seed, text in enumerate(texts)]
    grammar = numbers(range(10, 260), 2, 20)
    expected = [[s.token for s in generate(kind.model, each, grammar)] for each in given]
    assert len({tuple(answer) for answer in expected}) == 3
    return given, grammar, expected


@pytest.fixture(params=["dynamic cache", "static cache"])
def decode(request, kind, monkeypatch):
    """The decoder, by the way of a CPU or by that of a GPU (its graphs need a real one)."""
    decoder = Decoder(kind.model)
    if request.param == "static cache":
        if kind.model.config.get_text_config().model_type == "gemma2":
            pytest.skip("a sliding window is not read in a static cache")
        monkeypatch.setattr(
            decoder,
            "_forward",
            lambda inputs, stages: StaticForward(
                StaticSteps(kind.model), inputs, stages, decoder._prefix
            ),
        )
    return decoder


def test_the_tokens_are_those_of_generate(decode, case):
    given, grammar, expected = case
    assert [decode([Prompt(each)], grammar)[0].tokens for each in given] == expected
    assert [a.tokens for a in decode([Prompt(each) for each in given], grammar)] == expected


def test_a_guess_that_is_right_then_wrong_then_right_changes_nothing(decode, case):
    given, grammar, expected = case
    prompts = []
    for each, answer in zip(given, expected, strict=True):
        others = [t for t in grammar.sets[answer[6] - 9] if t != answer[7]]
        prompts.append(Prompt(each, guesses=[[*answer[:7], int(others[0]), *answer[8:]]]))
    assert [decode([prompt], grammar)[0].tokens for prompt in prompts] == expected
    assert [answer.tokens for answer in decode(prompts, grammar)] == expected


def test_what_stands_before_the_picture_is_read_once(decode, kind, case):
    given, grammar, expected = case
    head = kind.head.index(IMAGE)
    read = []
    embedding = kind.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _, ids, __: read.append(ids[0].shape[1]))
    try:
        for turn, (each, answer) in enumerate(zip(given, expected, strict=True)):
            read.clear()
            assert decode([Prompt(each)], grammar)[0].tokens == answer
            if decode._lean is None:  # which looks ids up itself
                assert read[0] == each["input_ids"].shape[1] - head * (turn > 0)
        # All together, and after prompts that begin otherwise.
        assert [a.tokens for a in decode([Prompt(each) for each in given], grammar)] == expected
        other = dict(given[0], input_ids=given[0]["input_ids"].clone())
        if head:
            other["input_ids"][0, 0] = 9
        reference = [step.token for step in generate(kind.model, other, grammar)]
        assert decode([Prompt(other)], grammar)[0].tokens == reference
        assert decode([Prompt(given[0])], grammar)[0].tokens == expected[0]
    finally:
        hook.remove()


def test_a_small_paligemma_is_computed_lean_and_as_well_without(numbers, monkeypatch):
    kind = paligemma()
    given, grammar = kind.inputs(0, [20, 30]), numbers(range(10, 260), 2, 20)
    lean = Decoder(kind.model)([Prompt(given)], grammar)[0]
    reads = []
    read = CachedForward.__call__
    monkeypatch.setattr(
        CachedForward, "__call__", lambda self, tokens: reads.append(1) or read(self, tokens)
    )
    Decoder(kind.model)([Prompt(given)], grammar)
    assert not reads
    monkeypatch.setattr("rt2_ros.models.lean.MAX_PARAMETERS", 0)
    general = Decoder(kind.model)([Prompt(given)], grammar)[0]
    assert len(reads) == 19
    assert general.tokens == lean.tokens
    assert lean.latency.keys() == general.latency.keys() == {"vision", "prefill", "decode"}


def test_a_prompt_without_what_says_how_it_attends_is_refused(numbers):
    kind = paligemma()
    given = kind.inputs(0, [20, 30])
    del given["token_type_ids"]
    with pytest.raises(ValueError, match="no token_type_ids"):
        Decoder(kind.model)([Prompt(given)], numbers(range(10, 260), 2, 20))


def test_a_static_cache_stops_guessing_before_an_answer_has_no_room(numbers):
    kind = llava()
    given, grammar = kind.inputs(0, [20, 30]), numbers(range(10, 260), 2, 120)
    steps = StaticSteps(kind.model)
    decode = Decoder(kind.model)
    expected = decode([Prompt(given)], grammar)[0].tokens
    wrong = [
        int(next(t for t in grammar.sets[0 if n == 0 else before - 9] if t != token))
        for n, (before, token) in enumerate(zip([0, *expected], expected[:-1], strict=False))
    ]
    ends = []

    class Noted(StaticForward):
        def __call__(self, tokens):
            hidden = super().__call__(tokens)
            ends.append((self._end, self._slots, max(map(len, tokens))))
            return hidden

    decode._forward = lambda inputs, stages: Noted(steps, inputs, stages)
    prompt = Prompt(given, guesses=[[*wrong, expected[-1]]])
    assert decode([prompt], grammar)[0].tokens == expected
    assert max(end for end, _, _ in ends) <= ends[0][1]
    assert ends[1][2] > 1 and ends[-1][2] == 1  # guesses first, none when room was short
    # The same cache serves the next prompt as if it were new.
    assert decode([Prompt(given)], grammar)[0].tokens == expected
