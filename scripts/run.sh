#!/bin/bash
# Runs `mix pyre.run` with the given arguments, so that Ctrl-C ends it politely.
#
# The BEAM can't trap SIGINT: Ctrl-C would bring up its break menu, or end it without draining. So it runs in a session
# of its own, where the terminal's signals don't reach it, and this script hands them on: the first as SIGTERM, which
# drains, a second as SIGKILL. It ends with the BEAM's exit status.
#
# The BEAM doesn't own the terminal either, so what it must know of it is in the environment: PYRE_TTY=1 if standard
# output is one, and its size in PYRE_COLUMNS and PYRE_LINES.

set -u
cd "$(dirname "$0")/.." || exit 1

export MIX_ENV=dev
# Also what keeps the BEAM from reading the terminal: no break handler, no shell.
export ELIXIR_ERL_OPTIONS="+Bd -noinput ${ELIXIR_ERL_OPTIONS:-}"

if [ -t 1 ]; then
    export PYRE_TTY=1
    # Not <&1: inside the substitution, that is its own pipe.
    exec 3>&1
    read -r PYRE_LINES PYRE_COLUMNS < <(stty size <&3 2>/dev/null || echo 24 80)
    exec 3>&-
    export PYRE_LINES PYRE_COLUMNS
fi

# Only before the first run: later, mix compiles what has changed, which is mostly nothing.
compile() {
    [ -f _build/dev/lib/pyre/ebin/pyre.app ] && return
    echo "compiling Pyre, once ..."
    local output
    output=$(mix compile 2>&1) && return
    printf '%s\n' "$output" >&2
    exit 1
}

# Should this script be killed, the kernel ends the BEAM too.
tied=(setsid)
command -v setpriv >/dev/null && tied+=(setpriv --pdeathsig TERM --)

compile

beam=
signals=0
hand_on() {
    signals=$((signals + 1))
    [ -n "$beam" ] || return
    if [ $signals = 1 ]; then kill -TERM "$beam"; else kill -KILL "$beam"; fi 2>/dev/null
}
trap hand_on INT TERM HUP

"${tied[@]}" mix pyre.run "$@" </dev/null &
beam=$!
# A signal that came in the line above has found nobody to go to.
[ $signals = 0 ] || kill -TERM "$beam" 2>/dev/null

# A trapped signal ends `wait` early, with a status of its own.
while :; do
    seen=$signals
    # bash would print "Killed" and the whole command.
    { wait "$beam"; } 2>/dev/null
    status=$?
    [ $signals != $seen ] && kill -0 "$beam" 2>/dev/null || break
done

exit $status
