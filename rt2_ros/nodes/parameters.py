# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node, declared from a small table: type, bounds, unit and one sentence each.

Example: `Parameter("image_size", 192, "Side of the square picture.", unit="px", low=16, high=1024)`
is an integer that `ros2 param describe` shows with its range and its sentence; 8 or "big" is
refused at start with one line that says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from rt2_ros.typed import misspelt


@dataclass(frozen=True)
class Parameter:
    """One row of a node's table.

    The type is that of `default`: bool, int, float, str or a list of them. An empty list of words
    is written `[""]`, because neither YAML parameter files nor rclpy know the type of `[]`.
    """

    name: str
    default: Any
    text: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False  # fixed for the life of the process
    live: bool = False  # looked at while the node runs; others at each configure, and fixed then

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"parameter {self.name}: give both bounds or none")
        if self.choices and self.default not in self.choices:
            raise ValueError(
                f"parameter {self.name}: default {self.default!r} is not one of {self.choices}"
            )

    def descriptor(self) -> ParameterDescriptor:
        """Return what `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(
            description=f"{self.text} [{self.unit}]" if self.unit else self.text,
            read_only=self.read_only,
            additional_constraints=f"one of: {', '.join(self.choices)}" if self.choices else "",
        )
        if self.low is not None and self.high is not None:
            if isinstance(self.default, int):
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high), step=0)
                ]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(
                        from_value=float(self.low), to_value=float(self.high), step=0.0
                    )
                ]
        return descriptor

    def expected(self) -> str:
        """Say in words what is allowed: `int from 16 to 1024 px`."""
        kind = type(self.default).__name__
        if isinstance(self.default, list):
            kind = f"list of {type(self.default[0]).__name__}"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.low is None:
            return f"{kind} {self.unit}".strip()
        return f"{kind} from {self.low:g} to {self.high:g} {self.unit}".strip()


def declare(
    node: Node, table: tuple[Parameter, ...], configured: Callable[[], bool] = lambda: False
) -> None:
    """Declare every row of `table`, with overrides from the command line and parameter files.

    configured: tells whether the node is, when only `live` rows may change.

    Raises:
        ValueError: an override has the wrong type or lies outside its bounds, or is nearly called
            as one of the table; one line, naming the parameter, the value and what is expected.
    """
    rows = {row.name: row for row in table}

    def check(parameters: list[RosParameter]) -> SetParametersResult:
        for parameter in parameters:
            row = rows.get(parameter.name)
            if row is None:
                continue
            reason = ""
            if row.choices and parameter.value not in row.choices:
                reason = f"{parameter.name}: {parameter.value!r} is not {row.expected()}"
            elif not row.live and not row.read_only and configured():
                reason = f"{parameter.name}: fixed while the node is configured; clean it up first"
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    for row in table:
        try:
            node.declare_parameter(row.name, row.default, row.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            given = node._parameter_overrides[row.name].value
            hint = f"; write {given}.0" if type(given) is int and type(row.default) is float else ""
            raise ValueError(
                f"parameter {row.name}: got {given!r}, expected {row.expected()}{hint}"
            ) from error
    for name in node._parameter_overrides:
        if node.has_parameter(name) or name.startswith("qos_overrides."):
            continue
        if meant := misspelt(name, rows):
            raise ValueError(f"parameter {name}: there is none; expected {meant}?")
        # It may be for others: a parameter file can have a section for all nodes.
        node.get_logger().warning(f"parameter {name}: not one of this node's; it is passed over")


def words(values: list[str]) -> tuple[str, ...]:
    """Return the words of a list parameter without the blank that stands for an empty list."""
    return tuple(value.strip() for value in values if value.strip())
