# SPDX-License-Identifier: Apache-2.0
"""What plans of demonstrations look like (`rt2_ros.data.plans`)."""

import re

from rt2_ros.data.plans import FLAT, HIGH
from rt2_ros.sim.expert import SIDES, STEPS, VERBS

_VERBS = "|".join(sorted(VERBS, key=len, reverse=True))
_SIDES = "|".join(SIDES)
PLAN = re.compile(
    r"(?:(?P<thing>\D+) (?P<u>\d+) (?P<v>\d+) "
    rf"(?:(?P<target>\D+) (?P<tu>\d+) (?P<tv>\d+) (?P<kind>{FLAT}|{HIGH}) )?"
    r"at (?P<at>\d+ \d+(?: \d+ \d+)?) off (?P<off>\d+ \d+) )?"
    rf"(?P<room>(?:(?:{_SIDES}) (?:yes|no) ){{4}})?"
    rf"(?:to (?P<side>{_SIDES}) )?"
    rf"(?P<verb>{_VERBS}) "
    rf"(?:(?P<place>\d+ \d+) off (?P<ahead>\d+ \d+) )?(?P<step>{'|'.join(STEPS)})"
)
