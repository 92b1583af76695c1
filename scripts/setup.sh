#!/bin/bash
# Installs what is missing, and only that: system packages through apt, Python packages into .venv.
#
#   scripts/setup.sh run      what `make run` needs: Elixir, a Python, the runtime's Python packages
#   scripts/setup.sh test     also pytest and the other tools
#   scripts/setup.sh check    also dialyzer
#
# An Elixir and a Python that are there already (asdf, mise, a container) are used as they are. What was found good is
# noted in .venv, so that the next call costs nothing. PYTHON=path names the interpreter for the virtual environment.

set -u
cd "$(dirname "$0")/.." || exit 1

level=${1:-check}
case $level in
    run) requirements=priv/python/requirements.txt ;;
    test | check) requirements=requirements-dev.txt ;;
    *) echo "usage: scripts/setup.sh run | test | check" >&2; exit 64 ;;
esac

venv_python=.venv/bin/python
by_hand="Elixir 1.14 or newer on OTP 25 or newer and Python 3.11 or newer with venv (Debian: apt-get install elixir \
erlang-dialyzer python3-venv; elsewhere: asdf or mise), then run this again"

say() { echo "setup: $*"; }
give_up() { echo "setup: $*" >&2; exit 1; }

## What is there

good_elixir() {
    command -v mix >/dev/null && elixir -e '
        otp = String.to_integer(System.otp_release())
        if otp < 25 or Version.compare(System.version(), "1.14.0") == :lt, do: System.halt(1)
    ' >/dev/null 2>&1
}

has_module() { elixir -e "Code.ensure_loaded?(:$1) || System.halt(1)" >/dev/null 2>&1; }

# Only Debian's OTP sees Debian's libraries.
debian_otp() { dpkg -S "$(readlink -f "$(command -v erl)")" >/dev/null 2>&1; }

# Run, not looked at: `python3` may be a shim that leads nowhere, and Debian's has no ensurepip without python3-venv.
good_python() {
    "$1" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); import asyncio, ctypes, ensurepip, venv' \
        >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
        good_python "$candidate" && echo "$candidate" && return
    done
    return 1
}

good_venv() { "$venv_python" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); import pip' >/dev/null 2>&1; }

## The stamp

# One stamp a level, which changes with what is asked for.
wanted=$(cat requirements-dev.txt priv/python/requirements.txt | sha256sum | cut -c 1-16)

# Each level holds those before it.
case $level in
    run) enough="run test check" ;;
    test) enough="test check" ;;
    check) enough=check ;;
esac

done_before() {
    [ -x "$venv_python" ] && command -v mix >/dev/null || return 1
    local earlier
    for earlier in $enough; do
        [ -f ".venv/setup-$earlier-$wanted" ] && return
    done
    return 1
}

note_done() {
    rm -f ".venv/setup-$level-"*
    touch ".venv/setup-$level-$wanted"
}

## System packages

missing_packages() {
    good_elixir || echo elixir
    good_venv || find_python >/dev/null || echo python3-venv
    if [ "$level" = check ]; then has_module dialyzer || echo erlang-dialyzer; fi
}

# On a terminal sudo may ask for the password; elsewhere it must not wait for one.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
}

can_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }

install_packages() {
    can_install || give_up "$* must be installed, which needs apt and root or sudo; or install $by_hand"
    say "installing $* with apt"

    local output
    output=$(apt update 2>&1 && apt install -y --no-install-recommends "$@" 2>&1) && return
    case $output in
        *"not resolve"* | *"Failed to fetch"* | *"Could not connect"*)
            give_up "apt could not fetch $*: there seems to be no network; connect, then run this again" ;;
    esac
    printf '%s\n' "$output" | tail -n 5 >&2
    give_up "apt could not install $*; install $by_hand"
}

# Property tests are skipped where PropEr is missing, so nothing fails without it.
install_proper() {
    [ "$level" != run ] && debian_otp && ! has_module proper && can_install || return 0
    (install_packages erlang-proper) || say "going on without PropEr"
}

has_headers() {
    "$venv_python" -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null
}

# For the codec in C, which may be missing: the one in Python serves as well, and its tests are skipped.
install_compiler() {
    [ "$level" != run ] && can_install || return 0
    command -v cc gcc >/dev/null || (install_packages gcc libc6-dev) || say "going on without a C compiler"
    has_headers || (install_packages python3-dev) || say "going on without the headers of Python"
}

install_required() {
    local missing
    missing=$(missing_packages)
    [ -z "$missing" ] && return

    # Unquoted: one word a package.
    install_packages $missing
    missing=$(missing_packages)
    [ -z "$missing" ] || give_up "the $missing that apt has is too old or is hidden by another in PATH; install $by_hand"
}

## Python packages

make_venv() {
    good_venv && return
    local python
    python=$(find_python)
    say "making .venv with $("$python" -V)"
    rm -rf .venv
    "$python" -m venv .venv || give_up "$python could not make .venv"
}

install_python() {
    make_venv

    local output
    say "installing $requirements into .venv"
    output=$("$venv_python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" 2>&1) && return
    case $output in
        *"name resolution"* | *NewConnectionError* | *"Network is unreachable"* | *ConnectTimeoutError* | *"timed out"*)
            give_up "pip reached no package index: there seems to be no network; connect, then run this again" ;;
    esac
    printf '%s\n' "$output" | tail -n 5 >&2
    give_up "pip could not install $requirements"
}

done_before && exit 0
install_required
install_proper
install_python
install_compiler
note_done
