# SPDX-License-Identifier: Apache-2.0
"""A look-alike of moveit_py, as far as moveit_py_process calls it: see planning.py."""
