#!/bin/sh
# The reaper: kills process groups, also when the BEAM can't.
#
# The BEAM starts it before any interpreter and tells it, a line each:
#   watch PID     an interpreter, the leader of its own process group
#   kill PID      kill that group now
#   forget PID    it is gone, with all that it started
#   remove DIR    the directory to remove at the end
# When its input closes, the BEAM is gone, however it died: it kills every group that it still watches. Plain sh with the
# built-in kill, so that it needs no fork at the moment when forks may be what fails.

watched=" "
directory=

forget() {
    rest=" "
    for pid in $watched; do
        [ "$pid" = "$1" ] || rest="$rest$pid "
    done
    watched=$rest
}

while read -r verb argument; do
    case $verb in
        watch) watched="$watched$argument " ;;
        kill) kill -KILL "-$argument" 2>/dev/null; forget "$argument" ;;
        forget) forget "$argument" ;;
        remove) directory=$argument ;;
    esac
done

for pid in $watched; do
    kill -KILL "-$pid" 2>/dev/null
done

case $directory in
    */pyre-*) rm -rf "$directory" ;;
esac
