# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench loop` on the real graph: the figures are there and could be true."""

import math

import pytest

pytest.importorskip("rclpy")

from rt2_ros.bench import loop  # noqa: E402


def test_the_loop_is_measured_by_its_own_stamps(expert_graph, capsys, monkeypatch):
    monkeypatch.setattr(loop, "SLOW_NS", 10_000_000_000)  # a busy machine's first motion counts
    result = loop.run(expert_graph, seconds=4.0, seed=1)

    assert 0.1 < result["rate_hz"] < 20
    delta, outside = result["image_to_delta_ms"], result["outside_inference_ms"]
    assert 0 < outside["p50"] <= delta["p50"] <= delta["p99"]
    assert outside["p50"] <= outside["p99"]
    assert result["image_to_motion_ms"] > delta["p50"] / 2
    assert result["control_rate_hz"] > 0
    assert result["decisions"] >= 3
    assert set(result["nodes"]) == {
        "simulator_node",
        "camera_node",
        "policy_node",
        "controller_node",
    }
    for load in result["nodes"].values():
        assert 0 < load["cpu"] < 400
        assert 20 < load["rss_mb"] < 4000

    loop.show(result)
    assert "outside inference" in capsys.readouterr().out


def test_a_policy_that_never_moved_has_no_motion_figure():
    samples = loop.Samples(latency=[0.10, 0.20, 0.12], inference=[0.09, 0.18, 0.11])
    result = loop.figures(samples, {})
    assert result["image_to_motion_ms"] is None
    assert result["rate_hz"] is None
    assert result["image_to_delta_ms"]["p50"] == 120.0
    assert result["outside_inference_ms"]["p50"] == 10.0
    assert math.isclose(result["outside_inference_ms"]["p99"], 19.8, abs_tol=0.1)
