#!/bin/sh
set -e
RELEASE_ROOT_DIR="$(cd "$(dirname "$0")/.." && pwd -P)"
RELEASE_MUTABLE_DIR="${RELEASE_MUTABLE_DIR:-$RELEASE_ROOT_DIR/var}"
mkdir -p "$RELEASE_MUTABLE_DIR"
START_ERL_DATA="$RELEASE_MUTABLE_DIR/start_erl.data"
# what is there from before stays in force, unless it is older
if [ "$RELEASE_ROOT_DIR/releases/start_erl.data" -nt "$START_ERL_DATA" ] || [ ! -f "$START_ERL_DATA" ]; then
  cp "$RELEASE_ROOT_DIR/releases/start_erl.data" "$START_ERL_DATA"
fi
ERTS_VSN="$(cut -d' ' -f1 "$START_ERL_DATA")"
REL_VSN="$(cut -d' ' -f2 "$START_ERL_DATA")"
REL_NAME=<%= release_name %>
export RELEASE_ROOT_DIR RELEASE_MUTABLE_DIR ERTS_VSN REL_VSN REL_NAME
exec "$RELEASE_ROOT_DIR/releases/$REL_VSN/$REL_NAME.sh" "$@"
