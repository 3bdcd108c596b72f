# shellcheck shell=bash
# Sourced by the commands of this directory: makes sure that what they need is there.
#
#   setup cli       the command line alone, such as on a laptop that deploys to a server
#   setup runtime   an embedded home, too: nginx, git, Elixir and Erlang
#   setup dev       the tests, too
#
# `cli` needs Python and installs no package of the system. The others install Debian packages, as
# root or with sudo (otherwise one line names them). A virtual environment goes to .venv. The second
# run only compares time stamps.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

. "$root/bin/apt.sh"

say() { printf '%s\n' "gatling: $*" >&2; }

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

missing_packages() { # runtime|dev
  local program checks=""
  [ "$1" = dev ] && checks="erlang-dialyzer erlang-eunit"
  PATH=$PATH:/usr/sbin:/sbin
  for program in git curl elixir; do
    command -v "$program" >/dev/null || printf '%s ' "$program"
  done
  command -v nginx >/dev/null || printf '%s ' nginx-light
  command -v ssh-keygen >/dev/null || printf '%s ' openssh-client
  # Debian splits Erlang, and `elixir` brings a part only. Projects need more of OTP: xmerl, os_mon.
  if command -v dpkg-query >/dev/null && [ "$(command -v erl)" = /usr/bin/erl ]; then
    for program in erlang-nox erlang-dev $checks; do
      [ "$(dpkg-query -W -f '${db:Status-Status}' "$program" 2>/dev/null)" = installed ] || printf '%s ' "$program"
    done
  elif ! command -v elixir >/dev/null; then
    # shellcheck disable=SC2086 # one word for each package
    printf '%s ' erlang-nox erlang-dev $checks
  fi
  find_python >/dev/null || printf '%s ' python3 python3-venv
  if [ "$1" = dev ]; then
    # its programs are not on PATH
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || printf 'postgresql '
    for program in shellcheck tmux zsh fish skopeo pgbackrest chromium groff; do
      command -v "$program" >/dev/null || printf '%s ' "$program"
    done
    command -v nft >/dev/null || printf '%s ' nftables
    command -v mkfs.xfs >/dev/null || printf '%s ' xfsprogs
    command -v cc >/dev/null || printf '%s ' gcc libc6-dev
  fi
}

install_packages() { # runtime|dev
  local packages sudo=()
  packages=$(missing_packages "$1")
  [ -z "$packages" ] && return
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      sudo=(sudo)
    else
      say "please install as root, then run this again: apt-get install $packages"
      exit 8
    fi
  fi
  command -v apt-get >/dev/null || { say "please install, then run this again: $packages"; exit 8; }
  say "installing Debian packages: $packages"
  # shellcheck disable=SC2086 # one word for each package
  apt_install $packages || exit 8
}

install_venv() { # cli|runtime|dev
  local extra=""
  [ "$1" = dev ] && extra="[dev]"
  say "preparing Python packages ($1) in .venv"
  [ -x "$venv/bin/python" ] || "$(find_python)" -m venv "$venv" || exit 8
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --editable "$root$extra" >&2 || exit 8
}

setup() { # cli|runtime|dev
  local stamp=$venv/.ready-$1
  if [ "$stamp" -nt "$root/pyproject.toml" ] && [ "$stamp" -nt "$root/constraints.txt" ] &&
    [ "$stamp" -nt "$root/bin/setup.sh" ] && [ -x "$venv/bin/python" ]; then
    return
  fi
  if [ "$1" = cli ]; then
    find_python >/dev/null || { say "please install Python 3.11 or newer, with its venv module (on Debian: apt install python3-venv)"; exit 8; }
  else
    install_packages "$1"
    touch_also=$venv/.ready-runtime
  fi
  install_venv "$1"
  touch "$stamp" "$venv/.ready-cli" ${touch_also:+"$touch_also"}
}
