#!/bin/sh
# The reaper: kills process groups, also when the BEAM can't.
#
# The BEAM starts it before any interpreter and tells it, a line each:
#   watch PID     an interpreter, the leader of its own process group
#   kill PID      kill that group now
#   dump PID      ask that interpreter for the stacks of its threads
#   forget PID    it is gone, with all that it started
#   remove DIR    the directory to remove at the end
#   end           the instance ends
# When its input closes and the BEAM, whose pid is its argument, is gone, however it died, it kills every group that it still
# watches. Where the BEAM lives on, only the process that owns this program was lost; the next one has started
# another. Plain sh with the built-in kill, so that it needs no fork at the moment when forks may be what fails.

beam=$1
watched=" "
directory=

forget() {
    rest=" "
    for pid in $watched; do
        [ "$pid" = "$1" ] || rest="$rest$pid "
    done
    watched=$rest
}

kill_all() {
    for pid in $watched; do
        kill -KILL "-$pid" 2>/dev/null
    done
    case $directory in
        */pyre-*) rm -rf "$directory" ;;
    esac
    exit 0
}

# A zombie that nobody reaps still has its number.
beam_lives() {
    kill -0 "$beam" 2>/dev/null || return 1
    read -r stat 2>/dev/null <"/proc/$beam/stat" || return 0
    case ${stat##*) } in
        Z* | X*) return 1 ;;
    esac
}

while read -r verb argument; do
    case $verb in
        watch) watched="$watched$argument " ;;
        kill) kill -KILL "-$argument" 2>/dev/null; forget "$argument" ;;
        dump) kill -USR2 "$argument" 2>/dev/null ;;
        forget) forget "$argument" ;;
        remove) directory=$argument ;;
        end) kill_all ;;
    esac
done

# A BEAM that was killed closes its pipes a little before it is gone.
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    beam_lives || kill_all
    sleep 0.1
done
