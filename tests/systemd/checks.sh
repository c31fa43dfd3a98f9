#!/usr/bin/env bash
# Installs the units of examples/systemd as their first lines say, and takes a service through its life. run.sh starts it.
set -Eeuo pipefail

cd /run/repository
export PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin
log=/run/mcp-remote.log
state=/var/lib/mcp-remote
deadline=20

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    systemctl --no-pager --full status 'mcp-remote*' >&2 || true
    cat "$log" >&2
    exit 1
}

trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

expect() {
    [ "$1" = "$2" ] || fail "expected '$2', not '$1': $3"
}

# until COMMAND…: waits until it succeeds.
eventually() {
    local end=$((SECONDS + deadline))
    until "$@"; do
        ((SECONDS < end)) || fail "within $deadline s never true: $*"
        sleep 0.05
    done
}

is() {
    [ "$(systemctl show --property "$2" --value "$1")" = "$3" ]
}

logged() {
    grep -q "$1" "$log"
}

# The processes of the service.
processes() {
    cat "/sys/fs/cgroup/system.slice/$1/cgroup.procs"
}

main_pid() {
    systemctl show --property MainPID --value "$1"
}

# The commands in the first lines of a unit.
install_as_said() {
    local commands
    commands=$(sed -n 's/^#   //p; /^\[Unit\]/q' "examples/systemd/$1")
    [ -n "$commands" ] || fail "$1 does not say how to install it"
    # The checks start the service themselves, and the units share one user.
    id mcp-remote >/dev/null 2>&1 && commands=$(grep -v '^useradd' <<<"$commands")
    grep -v '^systemctl' <<<"$commands" >/run/install
    bash -euo pipefail /run/install
}

# The log of the service where the checks can read it, and less patience than people have.
drop_in() {
    mkdir -p "/etc/systemd/system/$1.d"
    printf '[Service]\nStandardOutput=append:%s\nStandardError=append:%s\nWatchdogSec=3s\n' "$log" "$log" >"/etc/systemd/system/$1.d/checks.conf"
}

# ask ROLE METHOD [CLIENT…]: the answer to one request.
ask() {
    local role=$1 method=$2
    shift 2
    [ $# -gt 0 ] || set -- tcp --port 8080
    MCP_REMOTE_JWT_TOKEN=$(mcp-remote generate-token --jwt-secret-file /etc/mcp-remote/jwt-secret --user me --roles "$role" --quiet) \
        mcp-remote client "$@" <<<"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"$method\"}" 2>/run/client.log ||
        fail "no answer to $method: $(cat /run/client.log)"
}

passes() {
    [[ $(ask "$@") == *'"result"'* ]]
}

# An MCP server that answers as soon as it is let.
cat >/usr/local/bin/your-mcp-server <<'SERVER'
#!/bin/sh
until [ -e "$1/go" ]; do sleep 0.05; done
exec /usr/local/bin/notes "$1/notes"
SERVER
chmod +x /usr/local/bin/your-mcp-server
: >"$log"
unit=mcp-remote.service
install_as_said "$unit"
drop_in "$unit"
systemctl daemon-reload

# Started is what answers.
systemctl enable --quiet "$unit"
systemctl start --no-block "$unit"
eventually logged 'listening on port 8080'
expect "$(systemctl show --property ActiveState --value "$unit")" activating 'its MCP server has not answered'
touch "$state/go"
eventually is "$unit" ActiveState active
passes user tools/list || fail 'an allowed method'
passes nobody tools/list && fail 'a role without permissions may list tools'

# It is locked in, and the MCP server with it.
pid=$(main_pid "$unit")
for process in $(processes "$unit"); do
    for line in 'NoNewPrivs:.*1' 'Seccomp:.*2' 'CapBnd:.*0000000000000000' "Uid:.*$(id -u mcp-remote)"; do
        grep -q "^$line" "/proc/$process/status" || fail "$(cat "/proc/$process/comm"): $line"
    done
    tr '\0' '\n' <"/proc/$process/environ" | grep -qF "$(cat /etc/mcp-remote/jwt-secret)" && fail 'the secret is in an environment'
done
processes "$unit" | grep -qv "^$pid$" || fail 'there is no MCP server'
[ -s /var/log/mcp-remote/audit.jsonl ] || fail 'there is no audit log'

# A reload reads the policy again, and ends nothing.
sed -i 's#"tools/list"#"tools/none"#; s#"tools/\*"#"tools/none"#' /etc/mcp-remote/permissions.json
systemctl reload "$unit"
eventually logged 'reloaded'
passes user tools/list && fail 'the policy of before holds'
expect "$(main_pid "$unit")" "$pid" 'the process of before goes on'
install -g mcp-remote -m 640 permissions.example.json /etc/mcp-remote/permissions.json
systemctl reload "$unit"
eventually passes user tools/list

# What says nothing any more is ended, and started again.
kill -STOP "$pid"
eventually is "$unit" NRestarts 1
eventually is "$unit" ActiveState active
[ "$(main_pid "$unit")" != "$pid" ] || fail 'the process that hangs goes on'
passes user tools/list || fail 'an allowed method after the restart'

# A stop is no failure, and leaves nothing.
systemctl stop "$unit"
expect "$(systemctl show --property Result --value "$unit")" success 'stopped'
expect "$(systemctl show --property ExecMainStatus --value "$unit")" 0 'stopped'
[ ! -e "/sys/fs/cgroup/system.slice/$unit" ] || [ -z "$(processes "$unit")" ] || fail 'processes are left'

# A command line that is wrong stays wrong.
echo '{}' >/etc/mcp-remote/permissions.json
systemctl start "$unit" 2>/dev/null && fail 'it starts with a policy that is none'
expect "$(systemctl show --property ExecMainStatus --value "$unit")" 2 'a wrong policy'
eventually is "$unit" ActiveState failed
expect "$(systemctl show --property NRestarts --value "$unit")" 0 'a wrong policy'
install -g mcp-remote -m 640 permissions.example.json /etc/mcp-remote/permissions.json
systemctl reset-failed "$unit"

# The sockets are there before the service, which the first peer starts.
install_as_said mcp-remote.socket
systemctl daemon-reload
systemctl start mcp-remote.socket
is "$unit" ActiveState inactive || fail 'the sockets have started the service'
passes user tools/list || fail 'over the socket of systemd'
passes user tools/list unix --path /run/mcp-remote.sock || fail 'over the Unix socket of systemd'
is "$unit" ActiveState active || fail 'the first peer has not started the service'
expect "$(stat -c '%U %a' /run/mcp-remote.sock)" 'mcp-remote 600' 'the socket is for one user'
systemctl stop mcp-remote.socket "$unit"

# The variant for Node.js: a server that its compiler at run time serves, found by npx.
node=mcp-remote-node.service
cat >/usr/bin/npx <<'NPX'
#!/bin/sh
[ -w "$HOME" ] && exec node /run/server.js
NPX
cat >/run/server.js <<'SERVER'
// The functions are called often enough to be compiled.
const fib = n => (n < 2 ? n : fib(n - 1) + fib(n - 2));
fib(27);
require('readline').createInterface({ input: process.stdin }).on('line', line => {
  const { id, method } = JSON.parse(line);
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: { method, tools: [] } }));
});
SERVER
install_as_said "$node"
drop_in "$node"
systemctl daemon-reload
systemctl start "$node"
passes user tools/list || fail 'an MCP server on Node.js'
systemctl reload "$node"
systemctl stop "$node"
expect "$(systemctl show --property Result --value "$node")" success 'the variant for Node.js'

printf 'systemd: all passed\n'
