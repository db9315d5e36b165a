# SPDX-License-Identifier: Apache-2.0
"""The paper's figures: ours stand beside them by the names of our suites."""

import pytest

from rt2_ros.evaluation import paper
from rt2_ros.evaluation.suites import load_suite


@pytest.mark.parametrize("cell", paper.PAPER, ids=paper.title)
def test_every_cell_of_the_paper_is_one_of_our_suites(cell):
    suite, name = cell
    assert load_suite(suite).cell(name).name == name


def test_averages_are_those_of_the_cells():
    for chosen, average in (
        (paper.UNSEEN, paper.UNSEEN_AVERAGE), (paper.EMERGENT, paper.EMERGENT_AVERAGE)
    ):  # fmt: skip
        rows = [paper.PAPER[cell] for cell in chosen]
        # The paper rounds, and weighs by trials: within three points of the plain mean.
        assert [sum(column) / len(rows) for column in zip(*rows, strict=True)] == pytest.approx(
            list(average), abs=3
        )


def test_cells_come_in_the_papers_order_and_others_after_them():
    cells = {("robustness", "blur"), ("emergent", "people"), ("instructions", ""), paper.SEEN}
    assert [paper.title(cell) for cell in paper.in_order(cells)] == [
        "seen", "emergent, people", "instructions", "robustness, blur",
    ]  # fmt: skip
