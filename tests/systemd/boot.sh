#!/usr/bin/env bash
# Becomes systemd, as the first process of namespaces of its own that run.sh has made: boot.sh REPOSITORY BINARIES. What it
# changes is gone with them. The units of this machine are hidden, those that ours name are there and do nothing.
set -euo pipefail

repository=$1 binaries=$2
mount -t tmpfs tmpfs /run
umount --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for folder in etc usr var; do
    mkdir -p "/run/changes/$folder/upper" "/run/changes/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=/run/changes/$folder/upper,workdir=/run/changes/$folder/work" "/$folder"
done
mount -t tmpfs tmpfs /usr/lib/systemd/system
mount -t tmpfs tmpfs /etc/systemd/system
for target in sysinit basic sockets multi-user network-online network shutdown umount; do
    printf '[Unit]\nDescription=%s\n' "$target" >"/usr/lib/systemd/system/$target.target"
done
install "$binaries/mcp-remote" /usr/local/bin/mcp-remote
install "$binaries/examples/notes_server" /usr/local/bin/notes
mkdir /run/repository
mount --bind "$repository" /run/repository
# Credentials come from a namespace that systemd makes for them, and have to arrive in the one of the services.
mount --make-rshared /

export container=other
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --log-level=notice --show-status=no
