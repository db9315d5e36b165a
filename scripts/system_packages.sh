#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install what pip cannot: a C++ compiler, Python's headers, the font that the pictures are drawn
# from, and headless OpenGL. Does nothing, quickly, where all of it is there.
# Usage: system_packages.sh PYTHON
set -euo pipefail
python=$1

font=$(find /usr/share/fonts /usr/local/share/fonts ~/.local/share/fonts \
  -name 'NotoColorEmoji*.ttf' -print -quit 2>/dev/null || true)
libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p)
name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')

missing=()
command -v c++ >/dev/null || missing+=(g++)
[[ -f $headers/Python.h ]] || missing+=("$name-dev")
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$name-venv")
[[ -n $font ]] || missing+=(fonts-noto-color-emoji)
# Mesa's software EGL draws the table without a display; OSMesa would do as well.
if [[ $libraries != *libOSMesa.so* ]]; then
  [[ $libraries == *libEGL.so.1* ]] || missing+=(libegl1)
  [[ $libraries == *libEGL_mesa.so.0* ]] || missing+=(libegl-mesa0)
fi
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  as_root=(sudo)
  [[ -t 0 ]] || as_root+=(-n) # nobody is there to type a password
fi
if command -v apt-get >/dev/null && { ((EUID == 0)) || command -v sudo >/dev/null; }; then
  echo "Installing with apt: ${missing[*]}"
  if "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -qy --no-install-recommends "${missing[@]}"; then
    exit 0
  fi
fi
echo "make setup: these system packages are missing and could not be installed: ${missing[*]}" >&2
echo "            Debian, Ubuntu: sudo apt install ${missing[*]}" >&2
echo "            (other systems name them differently); then run make again." >&2
exit 1
