# SPDX-License-Identifier: Apache-2.0
"""What models learn from: pictographs, web questions, robot demonstrations, and their split."""
