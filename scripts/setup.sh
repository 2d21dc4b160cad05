# Sourced by test.sh and demo.sh: makes the environment once, quickly skips what is already done.
# Leaves $venv, its bin folder first in PATH, and off-screen OpenGL working or an explanation printed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
venv=${WAYHAND_VENV:-$root/.venv}
gl_packages="libosmesa6 libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri"

say() { printf '\033[1m== %s\033[0m\n' "$*"; }
die() { printf '%s\n' "$@" >&2; exit 1; }

# Prints the command and fails where there are no rights to run it.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
  else return 1
  fi
}

apt_install() {
  command -v apt-get >/dev/null || return 1
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Wayhand needs Python 3.11, 3.12 or 3.13." "  run: sudo apt-get install python3, or PYTHON=/path/to/python3 bash $0"
}

make_venv() {
  local python version
  python=$(find_python)
  "$python" -m venv "$venv" >/dev/null 2>&1 && return
  # Debian ships the venv module in a package of its own.
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  rm -rf "$venv"
  apt_install "python$version-venv" || die "$python cannot make a virtual environment." \
    "  run: sudo apt-get install python$version-venv"
  "$python" -m venv "$venv"
}

install_packages() {
  local stamp=$venv/.wayhand-installed want
  want=$(cat pyproject.toml constraints.txt | sha256sum)
  [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
  say "Installing packages into $venv (once, a few minutes)"
  [ -x "$venv/bin/python" ] || make_venv
  # PyTorch first and by exact version, so that nothing later can pull in another build.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools wheel
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
  printf '%s\n' "$want" >"$stamp"
}

gl_works() {
  local backend
  for backend in egl osmesa; do
    MUJOCO_GL=$backend PYOPENGL_PLATFORM=$backend "$venv/bin/python" -c \
      'import mujoco; context = mujoco.GLContext(8, 8); context.make_current(); context.free()' 2>/dev/null && return
  done
  return 1
}

install_gl() {
  gl_works && return
  say "Installing the system packages for off-screen OpenGL"
  # shellcheck disable=SC2086
  apt_install $gl_packages && gl_works && return
  printf '%s\n' "Off-screen OpenGL is missing and cannot be installed from here." \
    "  run: sudo apt-get update && sudo apt-get install -y --no-install-recommends $gl_packages" >&2
  return 1
}

# A compiler lets PyTorch fuse what it trains; without one everything still runs, more slowly.
install_compiler() {
  local headers
  headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  command -v g++ >/dev/null && [ -f "$headers/Python.h" ] && return
  say "Installing a compiler, with which training is faster"
  apt_install g++ "lib$(basename "$headers")-dev" || printf '%s\n' "Not installed; training goes on without it." \
    "  run: sudo apt-get install g++ lib$(basename "$headers")-dev" >&2
}

install_packages
install_gl || die "Then run the same command again."
export PATH="$venv/bin:$PATH"
