# Shared by the scripts beside it: where things are, what must be installed, one build at a time.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${ROOMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/roomgate}
# Outside the clone, so that a fresh clone starts warm.
export CARGO_TARGET_DIR=${ROOMGATE_TARGET:-$CACHE/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
mkdir -p "$CACHE" "$CARGO_TARGET_DIR"
cd "$ROOT"

say() { printf '== %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Prints a number of seconds as "3 min 7 s".
span() {
  if [ "$1" -ge 60 ]; then printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); else printf '%d s' "$1"; fi
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, or fails with 1 when that takes a password.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif have sudo && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    return 1
  fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q "$@" </dev/null; }

# install PACKAGE...: Debian packages, all at once. A first failure (stale lists, an upgrade that was cut short, another
# apt at work) gets one repair and one more try.
install() {
  say "missing: $*"
  if ! have apt-get || ! as_root true; then
    die "install these and try again:  sudo apt-get install $*"
  fi
  local log=$CACHE/apt.log
  {
    apt_get update && apt_get -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
  } >"$log" 2>&1 && return
  say "apt-get failed, repairing and trying once more"
  {
    as_root dpkg --configure -a </dev/null || true
    apt_get -o DPkg::Lock::Timeout=120 --fix-broken install || true
    apt_get update
    apt_get -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
  } >>"$log" 2>&1 && return
  tail -n 20 "$log" >&2
  die "could not install: $* (the whole log is $log)"
}

# need COMMAND=PACKAGE...: installs the packages whose command is missing.
need() {
  local missing=() pair
  for pair in "$@"; do
    have "${pair%%=*}" || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -eq 0 ] || install "${missing[@]}"
}

need_to_build() {
  # A shell that was open when Rust was installed does not have it on its path yet.
  have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  have cargo || die "Rust is missing: install Rust 1.91 or newer (cargo must be on the path) and try again"
  need cc=gcc c++=g++ make=make cmake=cmake
}

# What Roomgate is compared with. Debian keeps them where only root's path leads; their services are not used.
need_to_compare() {
  PATH=$PATH:/usr/sbin:/sbin
  need nginx=nginx-light haproxy=haproxy taskset=util-linux setpriv=util-linux
}

need_to_test() {
  need_to_compare
  need chromium=chromium node=nodejs npm=npm prosody=prosody janus=janus python3=python3 \
    varnishtest=varnish slowhttptest=slowhttptest fail2ban-regex=fail2ban
  cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: rustup component add clippy"
  browser_modules
  python_modules
}

# Puts what the browser scripts import beside the cache, one folder per lock file.
browser_modules() {
  local key folder
  key=$(cat tests/e2e/package.json tests/e2e/package-lock.json | sha256sum | cut -c1-16)
  folder=$CACHE/e2e-$key
  export ROOMGATE_E2E_MODULES=$folder/node_modules
  [ -e "$folder/complete" ] && return
  say "fetching playwright-core"
  rm -rf "$folder"
  mkdir -p "$folder"
  cp tests/e2e/package.json tests/e2e/package-lock.json "$folder/"
  (
    cd "$folder"
    export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
    npm ci --no-audit --no-fund --loglevel=error </dev/null || {
      sleep 2
      npm ci --no-audit --no-fund --loglevel=error </dev/null
    }
  ) >&2 || die "npm ci failed in $folder"
  touch "$folder/complete"
}

# Puts what tests/tools imports into a virtual environment beside the cache, one per list of requirements.
python_modules() {
  local folder
  folder=$CACHE/python-$(sha256sum <tests/tools/requirements.txt | cut -c1-16)
  export ROOMGATE_PYTHON=$folder/bin/python3
  [ -e "$folder/complete" ] && return
  python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
  say "fetching the Python packages of tests/tools"
  rm -rf "$folder"
  python3 -m venv "$folder" || die "python3 -m venv failed in $folder"
  local pip=("$folder/bin/pip" --disable-pip-version-check install -q -r tests/tools/requirements.txt)
  { "${pip[@]}" || { sleep 2 && "${pip[@]}"; }; } </dev/null >&2 || die "pip install failed in $folder"
  touch "$folder/complete"
}

# Two clones share the target folder, where the finished binary has one name: one at a time.
lock() {
  exec 9>"$CARGO_TARGET_DIR/.roomgate.lock"
  if ! flock -n 9; then
    say "waiting for another run that uses $CARGO_TARGET_DIR"
    flock -w 5400 9 || die "the other run did not end within 90 minutes"
  fi
}

unlock() { exec 9>&-; }
