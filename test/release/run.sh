#!/bin/bash
# Builds a release and treats it as an operator would: moved to another directory, started with one variable and no Elixir in PATH,
# asked through `ctl`, ended by SIGTERM. Ends with 1 and a sentence at the first thing that is not as it should be.

set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
node=
cleanup() {
    [ -n "$node" ] && kill -KILL "$node" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "release: $*" >&2
    [ -f "$work/log" ] && tail -n 20 "$work/log" >&2
    exit 1
}

# $1 seconds at most for a condition, the rest.
within() {
    local tries=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        read -r -t 0.05 <> <(:) || true
    done
}

# Only what a machine without Elixir has: its Python, and the system's programs.
python=$(.venv/bin/python -c 'import os, sys; print(os.path.realpath(sys.executable))')
# Not a function: in the background, $! would be that of a shell around the program.
bare=(env -i PATH=/usr/bin:/bin HOME="$work" TMPDIR="$work" LANG=C.UTF-8 PYRE_PYTHON="$python" PYRE_CONTROL="$work/run/control")
ctl() { "${bare[@]}" "$work/elsewhere/bin/pyre" ctl "$@"; }
gone() { ! kill -0 "$1" 2>/dev/null; }

PYRE_PYTHON=$python make --no-print-directory release >"$work/build" 2>&1 || { cat "$work/build" >&2; fail "it does not build"; }
cp -r _build/release "$work/elsewhere"
# No file may say where it was built: Python's records of what was installed would.
grep -rlF "$PWD" "$work/elsewhere" --include='*.py' --include='*.sh' --include='*.config' --include='*.args' --include='*.txt' |
    grep -q . && fail "a file names the directory that it was built in"

mkdir "$work/agents"
cat >"$work/agents/slow.py" <<'PY'
import asyncio

from pyre import Agent, handler


class Slow(Agent):
    autostart = True

    class State:
        total: int = 0

    @handler
    async def add(self, n: int, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        self.state.total += n
        return self.state.total
PY

# Bad settings
for wrong in PYRE_WORKERS=many PYRE_WROKERS=2 PYRE_AGENTS=/nowhere PYRE_LOG_LEVEL=loud; do
    said=$("${bare[@]}" PYRE_AGENTS="$work/agents" "$wrong" "$work/elsewhere/bin/pyre" start 2>&1)
    [ $? = 64 ] && [ "$(wc -l <<<"$said")" = 1 ] && [[ $said == "${wrong%%=*}"* ]] || fail "$wrong is answered: $said"
done
said=$("${bare[@]}" "$work/elsewhere/bin/pyre" start 2>&1)
[[ $said == *"PYRE_AGENTS is not set"* ]] || fail "without agents it says: $said"

echo "no snapshot" >"$work/snapshot"
said=$("${bare[@]}" PYRE_AGENTS="$work/agents" PYRE_SNAPSHOT="$work/snapshot" "$work/elsewhere/bin/pyre" start 2>&1)
[ $? = 64 ] && [ "$(wc -l <<<"$said")" = 1 ] && [[ $said == *"is refused"* ]] || fail "a wrong snapshot is answered: $said"
rm "$work/snapshot"

# The life of a node
start() {
    "${bare[@]}" PYRE_AGENTS="$work/agents" PYRE_WORKERS=2 PYRE_DRAIN_TIMEOUT=10s PYRE_SNAPSHOT="$work/snapshot" \
        "$work/elsewhere/bin/pyre" start >"$work/log" 2>&1 &
    node=$!
    within 30 ctl health || fail "it does not become ready"
}
start
[ "$(ctl call Slow add '{"n": 2}')" = 2 ] || fail "an agent does not answer"
said=$(ctl doctor)
status=$?
[[ $said == *"the instance is ready"*"agent classes: Slow"* ]] || fail "the doctor says: $said"
# What the machine lacks is the machine's: only the status must fit what is said.
grep -q '^WRONG' <<<"$said"
[ $status != $? ] || fail "the doctor ends with $status, and says: $said"
interpreters=$(ctl workers --json | "$python" -c 'import json, sys; print(*(w["os_pid"] for w in json.load(sys.stdin)))')
[ -n "$interpreters" ] || fail "it has no interpreters"

# SIGTERM lets what runs end
ctl call Slow add '{"n": 3, "seconds": 2}' >"$work/reply" 2>&1 &
caller=$!
within 10 eval '[ "$(ctl agents --json | "$python" -c "import json, sys; print(json.load(sys.stdin)[\"agents\"][0][\"mailbox\"])")" = 1 ]' || fail "the slow call does not begin"
kill -TERM "$node"
wait "$caller"
[ "$(cat "$work/reply")" = 5 ] || fail "a call that ran when SIGTERM came was answered: $(cat "$work/reply")"
wait "$node"
status=$?
[ $status = 0 ] || fail "it ended with status $status"
node=
for pid in $interpreters; do
    within 5 gone "$pid" || fail "the interpreter $pid is left"
done
[ -e "$work/run/control" ] && fail "its control socket is left"
ctl status >/dev/null 2>&1
[ $? = 69 ] || fail "ctl does not say that there is no node"
# The next life goes on where the last one ended
start
[ "$(ctl call Slow add '{"n": 1}')" = 6 ] || fail "the state did not survive a restart"
ctl stop || fail "it can't be stopped"
wait "$node" || fail "it ended with status $?"
node=
echo "release: built, moved, ran, drained, nothing is left"
