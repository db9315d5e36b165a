# SPDX-License-Identifier: Apache-2.0
"""Co-fine-tuning on robot demonstrations and web questions, as in RT-2."""
