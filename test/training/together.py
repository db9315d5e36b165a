# SPDX-License-Identifier: Apache-2.0
"""Runs of two processes, as torchrun starts them for test_parallel: DDP and FSDP, unbroken and
broken.
"""

import sys
from pathlib import Path

import torch
from tiny_runs import vlm_config, vlm_run, vlm_stage

torch.set_num_threads(1)


def main(folder):
    for parallel in ("ddp", "fsdp"):
        for name, stops in (("whole", (6,)), ("broken", (3, 6))):
            for stop in stops:
                config = vlm_config(
                    folder / parallel / name, folder / "model", parallel=parallel,
                    stages=(vlm_stage(steps=6, batch_size=2),), save_steps=3,
                )  # fmt: skip
                run = vlm_run(config)
                if stop == 3:  # what a kill leaves: the checkpoint of step 3, and a log beyond it
                    run._patience_is_over = lambda place=run.place: place.step >= 4
                    run.save = lambda run=run, save=run.save: run.place.step < 4 and save()
                run.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
