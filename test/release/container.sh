#!/bin/bash
# Builds the container's image without a Docker engine, and runs what is in it, as Docker would: read-only agents, another user,
# SIGTERM. Needs root, buildah and mmdebstrap; where they are missing it says so, and ends with 0.

set -u
cd "$(dirname "$0")/../.." || exit 1

for tool in buildah mmdebstrap; do
    command -v $tool >/dev/null || { echo "container: left out, $tool is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "container: left out, it needs root"; exit 0; }

work=$(mktemp -d)
container=
buildah() { command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
cleanup() {
    [ -n "$container" ] && buildah rm "$container" >/dev/null 2>&1
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    echo "container: $*" >&2
    [ -f "$work/log" ] && tail -n 30 "$work/log" >&2
    exit 1
}

# The base image, as Debian's own is made; with the certificates and sources of this machine, which may be behind a mirror.
mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/base.tar" >"$work/log" 2>&1 || fail "no base image"
base=$(buildah from scratch) || fail "no empty image"
buildah add -q "$base" "$work/base.tar" / >/dev/null || fail "the base can't be unpacked"
for file in /etc/resolv.conf /etc/apt/apt.conf.d /etc/apt/sources.list /etc/apt/sources.list.d /etc/pip.conf /usr/local/share/ca-certificates; do
    [ -e "$file" ] && buildah copy -q "$base" "$file" "$file" >/dev/null
done
buildah run --isolation chroot "$base" -- update-ca-certificates >/dev/null 2>&1
buildah commit -q "$base" base >/dev/null && buildah rm "$base" >/dev/null || fail "the base can't be kept"

settings=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PIP_INDEX_URL PIP_CERT; do
    [ -n "${!name:-}" ] && settings+=(--build-arg "$name=${!name}" --env "$name=${!name}")
done
buildah bud --isolation chroot --pull-never --format docker --build-arg BASE=localhost/base "${settings[@]}" -t pyre . >"$work/log" 2>&1 ||
    fail "it does not build"

container=$(buildah from --pull-never localhost/pyre) || fail "there is no image"
root=$(buildah mount "$container") || fail "the image can't be mounted"
mkdir -p "$root/proc" "$root/dev"
cp priv/python/examples/hello/*.py "$root/agents/"
buildah run --isolation chroot "$container" -- tini -- bin/pyre start >"$work/log" 2>&1 &
node=$!
for _try in $(seq 60); do
    buildah run --isolation chroot "$container" -- bin/pyre ctl health >/dev/null 2>&1 && ready=yes && break
    read -r -t 0.5 <> <(:) || true
done
[ "${ready:-}" = yes ] || fail "it does not become ready"
user=$(buildah run --isolation chroot "$container" -- id -u)
[ "$user" = 1000 ] || fail "it runs as user $user"
buildah run --isolation chroot "$container" -- bin/pyre ctl stop || fail "it can't be stopped"
wait "$node" || fail "it ended with status $?"
echo "container: built, ran as user 1000, healthy, stopped"
