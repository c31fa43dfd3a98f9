// An MCP server that answers everything and writes down what it parsed, one JSON line per message.
//
// Reads as Node servers do: `readline`, which ends lines at a bare CR, U+2028 and U+2029, too, and
// `JSON.parse`.
'use strict';

const fs = require('node:fs');
const readline = require('node:readline');

const file = fs.openSync(process.argv[2], 'a');

function member(value, name) {
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  return isObject && Object.hasOwn(value, name) ? value[name] : undefined;
}

function plain(value) {
  if (typeof value === 'string') return value.toWellFormed();
  return Number.isInteger(value) ? value : null;
}

function record(value, message) {
  const params = member(message, 'params');
  const meta = member(params, '_meta');
  const method = plain(member(message, 'method'));
  const seen = {
    object: !Array.isArray(value) && value !== null && typeof value === 'object',
    answer: (member(message, 'result') ?? member(message, 'error')) !== undefined,
    method,
    id: plain(member(message, 'id')),
    name: plain(member(params, 'name')),
    uri: plain(member(params, 'uri')),
    requestId: plain(member(params, 'requestId')),
    taskId: plain(member(params, 'taskId')),
    progressToken: plain(member(meta, 'progressToken')),
  };
  fs.writeSync(file, JSON.stringify(seen) + '\n');
  const id = member(message, 'id');
  if (method !== null && id !== undefined && id !== null) {
    const outcome = method === 'server/discover'
      ? { error: { code: -32601, message: 'Method not found' } }
      : { result: { method } };
    process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, ...outcome }) + '\n');
  }
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (line.trim() === '') return;
  let value;
  try {
    value = JSON.parse(line);
  } catch {
    process.stderr.write('recorder: not JSON\n');
    return;
  }
  for (const message of Array.isArray(value) ? value : [value]) record(value, message);
});
