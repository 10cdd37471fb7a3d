// What the agent does: jobs, runs, and the log of all that it did.

import { code, h, id, name, state, table } from './dom.js';
import { empty, runs as runs_table, section } from './parts.js';
import { duration, time, whole } from './text.js';

export const schedule = {
  lead: 'What happens by itself, when it did, and when it will. Times are UTC.',
  commands: ['genesisctl schedule list', 'genesisctl schedule list --next 5'],
  pages: () => ['schedule/status?next=3'],
  draw: (get, { redraw }) =>
    section(
      get,
      'Jobs',
      'schedule/status?next=3',
      (it) => jobs(it.jobs, redraw),
      (it) => `${it.jobs.length}`,
    ),
};

function jobs(rows, redraw) {
  return table(
    { name: 'Jobs', key: (one) => one.name, redraw, empty: empty('There is none.', 'genesisctl schedule list') },
    [
      { label: 'Job', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Schedule', cell: (one) => code(one.schedule), sort: (one) => one.schedule },
      {
        label: 'Next',
        cell: (one) =>
          one.paused
            ? [state('PAUSED', ''), ` by ${one.pausedBy}: ${one.pausedReason}`]
            : one.running
              ? state('RUNNING', '')
              : h('span', { title: one.nextAt.slice(1).join(', ') }, time(one.nextAt[0])),
        sort: (one) => one.nextAt[0] ?? '',
      },
      { label: 'Last outcome', cell: (one) => state(one.lastState, 'RUN_STATE_'), sort: (one) => one.lastState },
      { label: 'Last due', cell: (one) => time(one.lastDueAt), sort: (one) => one.lastDueAt ?? '' },
      { label: 'Last run', cell: (one) => id(one.lastRunId) },
      {
        label: 'What it does',
        words: true,
        cell: (one) => [one.description, one.lastSkip ? ` (last skipped: ${one.lastSkip})` : null],
      },
      { label: 'Splay', number: true, cell: (one) => duration(one.splay) },
      { label: 'Caught up within', number: true, cell: (one) => duration(one.grace) },
      { label: 'In an emergency', cell: (one) => (one.goesOnInEmergency ? 'goes on' : 'waits') },
    ],
    rows,
  );
}

export const runs = {
  lead: 'Long operations, whoever started them, with what became of them, also after a crash.',
  commands: ['genesisctl run list', 'genesisctl run show last'],
  pages: () => ['runs/status?limit=200'],
  draw: (get, { redraw }) =>
    section(
      get,
      'Runs',
      'runs/status?limit=200',
      (it) => runs_table(it.runs, redraw),
      (it) => `the latest ${it.runs.length}`,
    ),
};

// What the filter of the operation log says, as long as the page is open.
let filter = '';

export const oplog = {
  lead: 'Who did what, and why: each entry is hashed together with the one before it.',
  commands: ['genesisctl oplog list', 'genesisctl oplog tail -f', 'genesisctl oplog verify'],
  pages: () => ['oplog/status', 'oplog/entries?limit=200'],
  draw(get, { redraw }) {
    const changed = (event) => {
      filter = event.target.value;
      redraw();
    };
    return [
      section(get, 'Head', 'oplog/status', (it) =>
        h('p', null, `Entry ${whole(it.head?.sequence ?? 0)}, sha256 `, h('code', null, it.head?.hash || '-')),
      ),
      h(
        'section',
        { data: { key: 'filter' }, 'aria-label': 'Filter' },
        h(
          'p',
          { class: 'controls' },
          h(
            'label',
            null,
            'Show entries with ',
            h('input', {
              type: 'search',
              id: 'oplog-filter',
              placeholder: 'actor, action, target, reason …',
              autocomplete: 'off',
              spellcheck: 'false',
              oninput: changed,
            }),
          ),
        ),
      ),
      section(
        get,
        'Entries',
        'oplog/entries?limit=200',
        (it) => entries(it.entries, redraw),
        (it) =>
          filter
            ? `${matching(it.entries).length} of the latest ${it.entries.length}`
            : `the latest ${it.entries.length}`,
      ),
    ];
  },
};

function matching(all) {
  const wanted = filter.trim().toLowerCase();
  if (!wanted) return all;
  return all.filter((one) =>
    [one.actor, one.action, one.target, one.reason, one.outcome, one.detail, one.correlationId].some((text) =>
      text.toLowerCase().includes(wanted),
    ),
  );
}

function entries(all, redraw) {
  return table(
    {
      name: 'Entries',
      key: (one) => one.sequence,
      redraw,
      empty: filter
        ? `None of the latest ${all.length} has ${JSON.stringify(filter)}.`
        : empty('It is empty.', 'genesisctl oplog note TEXT'),
    },
    [
      { label: 'No.', number: true, cell: (one) => one.sequence, sort: (one) => Number(one.sequence) },
      { label: 'At', cell: (one) => time(one.at), sort: (one) => one.at },
      { label: 'Who', cell: (one) => one.actor, sort: (one) => one.actor },
      { label: 'What', cell: (one) => name(one.action), sort: (one) => one.action },
      { label: 'To what', cell: (one) => name(one.target), sort: (one) => one.target },
      {
        label: 'Outcome',
        cell: (one) => state(one.outcome === 'ok' ? 'OK' : one.outcome, ''),
        sort: (one) => one.outcome,
      },
      { label: 'Why', words: true, cell: (one) => one.reason },
      { label: 'Detail', words: true, cell: (one) => one.detail },
      { label: 'Belongs to', cell: (one) => id(one.correlationId) },
    ],
    matching(all),
  );
}
