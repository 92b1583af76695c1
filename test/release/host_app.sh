#!/bin/bash
# An application that embeds Pyre (test/fixtures/host_app): built without a warning, with `:telemetry` and without; its tests; its own release,
# moved, started with nothing but Python, asked, ended by SIGTERM; and nothing is left.

set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
node=
cleanup() {
    [ -n "$node" ] && kill -KILL "$node" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "host_app: $*" >&2
    [ -f "$work/log" ] && tail -n 30 "$work/log" >&2
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

# Beside a copy of Pyre, as it would be in a checkout of the host's.
mkdir -p "$work/checkout/test/fixtures"
for part in mix.exs lib priv config LICENSE; do ln -s "$PWD/$part" "$work/checkout/$part"; done
cp -r test/fixtures/host_app test/fixtures/telemetry "$work/checkout/test/fixtures/"
host=$work/checkout/test/fixtures/host_app
cd "$host" || exit 1
rm -rf _build .venv

# mix ARGUMENTS, into a log in which no warning may be. Packages of Hex are not asked for.
clean_mix() {
    mix "$@" >"$work/log" 2>&1 || fail "mix $* failed"
    ! grep -i warning "$work/log" || fail "mix $* warns"
}
python=$("$OLDPWD/.venv/bin/python" -c 'import os, sys; print(os.path.realpath(sys.executable))')

clean_mix compile --warnings-as-errors
clean_mix pyre.install --python "$python"
clean_mix test --warnings-as-errors
export HOST_APP_TELEMETRY=yes MIX_ENV=prod
clean_mix compile --warnings-as-errors
clean_mix release --path "$work/release" --overwrite
mv "$work/release" "$work/elsewhere"
rm -rf "$work/checkout/lib" "$host/_build" "$host/.venv"
cd "$work" || exit 1

# Only what a machine without Elixir has.
bare=(env -i PATH="$(dirname "$python"):/usr/bin:/bin" HOME="$work" TMPDIR="$work" LANG=C.UTF-8 RELEASE_DISTRIBUTION=none HOST_APP_TRY_OUT=yes)
"${bare[@]}" "$work/elsewhere/bin/host_app" start >"$work/log" 2>&1 &
node=$!
within 60 grep -q "events seen" "$work/log" || fail "its release does not answer"
line=$(grep "events seen" "$work/log")
[[ $line =~ ^"host_app: order 1 of 600 cents, 600 reported, "([0-9]+)" events seen"$ ]] || fail "it says: $line"
[ "${BASH_REMATCH[1]}" -gt 3 ] || fail "its telemetry saw nothing: $line"
interpreters=$(pgrep -P "$(pgrep -P "$node" erl_child_setup)")
[ "$(wc -w <<<"$interpreters")" -ge 3 ] || fail "it has no interpreters"
kill -TERM "$node"
wait "$node" || fail "it ended with status $?"
grep -q "host_app: stopping" "$work/log" || fail "it did not stop in order"
ended=$node
node=
gone() { ! kill -0 "$1" 2>/dev/null; }
for pid in $interpreters; do
    within 5 gone "$pid" || fail "the process $pid is left"
done
files=$(ls -d /dev/shm/pyre-"$ended"-* "$work/pyre-$ended-"* 2>/dev/null)
[ -z "$files" ] || fail "files are left: $files"
echo "host_app: built without a warning, tested, released, ran both instances, stopped; nothing is left"
