# SPDX-License-Identifier: Apache-2.0
import io

import pytest
from rich.console import Console

from rt2_ros.screen import Attempt, Screen, View

VIEW = View(instruction="lift [bold] it", plan="[/] 1", integers="0 127", distance=0.1234, rate=5.0)


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)


def test_a_terminal_shows_words_of_people_and_models_as_they_are(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(console(terminal=True))
    with screen:
        screen.show(VIEW)
        screen.say("ready")
        screen.show(VIEW)
    shown = screen._console.file.getvalue()
    for text in ("lift [bold] it", "[/] 1", "0 127", "12.3 cm", "5.0 Hz", "ready"):
        assert text in shown
    assert "[dim]" not in shown


@pytest.mark.parametrize(("terminal", "kind"), [(False, "xterm"), (True, "dumb")])
def test_without_a_terminal_that_can_move_back_there_is_a_line_a_second(
    terminal, kind, monkeypatch
):
    monkeypatch.setenv("TERM", kind)
    screen = Screen(console(terminal))
    with screen:
        screen.show(VIEW)
        screen.show(VIEW)
    assert screen._console.file.getvalue().count("\n") == 1


def test_the_verdicts_are_told_with_their_reasons():
    screen = Screen(console(terminal=False))
    good = Attempt("pick up the banana", 7, True, "", 4.5, 34, 0.222)
    bad = Attempt("grab the apple", 8, False, "missed grasp", 20.0, 90, 0.0)
    screen.table([good, bad])
    screen.verdict(bad)
    shown = screen._console.file.getvalue()
    assert "22.2 cm" in shown
    assert '"grab the apple": failed, missed grasp after 20.0 s' in shown
