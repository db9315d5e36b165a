# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt2_ros.actions import SCHEMES, from_bins, to_bins

RANGES = st.tuples(st.floats(-10, 10, allow_nan=False), st.floats(1e-3, 20, allow_nan=False)).map(
    lambda r: (r[0], r[0] + r[1])
)
UNIT = st.floats(0, 1, allow_nan=False)
WORST_ERROR = {"rt2": 0.5, "openvla": 0.5, "rt1": 1.0}  # in bins; RT-1 truncates


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("rt2", [0, 0, 1, 127, 127, 128, 255, 255]),
        ("rt1", [0, 0, 0, 127, 127, 127, 254, 255]),
        ("openvla", [0, 0, 0, 127, 127, 127, 254, 255]),
    ],
)
def test_exact_bins(scheme, expected):
    values = [-1, -1 + 0.98 / 255, -1 + 1.02 / 255, -0.001, 0, 0.0039, 0.999, 1]
    assert to_bins(values, -1, 1, scheme).tolist() == expected


def test_the_middle_is_a_tie_and_goes_to_the_lower_bin():
    assert to_bins([-1, 0, 1], -1, 1).tolist() == [0, 127, 255]
    assert to_bins([-0.1, 0.0, 0.1], -0.1, 0.1).tolist() == [0, 127, 255]
    assert to_bins([0.5, 1.5, 254.5], 0, 255).tolist() == [0, 1, 254]


def test_rt1_truncates():
    assert to_bins([0.99, 1.0, 1.99, 254.99], 0, 255, "rt1").tolist() == [0, 1, 1, 254]


def test_exact_values_of_bins():
    np.testing.assert_allclose(from_bins([0, 51, 102, 255], -1, 1), [-1, -0.6, -0.2, 1])
    np.testing.assert_allclose(from_bins([0, 51, 255], 0, 1, "rt1"), [0, 0.2, 1])
    centres = from_bins([0, 127, 254, 255], -1, 1, "openvla")
    np.testing.assert_allclose(centres, [-1 + 1 / 255, 0, 1 - 1 / 255, 1 - 1 / 255], atol=1e-15)


def test_openvla_agrees_with_its_published_formula():
    """Token d = digitize(clip(a), bins); back by centre k = clip(d - 1, 0, 254)."""
    values = np.linspace(-1.2, 1.2, 4801)
    d = np.digitize(np.clip(values, -1, 1), np.linspace(-1, 1, 256))
    bins = to_bins(values, -1, 1, "openvla")
    assert bins.tolist() == (d - 1).tolist()
    centres = -1 + (2 * np.clip(d - 1, 0, 254) + 1) / 255
    np.testing.assert_allclose(from_bins(bins, -1, 1, "openvla"), centres, atol=1e-15)


def test_values_outside_the_range_are_clipped():
    for scheme in SCHEMES:
        assert to_bins([-7, 7], -1, 1, scheme).tolist() == [0, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        to_bins([0.0, bad], -1, 1)


@pytest.mark.parametrize("bad", [[256], [-1], [1.0], [300, 2]])
def test_bins_outside_a_byte_are_refused(bad):
    with pytest.raises(ValueError, match="bins: "):
        from_bins(bad, -1, 1)


def test_unknown_scheme_names_those_that_exist():
    with pytest.raises(ValueError, match="'log'.*rt2, rt1, openvla"):
        to_bins(0.0, -1, 1, "log")
    with pytest.raises(ValueError, match="'log'.*rt2, rt1, openvla"):
        from_bins(0, -1, 1, "log")


@pytest.mark.parametrize("scheme", SCHEMES)
@given(limits=RANGES, unit=UNIT)
def test_round_trip_error_is_at_most_half_a_bin(scheme, limits, unit):
    low, high = limits
    value = low + unit * (high - low)
    back = from_bins(to_bins(value, low, high, scheme), low, high, scheme)
    worst = WORST_ERROR[scheme] * (high - low) / 255
    assert abs(back - min(max(value, low), high)) <= worst * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("scheme", SCHEMES)
@given(limits=RANGES, units=st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=20))
def test_order_and_range_are_kept(scheme, limits, units):
    low, high = limits
    values = np.sort(low + np.array(units) * (high - low))
    bins = to_bins(values, low, high, scheme)
    back = from_bins(bins, low, high, scheme)
    assert np.all(np.diff(bins.astype(int)) >= 0)
    assert np.all(np.diff(back) >= 0)
    assert np.all((low <= back) & (back <= high))


@given(limits=RANGES, b=st.integers(0, 255))
def test_every_bin_comes_back_as_itself(limits, b):
    assert to_bins(from_bins(b, *limits), *limits) == b


def test_the_package_needs_numpy_only():
    code = (
        "import sys, rt2_ros.actions; "
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'rclpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
