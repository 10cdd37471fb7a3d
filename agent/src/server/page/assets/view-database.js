// Databases: their care, and their backups.

import { code, details, h, id, list, state, table, truth, word } from './dom.js';
import { empty, finding, section } from './parts.js';
import { bytes, duration, time, took } from './text.js';

export const database = {
  lead: 'Each database is cared for in its window, when nothing speaks against it. A backup counts once it was restored and asked.',
  commands: ['genesisctl db list', 'genesisctl db history', 'genesisctl backup list'],
  pages: () => ['database/status', 'database/history', 'backup/status'],
  draw(get, { redraw }) {
    return [
      section(
        get,
        'Databases',
        'database/status',
        (it) => databases(it.databases, redraw),
        (it) => `${it.databases.length}`,
      ),
      section(
        get,
        'Sources of backups',
        'backup/status',
        (it) => sources(it.sources, redraw),
        (it) => `${it.sources.length}`,
      ),
      section(
        get,
        'Care',
        'database/history',
        (it) => cares(it.care, redraw),
        (it) => `the latest ${it.care.length}`,
      ),
      section(
        get,
        'Backups',
        'backup/status',
        (it) => backups(it.backups, redraw),
        (it) => `the latest ${it.backups.length}`,
      ),
    ];
  },
};

const engine = (one) => ({ ENGINE_POSTGRES: 'PostgreSQL', ENGINE_SQLITE: 'SQLite' })[one.engine] ?? 'own';
const level = (value) =>
  ({
    BACKUP_LEVEL_RECORDED: 'L0 recorded',
    BACKUP_LEVEL_CHECKSUMS: 'L1 checksums',
    BACKUP_LEVEL_RESTORED: 'L2 restored',
    BACKUP_LEVEL_QUERIED: 'L3 queried',
  })[value] ?? 'none';

function databases(rows, redraw) {
  return table(
    {
      name: 'Databases',
      key: (one) => one.name,
      redraw,
      empty: empty(
        'None is configured: a [[database.instance]] in the configuration names one.',
        'genesis-agent example-config',
      ),
    },
    [
      { label: 'Database', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Engine', cell: engine },
      {
        label: 'Last care',
        cell: (one) =>
          one.runId
            ? state('RUNNING', '')
            : one.last
              ? [state(one.last.outcome, 'CARE_OUTCOME_'), ' ', time(one.last.endedAt)]
              : 'never',
      },
      { label: 'Freed', number: true, cell: (one) => bytes(one.last?.bytesFreed) },
      { label: 'Next', cell: (one) => time(one.nextAt), sort: (one) => one.nextAt ?? '' },
      { label: 'Schedule', cell: (one) => [code(one.schedule), `, ${duration(one.window)}`] },
      { label: 'Findings', words: true, cell: (one) => one.last?.findings.map((it) => [finding(it), ' ']) },
      { label: 'Where', words: true, cell: (one) => code(one.place) },
    ],
    rows,
  );
}

function cares(rows, redraw) {
  return table(
    {
      name: 'Care',
      key: (one) => one.runId,
      redraw,
      empty: empty('None was cared for yet.', 'genesisctl db optimize --database NAME --plan'),
    },
    [
      { label: 'Database', cell: (one) => one.database, sort: (one) => one.database },
      { label: 'Outcome', cell: (one) => state(one.outcome, 'CARE_OUTCOME_'), sort: (one) => one.outcome },
      { label: 'Began', cell: (one) => time(one.startedAt), sort: (one) => one.startedAt },
      { label: 'Took', number: true, cell: (one) => took(one.startedAt, one.endedAt) },
      { label: 'Freed', number: true, cell: (one) => bytes(one.bytesFreed), sort: (one) => Number(one.bytesFreed) },
      { label: 'What was done', words: true, cell: (one) => steps(one) },
      {
        label: 'Findings',
        words: true,
        cell: (one) => (one.findings.length > 0 ? list(one.findings.map(finding)) : '-'),
      },
      { label: 'By', cell: (one) => one.actor },
      { label: 'Run', cell: (one) => id(one.runId) },
    ],
    rows,
  );
}

function steps(care) {
  const done = care.steps.filter((one) => one.outcome === 'done').length;
  const size = (one) =>
    one.bytesBefore === one.bytesAfter ? null : ` ${bytes(one.bytesBefore)} → ${bytes(one.bytesAfter)}`;
  return [
    `${done} of ${care.steps.length} step(s) done`,
    details(
      `care-${care.runId}`,
      'each of them',
      h('h3', null, 'Before'),
      list(
        care.preflight.map((one) => [
          truth(one.truth),
          ` ${one.name}: ${one.value}, ${one.limit}`,
          one.overridden ? ' (overridden)' : null,
        ]),
      ),
      h('h3', null, 'Steps'),
      list(
        care.steps.map((one) => [
          state(one.outcome.toUpperCase(), ''),
          ` ${one.action} `,
          code(one.target),
          `${size(one) ?? ''} in ${duration(one.took)}`,
          one.detail ? `: ${one.detail}` : null,
        ]),
      ),
      h('h3', null, 'After'),
      list(care.verification.map((one) => [truth(one.truth), ` ${one.name}: ${one.value}`])),
    ),
  ];
}

function sources(rows, redraw) {
  return table(
    {
      name: 'Sources of backups',
      key: (one) => one.name,
      redraw,
      empty: empty('There is none.', 'genesisctl backup list'),
    },
    [
      { label: 'Source', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Verified', cell: (one) => truth(one.verified), sort: (one) => one.verified },
      {
        label: 'Newest that is',
        cell: (one) => (one.newestVerified ? time(one.newestVerified.startedAt) : 'none'),
        sort: (one) => one.newestVerified?.startedAt ?? '',
      },
      { label: 'Level', cell: (one) => level(one.newestVerified?.level) },
      { label: 'Asked for', cell: (one) => `${level(one.minLevel)}, ${duration(one.maxAge)} at most` },
      { label: 'Next', cell: (one) => time(one.nextAt), sort: (one) => one.nextAt ?? '' },
      { label: 'Tool', cell: (one) => one.tool },
      { label: 'Engine', cell: engine },
      { label: 'Evidence', words: true, cell: (one) => one.evidence },
    ],
    rows,
  );
}

function backups(rows, redraw) {
  return table(
    {
      name: 'Backups',
      key: (one) => one.id,
      redraw,
      empty: empty('None was made yet.', 'genesisctl backup run SOURCE --reason TEXT'),
    },
    [
      { label: 'Of', cell: (one) => one.source, sort: (one) => one.source },
      { label: 'State', cell: (one) => state(one.state, 'BACKUP_STATE_'), sort: (one) => one.state },
      { label: 'Level', cell: (one) => level(one.level), sort: (one) => one.level },
      { label: 'Made', cell: (one) => time(one.startedAt), sort: (one) => one.startedAt },
      { label: 'Size', number: true, cell: (one) => bytes(one.bytes), sort: (one) => Number(one.bytes) },
      { label: 'Verified', cell: (one) => time(one.verifiedAt), sort: (one) => one.verifiedAt ?? '' },
      { label: 'What verifying said', words: true, cell: (one) => one.detail },
      { label: 'Tool', cell: (one) => word(one.tool, '') },
      { label: 'Backup', cell: (one) => id(one.id) },
    ],
    rows,
  );
}
