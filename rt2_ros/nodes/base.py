# SPDX-License-Identifier: Apache-2.0
"""The one base of our nodes: lifecycle, parameters, diagnostics, and the `run` behind each main.

A node says what it needs in `_setup`, which raises when that cannot be had; everything made there
goes onto one stack, and one `_teardown` unwinds it on every way out (cleanup, error, shutdown, a
failed configure, ctrl-C):

    class TalkerNode(BaseNode):
        PARAMETERS = (Parameter("rate", 1.0, "How often to talk.", unit="Hz", low=0.1, high=10.0),)

        def _setup(self) -> None:
            self._out = self.publish(Topic(String, "chatter", QUEUE))
            self.every(1.0 / self.value("rate"), self._talk)

    def main() -> int:
        return run(lambda: TalkerNode("talker"))

Publishers made by `publish` are managed: silent unless the node is active. Timers made by `every`
run on the steady clock, so a simulated clock that stops does not stop a watchdog.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription

from rt2_ros.nodes.parameters import Parameter, declare
from rt2_ros.nodes.topics import DIAGNOSTICS, Topic
from rt2_ros.nodes.worker import NewestWorker

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR

# What bad input raises: told in one line. Anything else is a bug of ours and is told with its
# traceback.
EXPECTED = (
    *(ValueError, OSError, RuntimeError, ImportError, LookupError),
    NameValidationException,  # of a topic, as a parameter names it
)

AUTOSTART = Parameter(
    "autostart",
    True,
    "Configure and activate at start; false leaves that to a lifecycle manager.",
    read_only=True,
)


@dataclass(frozen=True)
class Health:
    """One line for /diagnostics: level, message, and figures by name."""

    level: bytes = DiagnosticStatus.OK
    message: str = "running"
    values: dict[str, object] = field(default_factory=dict)

    @classmethod
    def warn(cls, message: str, **values: object) -> Health:
        """Return a warning."""
        return cls(DiagnosticStatus.WARN, message, values)

    @classmethod
    def error(cls, message: str, **values: object) -> Health:
        """Return an error."""
        return cls(DiagnosticStatus.ERROR, message, values)


class BaseNode(LifecycleNode):
    """A lifecycle node whose resources are made by `_setup` and let go by `_teardown`."""

    PARAMETERS: tuple[Parameter, ...] = ()

    def __init__(self, name: str, **kwargs: Any) -> None:
        """Make the node and declare its parameters; ValueError names a bad one."""
        super().__init__(name, **kwargs)
        self._resources = ExitStack()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._quiet_until: dict[str, int] = {}  # complaints, steady clock in ns
        self._failure = ""  # why the last transition failed
        self.active = self._configured = False
        try:
            declare(self, (AUTOSTART, *self.PARAMETERS), lambda: self._configured)
        except ValueError:
            self.destroy_node()
            raise
        self._diagnostics = self.create_publisher(*DIAGNOSTICS)
        self.create_timer(1.0, self.publish_diagnostics, clock=self._steady)

    # What a node fills in

    def _setup(self) -> None:
        """Make publishers, subscriptions, workers; raise, saying what to do, to refuse."""

    def _start(self) -> None:
        """Become active."""

    def _stop(self) -> None:
        """Become inactive: nothing is published afterwards. Called before `_teardown` if active."""

    def diagnose(self) -> Health:
        """Say how the configured node is."""
        return Health()

    # What a node uses

    def value(self, name: str) -> Any:
        """Return a parameter's present value."""
        return self.get_parameter(name).value

    def now_ns(self) -> int:
        """Return the node's time (ROS time, simulated where use_sim_time says so) in ns."""
        return self.get_clock().now().nanoseconds

    def publish(self, topic: Topic, *, always: bool = False) -> Publisher:
        """Make a publisher that lives until teardown; `always`: also while the node is inactive."""
        if always:
            publisher = self.create_publisher(*topic)
            self._resources.callback(self.destroy_publisher, publisher)
        else:
            publisher = self.create_lifecycle_publisher(*topic)
            self._resources.callback(self.destroy_lifecycle_publisher, publisher)
        return publisher

    def subscribe(self, topic: Topic, callback: Callable[[Any], None]) -> Subscription:
        """Make a subscription that lives until teardown."""
        subscription = self.create_subscription(*topic.to(callback))
        self._resources.callback(self.destroy_subscription, subscription)
        return subscription

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back each `period` seconds of the steady clock, until teardown."""
        timer = self.create_timer(period, callback, clock=self._steady)
        self._resources.callback(self.destroy_timer, timer)

    def serve(self, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """Offer a service until teardown."""
        service = self.create_service(kind, name, callback)
        self._resources.callback(self.destroy_service, service)

    def work(self, work: Callable[[Any], None]) -> NewestWorker[Any]:
        """Start a worker thread on the newest item, until teardown; its exceptions are logged."""
        worker = NewestWorker(work, self._worker_failed, f"{self.get_name()}-worker")
        self._resources.callback(worker.close)
        return worker

    def complain(self, text: str) -> None:
        """Log a warning; the same text, whatever its numbers, only once in ten seconds."""
        key = re.sub(r"\d+", "#", text)
        now = self._steady.now().nanoseconds
        if now >= self._quiet_until.get(key, 0):
            self._quiet_until[key] = now + 10_000_000_000
            self.get_logger().warning(text)

    def crowd(self, topic: Topic, right: str) -> str:
        """Say so if not only one node publishes a topic: which is the right one cannot be told."""
        name = self.resolve_topic_name(topic.name)
        count = self.count_publishers(name)
        return f"{name} has {count} publishers: end all but {right}" if count > 1 else ""

    def at_teardown(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call back at teardown; last in, first out."""
        self._resources.callback(callback, *args)

    # Transitions: exceptions are told here, rclpy would swallow them

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `_setup`; on an exception undo what it made."""
        self._configured = True
        result = self._attempt("configure", self._setup)
        return super().on_configure(state) if result == SUCCESS else result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let publishers speak, then run `_start`."""
        super().on_activate(state)
        result = self._attempt("activate", self._start)
        if result == SUCCESS:
            self.active = True
        else:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `_stop`, then silence publishers."""
        self.active = False
        result = self._attempt("deactivate", self._stop)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back."""
        return self._attempt("cleanup", self._teardown)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back for good."""
        return self._attempt("shutdown", self._teardown)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back; a repaired configuration can then be tried."""
        return self._attempt("error handling", self._teardown)

    def destroy_node(self) -> None:
        """Give everything back, then the node itself."""
        self._attempt("shutdown", self._teardown)
        super().destroy_node()

    def _teardown(self) -> None:
        """Undo `_start` and `_setup`; nothing happens the second time. What raises keeps nothing
        else from being undone.
        """
        try:
            if self.active:
                self.active = False
                self._stop()
        finally:
            self._undo()

    def _undo(self) -> None:
        try:
            self._resources.close()
        finally:
            self._configured = False

    def _attempt(self, what: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            step()
        except EXPECTED as error:
            self._failure = f"{what}: {one_line(error)}"
            self.get_logger().error(self._failure)
            # What cannot be undone, or stopped, must not be gone back to as if nothing had been.
            result = FAILURE if what in ("configure", "activate") else ERROR
        except Exception as error:
            self._failure = f"{what}: unexpected {type(error).__name__}: {one_line(error)}"
            self.get_logger().error(f"{self._failure}\n{traceback.format_exc()}")
            result = ERROR
        else:
            if what in ("configure", "activate"):
                self._failure = ""
            return SUCCESS
        if what == "configure":
            self._undo()
        return result

    def _worker_failed(self, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        text = f"worker: {type(error).__name__}: {one_line(error)}\n{trace}"
        self.get_logger().error(text, throttle_duration_sec=5.0)

    def publish_diagnostics(self) -> None:
        """Publish how the node is now; also called once a second."""
        label = self._state_machine.current_state[1]
        if self._failure:
            health = Health.error(self._failure)
        elif label in ("inactive", "active"):
            health = self.diagnose()
            if label == "inactive" and health.level == DiagnosticStatus.OK:
                health = Health.warn(label, **health.values)
        else:  # of what `_setup` makes there may be nothing
            health = Health.warn(label)
        status = DiagnosticStatus(
            level=health.level,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=health.message,
            values=[KeyValue(key=key, value=str(v)) for key, v in health.values.items()],
        )
        status.values.append(KeyValue(key="lifecycle", value=label))
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def one_line(error: BaseException) -> str:
    """Return an exception's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def run(make: Callable[[], BaseNode], argv: list[str] | None = None) -> int:
    """Run a node until SIGINT, SIGTERM or SIGHUP and return the exit status.

    0: ended by a signal. 1: it could not be made, configured or activated; one line on stderr says
    why. An exception in a callback is a bug: it tears the node down and is raised.

    A signal ends the spinning, not the middleware (as rclpy's own handlers do), so that the node
    can still publish while it is torn down. A second signal ends the process at once.
    """
    rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    ended, woken = threading.Event(), threading.Event()

    def stop() -> None:
        ended.set()
        with suppress(AttributeError):  # it has been shut down already
            executor.create_task(lambda: None)  # it wakes for nothing else than work
        woken.set()

    _on_signal(stop)
    node = None
    try:
        try:
            node = make()
        except EXPECTED as error:
            print(f"[ERROR] {Path(sys.argv[0]).name}: {one_line(error)}", file=sys.stderr)
            return 1
        executor.add_node(node)
        if node.value("autostart"):
            if node.trigger_configure() != SUCCESS or node.trigger_activate() != SUCCESS:
                return 1
            node.get_logger().info("active")
        while not ended.is_set():  # spin_until_future_complete keeps something of each callback
            executor.spin_once()
        woken.wait(1.0)  # the executor must not go while it is being woken
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()


def _on_signal(first: Callable[[], None]) -> None:
    """Call `first` at the first SIGINT, SIGTERM or SIGHUP (unless nohup has it ignored), in its own
    thread; the second ends the process.

    Python runs signal handlers between two byte codes of the main thread, which sleeps in rcl_wait;
    the byte that the interpreter's C handler writes to the wakeup socket gets through at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:
            signal.signal(number, lambda *_: None)

    def wait(_keep: socket.socket = writer) -> None:
        reader.recv(1)
        first()
        reader.recv(1)
        os._exit(130)

    threading.Thread(target=wait, name="signals", daemon=True).start()
