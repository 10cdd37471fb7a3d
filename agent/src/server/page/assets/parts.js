// Parts of views: sections that say what is missing, and lists that several views have.

import { badge, code, h, id, state, table, word } from './dom.js';
import { time, took } from './text.js';

/**
 * A section of what `name` tells: `draw(data)` when it is there, else why it is not. `count(data)` is written beside the title.
 */
export function section(get, title, name, draw, count) {
  const page = get(name);
  const told = page?.data ? draw(page.data) : missing(page, name);
  const counted = page?.data && count ? h('span', { class: 'count' }, count(page.data)) : null;
  return h('section', { data: { key: title }, 'aria-label': title }, h('h2', null, title, counted), told);
}

function missing(page, name) {
  if (!page) return h('p', { class: 'empty loading' }, 'The agent is being asked …');
  const { code: kind, reason, message, next } = page.error;
  return h(
    'p',
    { class: 'trouble' },
    badge('UNKNOWN'),
    ` ${name} can't be had: ${message ?? 'no reason was given'} (${reason ?? kind ?? 'no code'})`,
    next ? [' ', code(next)] : null,
  );
}

/** What is not there, what would fill it, and the command for that. */
export const empty = (text, command) => [text, command ? [' ', code(command)] : null];

export const finding = (one) => [
  badge(one.code),
  ' ',
  one.subject ? [h('code', null, one.subject), ': '] : null,
  one.message,
];

/** Runs, newest first. */
export function runs(rows, redraw) {
  return table(
    {
      name: 'Runs',
      key: (run) => run.id,
      redraw,
      empty: empty('No run is known yet.', 'genesisctl logs rotate --reason TEXT'),
    },
    [
      { label: 'Kind', cell: (run) => run.kind, sort: (run) => run.kind },
      { label: 'State', cell: (run) => state(run.state, 'RUN_STATE_', run.errorCode), sort: (run) => run.state },
      { label: 'Started', cell: (run) => time(run.startedAt), sort: (run) => run.startedAt },
      {
        label: 'Took',
        number: true,
        cell: (run) => took(run.startedAt, run.endedAt),
        sort: (run) => Date.parse(run.endedAt ?? new Date()) - Date.parse(run.startedAt),
      },
      { label: 'By', cell: (run) => run.actor, sort: (run) => run.actor },
      {
        label: 'Outcome',
        words: true,
        cell: (run) => [
          run.summary || progress(run.progress),
          run.reconciliation
            ? ` (${word(run.reconciliation.verdict, 'VERDICT_').toLowerCase()}: ${run.reconciliation.detail})`
            : null,
        ],
      },
      { label: 'Reason', words: true, cell: (run) => run.reason },
      { label: 'Run', cell: (run) => id(run.id) },
    ],
    rows,
  );
}

function progress(it) {
  if (!it || (!it.message && it.done === '0')) return '';
  return `${it.message} ${it.done}${it.total === '0' ? '' : ` of ${it.total}`} ${it.unit}`;
}
