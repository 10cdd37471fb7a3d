// Serves the page's files from the source tree, so that they can be worked at without building the agent:
//
//   node tests/browser/dev.mjs http://127.0.0.1:7480 [PORT]
//
// What is not a file of the page comes from the agent at that address. The agent's templates are rendered here by a few
// lines that know what they use of askama.

import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { fileURLToPath } from 'node:url';

const [agent, port = '7490'] = process.argv.slice(2);
if (!agent) {
  console.error('usage: node dev.mjs AGENT_URL [PORT]');
  process.exit(2);
}
const assets = fileURLToPath(new URL('../../agent/src/server/page/assets/', import.meta.url));
const elsewhere = { 'uplot.js': 'vendor/uplot/uPlot.iife.min.js', 'uplot.css': 'vendor/uplot/uPlot.min.css' };
const kinds = { css: 'text/css', html: 'text/html', js: 'text/javascript', svg: 'image/svg+xml' };
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'none'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text).replace(/[&<>"']/g, (one) => escapes[one]);

/** The nodes up to the tag that ends them. */
function parse(parts, ends = []) {
  const nodes = [];
  while (parts.length > 0) {
    const part = parts.shift();
    const print = /^\{\{\s*(.*?)\s*\}\}$/s.exec(part)?.[1];
    const tag = /^\{%\s*(.*?)\s*%\}$/s.exec(part)?.[1];
    if (ends.includes(tag)) return { nodes, end: tag };
    const [word, ...rest] = (tag ?? '').split(' ');
    if (print) nodes.push({ print });
    else if (tag === undefined) nodes.push({ text: part });
    else if (word === 'include') nodes.push({ include: JSON.parse(rest[0]) });
    else if (word === 'if' || word === 'for') {
      const first = parse(parts, ['else', `end${word}`]);
      const second = first.end === 'else' ? parse(parts, [`end${word}`]).nodes : [];
      nodes.push({ [word]: rest, first: first.nodes, second });
    } else if (!word.endsWith('block')) throw new Error(`{% ${tag} %} is not known here`);
  }
  return { nodes };
}

const value = (text, scope) =>
  new Function('scope', `with (scope) return (${text.replace(/(.*)\|lower$/, 'String($1).toLowerCase()')})`)(scope);

/** What the template `name` is with these variables. */
async function render(name, variables) {
  const text = await readFile(`${assets}${name}`, 'utf8');
  const write = async (nodes, scope) => {
    const out = [];
    for (const node of nodes) {
      if (node.text !== undefined) out.push(node.text);
      else if (node.print) out.push(escape(value(node.print, scope)));
      else if (node.include) out.push(await render(node.include, scope));
      else if (node.if) out.push(await write(value(node.if.join(' '), scope) ? node.first : node.second, scope));
      else {
        const all = value(node.for[2], scope);
        for (const one of all) out.push(await write(node.first, { ...scope, [node.for[0]]: one }));
        if (all.length === 0) out.push(await write(node.second, scope));
      }
    }
    return out.join('');
  };
  return write(parse(text.split(/(\{\{.*?\}\}|\{%.*?%\})/s)).nodes, variables);
}

async function variables() {
  const get = async (path) => (await fetch(`${agent}/api/operations/${path}`)).json();
  const [status, health, alerts, held] = await Promise.all(
    ['agent/status', 'health/status', 'alerts/list', 'certificates/status'].map(get),
  );
  const word = (value, prefix) =>
    String(value ?? '')
      .replace(prefix, '')
      .replaceAll('_', ' ');
  const second = (value) => (value ? value.replace(/\.\d+Z/, 'Z') : '-');
  const share = (value) => `${(Math.floor(value * 1e4) / 100).toFixed(2)} %`;
  const count = (name) => health.checks.filter((one) => one.condition === `CONDITION_${name}`).length;
  return {
    host: status.hostname,
    host_id: status.hostId,
    version: status.version,
    condition: word(status.condition, 'CONDITION_'),
    at: second(status.now),
    up: `${Math.round((Date.parse(status.now) - Date.parse(status.startedAt)) / 60_000)}m`,
    fleet: status.fleet,
    emergency: status.emergency,
    runs_active: status.runsActive,
    failed_24h: status.runsFailed,
    domains: status.domains.map((one) => ({
      name: one.domain,
      condition: word(one.condition, 'CONDITION_'),
      summary: one.summary,
    })),
    checks: { ok: count('OK'), warn: count('WARN'), critical: count('CRITICAL'), unknown: count('UNKNOWN') },
    issues: health.issues.map((one) => ({
      id: one.id,
      state: word(one.state, 'ISSUE_STATE_'),
      severity: word(one.severity, 'SEVERITY_'),
      since: second(one.since),
      detail: one.detail,
    })),
    incidents: health.incidents.map((one) => ({
      id: one.id,
      severity: one.severity,
      title: one.title,
      opened: second(one.openedAt),
    })),
    alerts: alerts.alerts.map((one) => ({
      id: one.id,
      severity: word(one.severity, 'SEVERITY_'),
      state: word(one.state, 'ALERT_STATE_'),
      subject: one.subject,
      title: one.title,
      since: second(one.since),
    })),
    objectives: health.objectives.map((one) => ({
      name: one.name,
      goal: share(one.goal),
      success: one.success === undefined ? 'no data' : share(one.success),
      met: one.success === undefined ? 'unknown' : one.success >= one.goal ? 'yes' : 'no',
      counted: Number(one.succeeded) + Number(one.failed),
    })),
    certificates: held.certificates.map((one) => ({
      name: one.name,
      days_left: one.left ? String(Math.floor(parseFloat(one.left) / 86_400)) : 'unknown',
      state: word(one.state, 'CERTIFICATE_STATE_'),
    })),
  };
}

createServer(async (incoming, answer) => {
  const path = new URL(incoming.url, agent).pathname;
  try {
    const name = /^\/assets\/([\w.-]+)$/.exec(path)?.[1];
    const page = { '/': 'page.html', '/overview': 'overview.html' }[path];
    if (!name && !page) {
      const pass = request(
        new URL(incoming.url, agent),
        { method: incoming.method, headers: { accept: incoming.headers.accept ?? '*/*' } },
        (from) => {
          answer.writeHead(from.statusCode, from.headers);
          from.pipe(answer);
        },
      );
      pass.on('error', () => answer.destroy());
      answer.on('close', () => pass.destroy());
      pass.end();
      return;
    }
    const text = page ? await render(page, await variables()) : await readFile(`${assets}${elsewhere[name] ?? name}`);
    const kind = kinds[(page ?? name).split('.').pop()];
    answer.writeHead(200, {
      'content-type': `${kind}; charset=utf-8`,
      'content-security-policy': policy,
      'cache-control': 'no-store',
    });
    answer.end(text);
  } catch (error) {
    answer.writeHead(error.code === 'ENOENT' ? 404 : 502, { 'content-type': 'text/plain' });
    answer.end(String(error));
  }
}).listen(Number(port), '127.0.0.1', () => console.log(`http://127.0.0.1:${port}/`));
