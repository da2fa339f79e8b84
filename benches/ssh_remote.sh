#!/bin/sh
# Syncs and mounts from a real sshd on the loopback, and says what an unknown host, a missing key and a stopped server come to.
# Needs root and Debian's openssh-server. Usage: benches/ssh_remote.sh [PROGRAM]; the program defaults to target/release/overlayfs-mount.
set -eu
program=$(realpath "${1:-$(dirname "$0")/../target/release/overlayfs-mount}")
top=$(mktemp -d)
cd "$top"
finish() {
    "$program" unmount view 2>/dev/null || true
    kill "$(cat pid)" 2>/dev/null || true
    cd /
    rm -r "$top"
}
trap finish EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 OVERLAYFS_MOUNT_RUN_DIR="$top/run"
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f $key; done
cp user.pub authorized
mkdir -p /run/sshd
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf '%s\n' "Port $port" 'ListenAddress 127.0.0.1' "HostKey $top/host" "AuthorizedKeysFile $top/authorized" "PidFile $top/pid" \
    'StrictModes no' 'UsePAM no' 'PasswordAuthentication no' "SetEnv PATH=$PATH" >sshd_config
/usr/sbin/sshd -f sshd_config -E sshd.log
git init -q -b main base
push() {
    mkdir -p base/.agents/skills/review
    echo "$1" >base/.agents/skills/review/SKILL.md
    git -C base add -A
    git -C base -c user.name=t -c user.email=t@localhost commit -q -m "$1"
}
push one
printf '%s\n' "overlays: {sources: [{repo: acme/base, ref: main, url: 'ssh://$(id -un)@127.0.0.1:$port$top/base'}]}" \
    'repoCache: {path: repos}' 'state: {dir: state}' 'mount: {at: view}' >overlays.yaml

expect() { # text, status, command: the command ends so and says this
    text=$1 status=$2 && shift 2
    code=0
    said=$("$@" 2>&1) || code=$?
    case "$code $said" in
    "$status "*"$text"*) echo "ok: $text" ;;
    *) echo "expected $status and \`$text\`, not $code: $said" && exit 1 ;;
    esac
}
ssh() { export GIT_SSH_COMMAND="ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=$top/known -i $top/$1"; }
ssh user
expect 'ssh does not know the host' 1 "$program" sync --once
ssh-keyscan -p "$port" 127.0.0.1 >known 2>/dev/null
ssh absent
expect 'ssh keys' 1 "$program" sync --once
ssh user
expect 'cloned at' 0 "$program" sync --once
expect '' 0 "$program" mount --sync
expect one 0 cat view/.agents/skills/review/SKILL.md
push two
expect '' 0 "$program" reload view
expect two 0 cat view/.agents/skills/review/SKILL.md
kill "$(cat pid)"
while kill -0 "$(cat pid 2>/dev/null || echo 0)" 2>/dev/null && [ -e pid ]; do :; done
expect '' 0 "$program" reload view
expect 'cannot be reached' 0 "$program" status view
expect two 0 cat view/.agents/skills/review/SKILL.md
