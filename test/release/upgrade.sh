#!/bin/bash
# An operator's first hour: the release is copied to a machine that has only Debian's base system and Python, started there with one
# variable, asked through `ctl`; an agent file is dropped in, and moved to its version 2 with a migration of states while calls go on, none of
# which may fail; SIGTERM, and nothing is left. The machine is a root of its own (mmdebstrap, as root); where that can't be had, it says so,
# and runs the same in an empty directory.

set -u
cd "$(dirname "$0")/../.." || exit 1

# Mounts end with this script, however it ends.
if [ "$(id -u)" = 0 ] && [ -z "${UPGRADE_UNSHARED:-}" ] && unshare --mount true 2>/dev/null; then
    UPGRADE_UNSHARED=1 exec unshare --mount --propagation private "$0" "$@"
fi

work=$(mktemp -d)
root=
node=
cleanup() {
    # What it leaves is removed by its reaper, which needs the mounts.
    [ -n "$node" ] && kill -KILL "$node" 2>/dev/null && within 5 none_left
    [ -n "$root" ] && umount --lazy "$root/proc" && umount --lazy --recursive "$root/dev"
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "upgrade: $*" >&2
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

# Who still runs there: by its root, or by what it was started with.
left() {
    if [ -n "$root" ]; then
        for link in /proc/[0-9]*/root; do [ "$(readlink "$link")" = "$root" ] && echo "$link"; done
    else
        grep -lzF "PYRE_AGENTS=$seen/agents" /proc/[0-9]*/environ 2>/dev/null
    fi
}
none_left() { [ -z "$(left)" ]; }

make --no-print-directory release >"$work/build" 2>&1 || { cat "$work/build" >&2; fail "the release does not build"; }

if [ -z "${UPGRADE_UNSHARED:-}" ] || ! command -v mmdebstrap >/dev/null; then
    echo "upgrade: the second root is left out: it needs root, unshare and mmdebstrap"
elif ! mmdebstrap --quiet --variant=minbase --include=python3 bookworm "$work/root" >"$work/log" 2>&1; then
    echo "upgrade: the second root is left out: mmdebstrap could not make it"
else
    root=$work/root
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" || fail "proc and dev can't be mounted"
    for program in erl elixir mix gcc pip; do
        chroot "$root" which $program >/dev/null 2>&1 && fail "the second root has $program"
    done
fi

# Below it everything happens. Seen from inside the root it is /srv.
if [ -n "$root" ]; then
    place=$root/srv
    seen=/srv
    as=(chroot "$root" env -i PATH=/usr/bin:/bin)
else
    place=$work/srv
    seen=$place
    mkdir "$place"
    as=(env -i PATH=/usr/bin:/bin TMPDIR="$work" PYRE_CONTROL="$work/control")
fi
ctl() { "${as[@]}" "$seen/pyre/bin/pyre" ctl "$@"; }
python() { "${as[@]}" python3 "$@"; }

cp -r _build/release "$place/pyre"
mkdir "$place/agents"

cat >"$place/agents/till.py" <<'PY'
from pyre import Agent, handler


class Till(Agent):
    class State:
        cents: int = 0

    @handler
    async def pay(self, cents: int) -> int:
        self.state.cents += cents
        return self.state.cents
PY

# Here and now
"${as[@]}" PYRE_AGENTS="$seen/agents" "$seen/pyre/bin/pyre" start >"$work/log" 2>&1 &
node=$!
within 30 ctl health || fail "it does not become ready"
ctl start Till --id till-1 >/dev/null || fail "an agent can't be started"
[ "$(ctl call till-1 pay '{"cents": 5}')" = 5 ] || fail "the agent does not answer"

# A file that is dropped in
cat >"$place/agents/customer.py" <<'PY'
import asyncio

from pyre import Agent, Context, handler

TILLS = 20


class Customer(Agent):
    """Pays one cent at a time, into one till after the other, until it is told to go."""

    class State:
        paid: int = 0
        failed: int = 0
        gone: bool = False

    @handler
    async def open(self, ctx: Context) -> None:
        for n in range(2, TILLS + 1):
            await ctx.spawn("Till", f"till-{n}")
            await ctx.call(f"till-{n}", "pay", cents=5)

    @handler
    async def shop(self, ctx: Context, cents: int) -> None:
        for n in range(1, TILLS + 1):
            try:
                await ctx.call(f"till-{n}", "pay", cents=1)
                self.state.paid += 1
            except Exception as error:
                self.state.failed += 1
                ctx.log.error("a payment failed", error=repr(error))
        await asyncio.sleep(0.001)
        if not self.state.gone:
            await ctx.cast(ctx.id, "shop", cents=cents)

    @handler(interleave=True)
    async def paid(self) -> tuple[int, int]:
        return self.state.paid, self.state.failed

    @handler
    async def go(self) -> None:
        self.state.gone = True
PY
ctl reload >"$work/reload" 2>&1 || fail "the file that was dropped in is not loaded: $(cat "$work/reload")"
ctl start Customer --id customer >/dev/null || fail "the new class is not there"
ctl call customer open >/dev/null || fail "the new agent does not answer"

# Version 2, under load: an agent's calls, and an operator's
ctl call customer paid >/dev/null || fail "the new agent does not answer"
ctl cast customer shop '{"cents": 1}' >/dev/null || fail "it can't be cast to"
(
    while [ ! -e "$work/enough" ]; do
        ctl call till-1 pay '{"cents": 1}' >>"$work/calls" 2>>"$work/failures" || echo failed >>"$work/failures"
    done
) &
caller=$!
within 30 test -s "$work/calls" || fail "the load does not begin"
cat >"$place/agents/till.py" <<'PY'
from pyre import Agent, handler


class Till(Agent):
    version = 2

    class State:
        euros: float = 0.0
        migrated: bool = False

    @staticmethod
    def migrate(state: dict, from_version: int) -> dict:
        return {"euros": state["cents"] / 100, "migrated": True}

    @handler
    async def pay(self, cents: int) -> float:
        self.state.euros += cents / 100
        return self.state.euros
PY
ctl reload >"$work/reload" 2>&1 || fail "version 2 is not loaded: $(cat "$work/reload")"
lines=$(wc -l <"$work/calls")
within 30 eval '[ "$(wc -l <"$work/calls")" -gt $((lines + 3)) ]' || fail "the load does not go on"
touch "$work/enough"
wait "$caller"
[ -s "$work/failures" ] && fail "calls failed during the upgrade: $(sort "$work/failures" | uniq -c)"
ctl call customer go >/dev/null || fail "the load can't be ended"
idle() { [ "$(ctl inspect customer --json | python -c 'import json, sys; print(json.load(sys.stdin)["mailbox"])')" = 0 ]; }
within 30 idle || fail "the load does not end"

# What was paid is there, to the cent, and every state was migrated.
read -r paid failed < <(ctl call customer paid --json | python -c 'import json, sys; print(*json.load(sys.stdin))')
[ "$failed" = 0 ] || fail "$failed payments of an agent failed"
[ "$paid" -gt 100 ] || fail "there was no load: $paid payments"
expected=$((20 * 5 + paid + $(wc -l <"$work/calls")))
there=0
for n in $(seq 20); do
    cents=$(ctl inspect "till-$n" --json | python -c 'import json, sys; state = json.load(sys.stdin)["state"]; assert state["migrated"]; print(round(state["euros"] * 100))') ||
        fail "the state of till-$n was not migrated"
    there=$((there + cents))
done
[ "$there" = "$expected" ] || fail "$expected cents were paid, and $there are there"

# The end
kill -TERM "$node"
wait "$node"
status=$?
[ $status = 0 ] || fail "it ended with status $status"
ended=$node
node=
within 5 none_left || fail "processes are left: $(left)"
files=$(ls -d /dev/shm/pyre-$ended-* "$place/../tmp/pyre-$ended-"* 2>/dev/null)
[ -z "$files" ] || fail "files are left: $files"
echo "upgrade: $paid calls of an agent and $(wc -l <"$work/calls") of ctl before, during and after the change to version 2, none failed; ${root:+in a root of its own; }nothing is left"
