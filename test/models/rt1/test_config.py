# SPDX-License-Identifier: Apache-2.0
import pytest

from rt2_ros.models.rt1 import RT1Config


def test_a_configuration_survives_its_file(tmp_path):
    config = RT1Config(image_size=192, strides=[2, 2, 2, 1, 1, 1, 1], state=True)
    config.save(tmp_path)
    assert RT1Config.load(tmp_path) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "RT1Config.layers: 0, expected a number > 0"),
        ({"tokens": 9}, "RT1Config.tokens: 9, expected 8"),
        ({"strides": (1, 2, 2)}, r"RT1Config.strides: \(1, 2, 2\), expected seven"),
        ({"strides": (1, 2, 2, 2, 1, 3, 1)}, "expected seven, each 1 or 2"),
        ({"dropout": 1.0}, "RT1Config.dropout: 1.0"),
        ({"hidden": 30}, "RT1Config.hidden: 30, expected a multiple of 4"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        RT1Config(**changes)


def test_a_foreign_or_broken_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json: no such file; expected an RT-1"):
        RT1Config.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
    with pytest.raises(ValueError, match="config.json: model_type is not 'rt1'"):
        RT1Config.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "rt1", "layers": "four"}')
    with pytest.raises(ValueError, match="config.json: layers is 'four'; expected a whole number"):
        RT1Config.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "rt1", "layer": 3}')
    with pytest.raises(ValueError, match="config.json: unknown key 'layer'; expected depth, "):
        RT1Config.load(tmp_path)
