# SPDX-License-Identifier: Apache-2.0
"""Runs of two processes, as torchrun starts them for test_parallel: DDP and FSDP, unbroken and
broken, one that a single process began and one that it will end, and one by the command, with an
export.
"""

import sys
from pathlib import Path

import torch
from tiny_runs import SOURCES, break_off, vlm_config, vlm_run, vlm_stage

from rt2_ros.training import cli
from rt2_ros.training.config import Validation

torch.set_num_threads(1)


def main(folder):
    for parallel in ("ddp", "fsdp"):
        runs = {"whole": (6,), "broken": (3, 6), "joined": (6,), "left": (3,), "spare": (3, 6)}
        for name, stops in runs.items():
            for stop in stops:
                config = vlm_config(
                    folder / parallel / name, folder / "model", parallel=parallel,
                    stages=(vlm_stage(steps=6, batch_size=2),), save_steps=3,
                    model={"gradient_checkpointing": name == "spare"},
                )  # fmt: skip
                run = vlm_run(config, spare=name == "spare")
                (break_off(run) if stop == 3 else run).run()
        config = vlm_config(
            folder / parallel / "watched", folder / "model", parallel=parallel,
            stages=(vlm_stage(steps=6, batch_size=2),), save_steps=100,
            validation=Validation(every=2, batches=1),
        )  # fmt: skip
        run = vlm_run(config, held_out=SOURCES)
        run.place.best = 0.0  # no look finds a better one, which would be saved
        run.run()
    config = vlm_config(folder / "exported", folder / "model", stages=(vlm_stage(steps=1),))
    cli._rt2 = lambda args: vlm_run(config).run
    cli.main(["--export", str(folder / "shipped")])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
