# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rt2_ros.actions import ActionSpace
from rt2_ros.models.rt1 import RT1, RT1Config
from rt2_ros.models.rt1.model import unit_state
from rt2_ros.training.rt1 import RT1TrainingConfig

STATE = torch.zeros(2, 3, 4)


def test_the_published_sizes_have_35_million_parameters():
    with torch.device("meta"):
        published = RT1(RT1Config(), nn.Identity())
        configured = RT1(RT1TrainingConfig.load("rt1").model, nn.Identity())
    count = {name: sum(p.numel() for p in m.parameters()) for name, m in published.named_children()}
    assert sum(p.numel() for p in published.parameters()) == pytest.approx(35e6, rel=0.1)
    assert sum(p.numel() for p in configured.parameters()) == pytest.approx(35e6, rel=0.1)
    assert count["vision"] == pytest.approx(16e6, rel=0.1)  # the paper's parts
    assert count["layers"] == pytest.approx(19e6, rel=0.1)


def test_an_image_never_looks_at_later_ones(small, images):
    sentence = small.sentences(["pick up the apple", "grab the pear"])
    with torch.no_grad():
        whole = small(images, sentence, STATE)
        assert whole.shape == (2, 3, 8, 256)
        changed = images.clone()
        changed[:, 2] = 255 - changed[:, 2]
        later = small(changed, sentence, STATE)
        torch.testing.assert_close(later[:, :2], whole[:, :2])
        assert (later[:, 2] - whole[:, 2]).abs().max() > 1e-3
        # Earlier ones do count, and a shorter window is the beginning of a longer one.
        changed = images.clone()
        changed[:, 0] = 255 - changed[:, 0]
        assert (small(changed, sentence, STATE)[:, 2] - whole[:, 2]).abs().max() > 1e-4
        short = small(images[:, :1], sentence, STATE[:, :1])
        torch.testing.assert_close(short, whole[:, :1])


def test_every_dimension_is_told_by_the_state(small, images):
    sentence = small.sentences(["pick up the apple"] * 2)
    with torch.no_grad():
        still = small(images, sentence, STATE)
        moved = small(images, sentence, STATE + 0.3)
    assert ((moved - still).abs().amax((0, 1, 3)) > 1e-4).all()
    with pytest.raises(ValueError, match="state: None"):
        small(images, sentence)


def test_what_does_not_fit_is_refused(small, images):
    sentence = small.sentences(["pick up the apple"] * 2)
    with pytest.raises(ValueError, match=r"images: \(6, 32, 64, 3\), expected \(N, 64, 64, 3\)"):
        small(images[:, :, :32], sentence, STATE)
    longer = images.repeat(1, 2, 1, 1, 1)
    with pytest.raises(ValueError, match="window: 6 images, expected 1 to 3"):
        small(longer, sentence, STATE.repeat(1, 2, 1))


def test_states_are_told_as_minus_one_to_one():
    space = ActionSpace(
        "test", (0, *6 * [-1], 0), (1, *6 * [1], 1), "base", state_low=(0, 0, 0, 0),
        state_high=(1, 2, 4, 1),
    )  # fmt: skip
    state = torch.tensor([[0.0, 1.0, 9.0, 0.75]])
    assert unit_state(space, state).tolist() == [[-1.0, 0.0, 1.0, 0.5]]


def test_two_windows_can_be_learned_by_heart(small, images):
    torch.manual_seed(0)
    bins = torch.randint(0, 256, (2, 3, 8))
    texts = ["pick up the apple", "grab the pear"]
    small.train()
    optimizer = torch.optim.AdamW(small.parameters(), lr=1e-2)
    for _ in range(60):
        logits = small(images, small.sentences(texts), STATE)
        loss = nn.functional.cross_entropy(logits.flatten(0, 2), bins.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert (logits.argmax(-1) == bins).all()


def test_a_model_survives_its_files(small, images, tmp_path):
    small.save_pretrained(tmp_path)
    again = RT1.from_pretrained(tmp_path)
    assert again.config == small.config and not again.training
    texts = ["pick up the apple", "拿起香蕉"]
    with torch.no_grad():
        expected = small(images, small.sentences(texts), STATE)
        torch.testing.assert_close(again(images, again.sentences(texts), STATE), expected)


def test_a_broken_checkpoint_is_refused_by_the_name_of_what_is_odd(small, tmp_path):
    small.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "bias": weights["bias"][:7].clone()}, path)
    with pytest.raises(ValueError, match=r"safetensors: bias is \(7, 256\), expected \(8, 256\)"):
        RT1.from_pretrained(tmp_path)
    del weights["heads"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"heads is nothing, expected \(8, 256, 32\)"):
        RT1.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors: no such file"):
        RT1.from_pretrained(tmp_path)
