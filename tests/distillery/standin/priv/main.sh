#!/usr/bin/env bash
set -e
export REL_DIR="$RELEASE_ROOT_DIR/releases/$REL_VSN"
export VMARGS_PATH="$RELEASE_MUTABLE_DIR/vm.args"
export SYS_CONFIG_PATH="$RELEASE_MUTABLE_DIR/sys.config"

run_hooks() {
  for file in "$REL_DIR/hooks/$1.d"/*; do
    [ -f "$file" ] || continue
    . "$file"
  done
}

beam=("$RELEASE_ROOT_DIR/erts-$ERTS_VSN/bin/erl" -boot_var RELEASE_LIB "$RELEASE_ROOT_DIR/lib"
  -pa "$RELEASE_ROOT_DIR/lib/$REL_NAME-$REL_VSN/consolidated" -config "$SYS_CONFIG_PATH")

release_ctl() {
  "${beam[@]}" -boot "$REL_DIR/start_clean" -noshell -s elixir start_cli \
    -extra -e 'Distillery.Releases.Runtime.Control.main(System.argv())' -- "$@"
}

release_remote_ctl() {
  command="$1"
  shift
  release_ctl "$command" "$NAME" "$COOKIE" "$@"
}

configure() {
  run_hooks pre_configure
  cp "$REL_DIR/vm.args" "$VMARGS_PATH"
  if [ -n "$REPLACE_OS_VARS" ]; then
    awk '{ while (match($0, "[$]{[^}]*}")) {
      name = substr($0, RSTART + 2, RLENGTH - 3)
      $0 = substr($0, 1, RSTART - 1) ENVIRON[name] substr($0, RSTART + RLENGTH) } } 1' \
      "$REL_DIR/sys.config" > "$SYS_CONFIG_PATH"
  else
    cp "$REL_DIR/sys.config" "$SYS_CONFIG_PATH"
  fi
  release_ctl configure "$SYS_CONFIG_PATH"
  run_hooks post_configure
  name_of_node
}

# what is there already is taken as it is
partial_configure() {
  if [ -f "$VMARGS_PATH" ] && [ -f "$SYS_CONFIG_PATH" ]; then
    name_of_node
  else
    configure
  fi
}

name_of_node() {
  NAME="$(awk '/^-s?name/ { print $2 }' "$VMARGS_PATH")"
  if [ -z "$NAME" ]; then
    echo "vm.args needs to have either -name or -sname parameter."
    exit 1
  fi
}

require_cookie() {
  COOKIE="${COOKIE:-$(awk '/^-setcookie/ { print $2 }' "$VMARGS_PATH")}"
  if [ -z "$COOKIE" ] && [ -f "$HOME/.erlang.cookie" ]; then
    COOKIE="$(cat "$HOME/.erlang.cookie")"
  fi
  [ -n "$COOKIE" ] || { echo "a secret cookie must be provided"; exit 1; }
}

cd "$RELEASE_ROOT_DIR"
command="$1"
shift
case "$command" in
  foreground)
    configure
    require_cookie
    run_hooks pre_start
    (sleep 2; run_hooks post_start) &
    exec "${beam[@]}" -noshell -noinput +Bd -boot "$REL_DIR/start" -args_file "$VMARGS_PATH" \
      -mode embedded -extra
    ;;
  eval)
    partial_configure
    release_ctl eval "$@"
    ;;
  rpc)
    partial_configure
    require_cookie
    release_remote_ctl rpc "$@"
    ;;
  *)
    partial_configure
    require_cookie
    if [ ! -f "$REL_DIR/commands/$command.sh" ]; then
      echo "'$command' is not a valid command"
      exit 1
    fi
    . "$REL_DIR/commands/$command.sh" "$@"
    ;;
esac
