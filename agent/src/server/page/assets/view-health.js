// Health: what checks see, what is done about it, and what holds that back.

import { badge, code, condition, details, facts, h, id, link, list, state, table, word } from './dom.js';
import { empty, section } from './parts.js';
import { digits, duration, percent, time, took, whole } from './text.js';

const ISSUE = 'ISSUE_STATE_';

export const health = {
  lead: 'What the checks of this host see, which issues come of that, what is done about them by itself, and what holds it back.',
  commands: ['genesisctl health dashboard', 'genesisctl health explain CHECK'],
  pages: (check) => [
    'health/status',
    'health/history?limit=100',
    'health/remediation',
    ...(check ? [`health/issue?issue=${encodeURIComponent(check)}`] : []),
  ],
  draw(get, { argument, redraw, show }) {
    return [
      section(get, 'Automation', 'health/status', automation),
      section(
        get,
        'Checks',
        'health/status',
        (it) => checks(it, argument, redraw, show),
        (it) => `${it.checks.length}`,
      ),
      argument
        ? section(get, `Why ${argument} is as it is`, `health/issue?issue=${encodeURIComponent(argument)}`, (it) =>
            explained(it, show),
          )
        : null,
      section(
        get,
        'Open issues',
        'health/status',
        (it) => issues('Open issues', it.issues, redraw, show, empty('None is open.', 'genesisctl health history')),
        (it) => `${it.issues.length}`,
      ),
      section(
        get,
        'Attempts to mend',
        'health/history?limit=100',
        (it) => attempts(it.attempts, redraw),
        (it) => `the latest ${it.attempts.length}`,
      ),
      section(get, 'Issues of the past', 'health/history?limit=100', (it) =>
        issues(
          'Issues of the past',
          it.issues.filter((one) => one.state === 'ISSUE_STATE_RESOLVED'),
          redraw,
          show,
          empty('None is over yet. A check that turns bad for long enough opens one.', 'genesisctl health check'),
        ),
      ),
      section(
        get,
        'Incidents',
        'health/status',
        (it) => incidents(it.incidents),
        (it) => `${it.incidents.length} open`,
      ),
      section(get, 'What is done by itself', 'health/remediation', (it) => remediation(it, redraw)),
      section(get, 'Objectives, 30 days', 'health/status', (it) => objectives(it.objectives)),
    ];
  },
};

const HOLDS = {
  DISABLED: 'switched off',
  STORM: 'the brake is on: too many actions in too short a time',
  CHECKER_SUSPECT: 'so much turned bad at once that the checks themselves are doubted',
};

function automation(it) {
  const holds = it.holds.map((hold) =>
    h(
      'li',
      null,
      badge(hold.code === 'DISABLED' ? 'DISABLED' : `HELD ${hold.code}`),
      ` ${HOLDS[hold.code] ?? hold.code}, since `,
      time(hold.since),
      hold.until
        ? [', until ', time(hold.until)]
        : hold.code === 'STORM'
          ? ['; ', code('genesisctl health brake release --reason TEXT')]
          : null,
      hold.by ? ` by ${hold.by}` : null,
      hold.reason ? `: ${hold.reason}` : null,
    ),
  );
  const dry = it.dryRun ? h('li', null, badge('DRY RUN'), ' everything is planned and nothing is done') : null;
  const held = it.emergency
    ? h('li', null, badge('EMERGENCY'), ' actions that need not go on wait for its release')
    : null;
  if (holds.length === 0 && !dry && !held)
    return h(
      'p',
      null,
      badge('ACTIVE'),
      ' nothing holds it back: what checks find is mended as far as an action is known for it.',
    );
  return h('ul', { class: 'plain' }, held, dry, holds);
}

function checks(it, chosen, redraw, show) {
  return table(
    {
      name: 'Checks',
      key: (one) => one.check,
      chosen: (one) => one.check === chosen,
      redraw,
      empty: empty(
        'No check is configured: a [[health.check]] in the configuration names one.',
        'genesis-agent example-config',
      ),
    },
    [
      {
        label: 'Check',
        cell: (one) => link(one.check, () => show(one.check), one.check === chosen),
        sort: (one) => one.check,
      },
      {
        label: 'State',
        cell: (one) => [condition(one.condition), one.flapping ? [' ', badge('FLAPPING')] : null],
        sort: (one) =>
          ['CONDITION_CRITICAL', 'CONDITION_UNKNOWN', 'CONDITION_WARN', 'CONDITION_OK'].indexOf(one.condition),
      },
      {
        label: 'What it says',
        words: true,
        cell: (one) => [
          one.detail,
          one.unknownStreak > 0 ? ` (${one.unknownStreak} looks in a row could not tell)` : null,
        ],
      },
      {
        label: 'Value',
        number: true,
        cell: (one) => (one.value === undefined ? '-' : digits(one.value)),
        sort: (one) => one.value,
      },
      { label: 'Critical', cell: (one) => one.limit },
      {
        label: 'If so',
        cell: (one) => [
          word(one.severity, 'SEVERITY_').toLowerCase(),
          one.action ? [', ', h('span', { title: 'taken by itself' }, one.action)] : null,
        ],
      },
      { label: 'Looked at', cell: (one) => time(one.checkedAt), sort: (one) => one.checkedAt ?? '' },
      { label: 'Every', number: true, cell: (one) => duration(one.interval) },
      { label: 'Took', number: true, cell: (one) => duration(one.took) },
      { label: 'Level', cell: (one) => word(one.level, 'HEALTH_LEVEL_').toLowerCase() },
    ],
    it.checks,
  );
}

function explained(it, show) {
  const { issue, check } = it;
  return [
    facts([
      issue ? ['Issue', id(issue.id)] : null,
      issue ? ['State', state(issue.state, ISSUE)] : null,
      check ? ['Check', [condition(check.condition), ' ', check.detail]] : null,
      issue ? ['Opened', time(issue.openedAt)] : null,
      issue ? ['Attempts', whole(issue.attempts)] : null,
      issue?.ackedBy ? ['Taken care of by', [issue.ackedBy, issue.ackNote ? `: ${issue.ackNote}` : null]] : null,
      issue?.runbook ? ['Runbook', code(`genesisctl runbook show ${issue.runbook}`)] : null,
    ]),
    it.explanation.length > 0 ? list(it.explanation) : null,
    issue?.denials.length > 0
      ? [
          h('h3', null, 'Why nothing was done at the latest look'),
          h(
            'ul',
            { class: 'plain' },
            issue.denials.map((one) => h('li', null, badge(one.code), ` ${one.message}, since `, time(one.since))),
          ),
        ]
      : null,
    it.manual.length > 0
      ? [
          h('h3', null, 'What people can do'),
          list(it.manual.map((one) => (one.startsWith('genesis') ? code(one) : one))),
        ]
      : null,
    it.attempts.length > 0
      ? [
          h('h3', null, 'Attempts'),
          list(
            it.attempts.map((one) => [
              time(one.at),
              ' ',
              state(one.outcome, 'ATTEMPT_OUTCOME_'),
              ` ${one.action}: ${one.before}; then: ${one.after || one.detail}`,
            ]),
          ),
        ]
      : null,
    h(
      'p',
      null,
      link('Close', () => show('')),
    ),
  ];
}

function issues(name, rows, redraw, show, none) {
  return table(
    { name, key: (one) => one.id, redraw, empty: none },
    [
      { label: 'Issue', cell: (one) => link(one.id, () => show(one.id)), sort: (one) => one.openedAt },
      { label: 'State', cell: (one) => state(one.state, ISSUE), sort: (one) => one.state },
      { label: 'Severity', cell: (one) => state(one.severity, 'SEVERITY_'), sort: (one) => one.severity },
      { label: 'Opened', cell: (one) => time(one.openedAt), sort: (one) => one.openedAt },
      {
        label: 'Lasted',
        number: true,
        cell: (one) => took(one.openedAt, one.state === 'ISSUE_STATE_RESOLVED' ? one.since : null),
      },
      { label: 'Attempts', number: true, cell: (one) => whole(one.attempts), sort: (one) => one.attempts },
      { label: 'What the check said', words: true, cell: (one) => one.detail },
      {
        label: 'How it stands',
        words: true,
        cell: (one) => [
          one.resolution,
          one.suppressedBy ? `waits for ${one.suppressedBy}` : null,
          one.escalated !== 'ESCALATION_TRIGGER_UNSPECIFIED'
            ? [' ', `people were called: ${word(one.escalated, 'ESCALATION_TRIGGER_').toLowerCase()}`]
            : null,
          one.ackedBy ? `, ${one.ackedBy} takes care of it` : null,
          one.denials.map((denial) => [' ', badge(denial.code)]),
        ],
      },
    ],
    rows,
  );
}

function attempts(rows, redraw) {
  return table(
    {
      name: 'Attempts to mend',
      key: (one) => one.id,
      redraw,
      empty: empty('Nothing was to be mended yet.', 'genesisctl health remediation status'),
    },
    [
      { label: 'At', cell: (one) => time(one.at), sort: (one) => one.at },
      {
        label: 'Check',
        cell: (one) => `${one.check}${one.episode === '0' ? '' : `#${one.episode}`}`,
        sort: (one) => one.check,
      },
      {
        label: 'Action',
        cell: (one) => `${one.number > 1 ? `attempt ${one.number}: ` : ''}${one.action}`,
        sort: (one) => one.action,
      },
      { label: 'Outcome', cell: (one) => state(one.outcome, 'ATTEMPT_OUTCOME_'), sort: (one) => one.outcome },
      { label: 'Took', number: true, cell: (one) => took(one.at, one.endedAt) },
      { label: 'Before', words: true, cell: (one) => one.before },
      { label: 'After', words: true, cell: (one) => one.after },
      { label: 'What the action said', words: true, cell: (one) => one.detail },
      { label: 'By', cell: (one) => one.actor },
    ],
    rows,
  );
}

function incidents(rows) {
  return table(
    { name: 'Open incidents', key: (one) => one.id, empty: empty('None is open.', 'genesisctl incident list') },
    [
      { label: 'What', words: true, cell: (one) => h('a', { href: '#recovery' }, one.title) },
      { label: 'Severity', cell: (one) => badge(one.severity) },
      { label: 'Opened', cell: (one) => time(one.openedAt) },
      { label: 'Since', words: true, cell: (one) => `${one.trigger} ${one.reason}` },
      { label: 'Incident', cell: (one) => id(one.id) },
    ],
    rows,
  );
}

function remediation(it, redraw) {
  return [
    h(
      'p',
      null,
      `${it.hostDay} of ${it.hostDayLimit} actions that this host may take in a day were taken. `,
      it.budgets.map(
        (one) =>
          `${one.action}: ${one.hour} of ${one.hourLimit} in the hour, ${one.day} of ${one.dayLimit} in the day. `,
      ),
    ),
    details(
      'remediation',
      'All rows: what is detected, done, and left to people',
      table(
        { name: 'What is done by itself', key: (one) => one.row, redraw, empty: 'No row is known.' },
        [
          { label: 'Issue', cell: (one) => one.row },
          { label: 'Detected by', words: true, cell: (one) => one.detection },
          { label: 'Done by itself', words: true, cell: (one) => one.action },
          { label: 'Left to people', words: true, cell: (one) => one.fallback },
          { label: 'Checks here', words: true, cell: (one) => one.checks.join(', ') },
          { label: 'Held back by trades', cell: (one) => (one.tradeTouching ? 'yes' : 'no') },
          { label: 'In an emergency', cell: (one) => (one.goesOnInEmergency ? 'goes on' : 'waits') },
        ],
        it.rows,
      ),
    ),
  ];
}

function objectives(rows) {
  return table(
    { name: 'Objectives', key: (one) => one.name, empty: 'None is known.' },
    [
      { label: 'What', cell: (one) => one.name },
      { label: 'Goal', number: true, cell: (one) => percent(one.goal) },
      { label: 'Success', number: true, cell: (one) => percent(one.success) },
      {
        label: 'Met',
        cell: (one) => badge(one.success === undefined ? 'UNKNOWN' : one.success >= one.goal ? 'yes' : 'no'),
      },
      { label: 'Succeeded', number: true, cell: (one) => whole(one.succeeded) },
      { label: 'Failed', number: true, cell: (one) => whole(one.failed) },
      { label: 'Refused', number: true, cell: (one) => whole(one.refused) },
      { label: 'Cancelled', number: true, cell: (one) => whole(one.cancelled) },
      { label: 'Unknown', number: true, cell: (one) => whole(one.unknown) },
    ],
    rows,
  );
}
