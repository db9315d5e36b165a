# SPDX-License-Identifier: Apache-2.0
"""RT-1 (arXiv 2212.06817), the baseline that RT-2 is measured against: vision, language and history
in 35 million parameters, 256-way heads, no pretraining on the web.

    model = RT1(RT1Config())                              # the published sizes
    model = RT1.from_pretrained("out/train/rt1-small/checkpoint")
"""

from rt2_ros.models.rt1.config import RT1Config
from rt2_ros.models.rt1.model import RT1

__all__ = ["RT1", "RT1Config"]
