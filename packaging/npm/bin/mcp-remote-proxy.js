#!/usr/bin/env node
// Starts the binary of this platform, which is in a package of its own. It is not called mcp-remote: that is
// the program of another npm package.
'use strict';

const { spawn } = require('node:child_process');
const { constants } = require('node:os');

const name = `mcp-remote-proxy-${process.platform}-${process.arch}`;
let binary;
try {
  binary = require.resolve(`${name}/bin/mcp-remote`);
} catch {
  console.error(`error: there is no ${name} beside mcp-remote-proxy; was it installed without optional dependencies, or is this platform not supported?`);
  process.exit(1);
}

const child = spawn(binary, process.argv.slice(2), { stdio: 'inherit' });
child.on('error', (err) => {
  console.error(`error: could not start ${binary}: ${err.message}`);
  process.exit(1);
});
// Whoever started us knows our process, and not that one.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => child.kill(signal));
}
child.on('exit', (code, signal) => process.exit(signal ? 128 + constants.signals[signal] : code));
