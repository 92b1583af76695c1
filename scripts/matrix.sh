#!/bin/bash
# Runs the test suites over the versions that Pyre works with.
#
#   scripts/matrix.sh [--root DIRECTORY] [here] [trixie] [pythons] [-- FILE...]
#
#   here      what this machine has
#   trixie    Elixir 1.18, OTP 27 and Python 3.13, in a root of Debian 13; needs root, mmdebstrap and unshare
#   pythons   the Python suite with every other Python from 3.11 on that is found in PATH or under ~/.pyenv
#
# All three by default. What can't be had is left out with a message. --root is where the root of Debian 13 is made, once
# (_build/matrix/trixie). FILE: only these tests of ExUnit; the Python suite is left out then.

set -u
cd "$(dirname "$0")/.." || exit 1

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
say() { echo "matrix: $*"; }

root=$PWD/_build/matrix/trixie
legs=()
files=()
arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --root) root=$(realpath -m "${2:?--root needs a directory}"); shift ;;
        here | trixie | pythons) legs+=("$1") ;;
        --) shift; files=("$@"); break ;;
        *) usage >&2; exit 64 ;;
    esac
    shift
done
[ ${#legs[@]} = 0 ] && legs=(here trixie pythons)

# Mounts end with this script, however it ends.
if [[ " ${legs[*]} " == *" trixie "* ]] && [ "$(id -u)" = 0 ] && [ -z "${MATRIX_UNSHARED:-}" ] && unshare --mount true 2>/dev/null; then
    MATRIX_UNSHARED=1 exec unshare --mount --propagation private "$0" "${arguments[@]}"
fi

failed=()

# $1 names the leg, the rest is run.
leg() {
    say "$1"
    shift
    "$@" && return
    failed+=("$name")
    say "$name failed"
}

python_suite() { [ ${#files[@]} -gt 0 ] || "$@"; }

## What this machine has

here() {
    scripts/setup.sh test || return
    mix test --warnings-as-errors "${files[@]}" && python_suite .venv/bin/python -m pytest -q
}

## Debian 13

packages=ca-certificates,elixir,erlang-base,erlang-dev,erlang-crypto,erlang-ssl,erlang-inets,erlang-mnesia,erlang-os-mon
packages+=,erlang-runtime-tools,erlang-tools,erlang-parsetools,erlang-public-key,erlang-asn1,erlang-syntax-tools
packages+=,erlang-xmerl,python3,python3-venv,procps,make,git

trixie_missing() {
    [ -n "${MATRIX_UNSHARED:-}" ] || { echo "root, and unshare"; return; }
    command -v mmdebstrap >/dev/null || [ -e "$root/made" ] || echo mmdebstrap
}

make_root() {
    [ -e "$root/made" ] && return
    say "making $root"
    mkdir -p "$(dirname "$root")" && rm -rf --one-file-system "$root"
    mmdebstrap --quiet --variant=minbase --include="$packages" trixie "$root" || return
    # As this machine reaches its registries: the resolver, certificates, pip's settings.
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null
    [ -e /etc/pip.conf ] && cp /etc/pip.conf "$root/etc/pip.conf"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    touch "$root/made"
}

inside() {
    chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 LC_ALL=C.UTF-8 \
        PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
        bash -c "cd /pyre && $1"
}

trixie() {
    make_root || return
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --make-rslave "$root/dev" || return
    # The sources as they are now; what was built there stays.
    mkdir -p "$root/pyre"
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read 2>/dev/null | tar --extract --directory "$root/pyre" || return
    inside '[ -e .venv/made ] || { python3 -m venv .venv && .venv/bin/python -m pip install -q -r requirements-dev.txt && touch .venv/made; }' || return
    inside "elixir --version | tail -n 1; .venv/bin/python --version; mix test --warnings-as-errors ${files[*]}" || return
    python_suite inside '.venv/bin/python -m pytest -q -W error::DeprecationWarning:pyre'
}

## Other Pythons

others() {
    local own candidate
    own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for candidate in "$HOME"/.pyenv/versions/3.*/bin/python /usr/bin/python3.[0-9][0-9] /usr/local/bin/python3.[0-9][0-9]; do
        "$candidate" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); import ensurepip; print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null
    done | sort -u -k 1,1 | grep -v "^$own "
}

pythons() {
    scripts/setup.sh test || return
    local version python
    while read -r version python; do
        name="Python $version"
        leg "$name" with_python "$version" "$python"
    done < <(others)
}

with_python() {
    local venv=_build/matrix/venv-$1
    if [ ! -e "$venv/made" ]; then
        "$2" -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements-dev.txt || return
        touch "$venv/made"
    fi
    python_suite "$venv/bin/python" -m pytest -q </dev/null
}

for name in "${legs[@]}"; do
    case $name in
        trixie)
            missing=$(trixie_missing)
            if [ -n "$missing" ]; then say "trixie is left out: it needs $missing"; continue; fi
            leg "trixie" trixie
            ;;
        pythons) pythons ;;
        here) leg "here" here ;;
    esac
done

[ ${#failed[@]} = 0 ] || { say "failed: ${failed[*]}"; exit 1; }
say "all green"
