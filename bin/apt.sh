# shellcheck shell=bash
# Sourced: apt-get, which may be at work already. A new machine installs its first updates by itself
# just when somebody sets something up on it. Who sources this has `say`, and may have `sudo`.

apt_install() { # PACKAGE...
  local said waiting="" deadline=$((SECONDS + 300))
  local apt_get=("${sudo[@]}" env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -qq)
  # apt-get waits for dpkg's lock when it is told to, but not for that of its lists
  until said=$("${apt_get[@]}" update 2>&1); do
    if [[ $said != *"Could not get lock"* || $SECONDS -ge $deadline ]]; then
      printf '%s\n' "$said" >&2
      return 1
    fi
    [ -n "$waiting" ] || say "waiting for another apt-get to end"
    waiting=yes
    sleep 1
  done
  "${apt_get[@]}" -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" >&2
}
