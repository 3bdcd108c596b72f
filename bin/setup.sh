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

# pip takes half a minute for the packages of the tests. They are kept, and the next clone with the same
# lists of versions and the same Python copies them.
kept_packages() { # prints a directory; nothing if paths in scripts could not simply be replaced
  [[ $venv =~ ^[A-Za-z0-9/._+-]{1,100}$ ]] || return 0
  local key
  key=$({
    "$venv/bin/python" -c 'import platform, sys; print(sys.version, sys.base_prefix, platform.platform())'
    cat "$root/pyproject.toml" "$root/constraints.txt" "$root/bin/setup.sh"
  } | sha256sum)
  printf '%s' "${XDG_CACHE_HOME:-$HOME/.cache}/gatling/packages/${key:0:16}"
}

rename_in_scripts() { # DIRECTORY FROM TO
  local script start
  for script in "$1"/bin/*; do
    read -r -N 2 start <"$script" || continue
    [ "$start" != '#!' ] || sed -i "s|$2|$3|g" "$script"
  done
}

keep_packages() { # KEPT; without what belongs to this clone alone
  local new=$1.$$
  mkdir -p "$new" && cp -a "$venv/." "$new/" &&
    rm -rf "$new"/pyvenv.cfg "$new"/.[a-z]* "$new"/bin/{python*,[Aa]ctivate*,gatling} \
      "$new"/lib/python3*/site-packages/{gatling_deploy-*,_editable_impl_gatling_deploy.pth} &&
    rename_in_scripts "$new" "$venv" @venv@ || return
  (
    flock 9
    find "${1%/*}" -mindepth 1 -maxdepth 1 -type d ! -path "$new" -exec rm -rf {} + # one is enough
    mv -T "$new" "$1"
  ) 9>"${1%/*}/lock"
}

take_packages() { # KEPT; fails if there are none
  mkdir -p "${1%/*}" && (
    flock 9
    [ -d "$1" ] && cp -a "$1/." "$venv/"
  ) 9>"${1%/*}/lock" && rename_in_scripts "$venv" @venv@ "$venv"
}

install_venv() { # cli|runtime|dev
  local extra="" kept="" alone=() unfinished=$venv/.unfinished
  say "preparing Python packages ($1) in .venv"
  if [ ! -x "$venv/bin/python" ] || [ -e "$unfinished" ]; then
    rm -rf "$venv"
    "$(find_python)" -m venv "$venv" || exit 8
    touch "$unfinished"
    [ "$1" != dev ] || kept=$(kept_packages)
  fi
  [ "$1" != dev ] || extra="[dev]"
  if [ -n "$kept" ] && take_packages "$kept"; then
    alone=(--no-deps --no-index --no-build-isolation) # nothing else is left to install
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${alone[@]}" \
    --constraint "$root/constraints.txt" --editable "$root$extra" >&2 || exit 8
  rm -f "$unfinished"
  if [ -n "$kept" ] && [ ${#alone[@]} = 0 ]; then
    keep_packages "$kept" || say "the Python packages could not be kept for the next clone"
  fi
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
