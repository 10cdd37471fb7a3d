// Recovery: the emergency, what can be gone back to, what was practised, and the report of it all.

import { badge, code, details, facts, h, id, list, state, table, truth, word } from './dom.js';
import { empty, section } from './parts.js';
import { duration, percent, seconds, span, time, took, whole } from './text.js';

export const recovery = {
  lead: 'Whether an emergency is in force and how far it has come, what can be rolled back and to where, drills, incidents, and the objectives of the last 30 days.',
  commands: [
    'genesisctl emergency status',
    'genesisctl rollback components',
    'genesisctl drill list',
    'genesisctl incident list',
    'genesisctl report operations',
  ],
  pages: () => ['recovery/status', 'recovery/components', 'recovery/drills', 'recovery/incidents', 'recovery/report'],
  draw(get, { redraw }) {
    return [
      section(get, 'Emergency', 'recovery/status', emergency),
      section(
        get,
        'Incidents',
        'recovery/incidents',
        (it) => incidents(it.incidents, redraw),
        (it) => `the latest ${it.incidents.length}`,
      ),
      section(get, 'Objectives', 'recovery/report', report),
      section(
        get,
        'What can be rolled back',
        'recovery/components',
        (it) => components(it.components, redraw),
        (it) => `${it.components.length}`,
      ),
      section(
        get,
        'Drills',
        'recovery/drills',
        (it) => drills(it.drills, redraw),
        (it) => `${it.drills.length}`,
      ),
    ];
  },
};

function emergency(it) {
  const { emergency: now, course, contacts, stances } = it;
  const waits = stances.filter((one) => !one.goesOn).map((one) => one.kind);
  const going = stances.filter((one) => one.goesOn).map((one) => one.kind);
  const ever = now && now.epoch !== '0';
  return [
    h(
      'p',
      null,
      now?.active ? badge('EMERGENCY') : badge('NORMAL'),
      now?.active ? ' in force since ' : ever ? ' none is in force. The latest: from ' : ' there has been none.',
      ever ? [time(now.since), ` by ${now.activatedBy}: ${now.reason}`] : null,
      ever && !now.active ? [', until ', time(now.releasedAt), ` by ${now.releasedBy}: ${now.releaseReason}`] : null,
    ),
    facts([
      ['Number', ever ? now.epoch : 'none'],
      ['Trading', course?.configured ? state(course.phase, 'COURSE_PHASE_') : 'no trading system is configured'],
      course?.haltedAt ? ['Halted', time(course.haltedAt)] : null,
      course?.closingSince ? ['Positions closed by', [course.closingBy, ' ', time(course.closingSince)]] : null,
      course?.approvals.length > 0
        ? ['Release approved by', `${course.approvals.map((one) => one.by).join(', ')}, of ${course.approvalsNeeded}`]
        : null,
      course?.lease?.lastsSeconds > 0
        ? ['Lease', `${span(course.lease.lastsSeconds)}, ${course.lease.holder || 'renewed by nobody'}`]
        : null,
      ['On call', contacts?.onCall],
      ['Escalation', contacts?.escalation],
      ['Security', contacts?.security],
    ]),
    [course?.haltTrouble, course?.trouble, course?.notDurable, course?.resumeTrouble]
      .filter(Boolean)
      .map((one) => h('p', { class: 'trouble' }, one)),
    course?.venues.length > 0
      ? table(
          { name: 'Venues', key: (one) => one.name, empty: '' },
          [
            { label: 'Venue', cell: (one) => one.name },
            { label: 'State', cell: (one) => state(one.state, 'VENUE_STATE_') },
            {
              label: 'Positions',
              words: true,
              cell: (one) =>
                one.positions.map((at) => `${at.symbol} ${at.quantity}`).join(', ') ||
                (one.asOf ? 'none' : badge('UNKNOWN')),
            },
            { label: 'Open orders', number: true, cell: (one) => (one.asOf ? one.openOrders : '?') },
            { label: 'Last seen', cell: (one) => (one.asOf ? time(one.asOf) : 'never') },
            {
              label: 'Orders that closed',
              words: true,
              cell: (one) =>
                one.orders.map((at) => `${at.symbol} ${at.filled} of ${at.quantity} ${at.state}`).join('; '),
            },
            { label: 'In the way', words: true, cell: (one) => one.why },
          ],
          course.venues,
        )
      : null,
    details(
      'stances',
      'What waits in an emergency, and what goes on',
      h('p', null, h('strong', null, 'Waits for the release: '), waits.join(', '), '. '),
      h('p', null, h('strong', null, 'Goes on: '), going.join(', '), '.'),
    ),
  ];
}

function incidents(rows, redraw) {
  return table(
    {
      name: 'Incidents',
      key: (one) => one.id,
      redraw,
      empty: empty('There was none.', 'genesisctl incident open --help'),
    },
    [
      {
        label: 'What',
        words: true,
        cell: (one) => [
          one.title,
          one.details.length > 0 ? details(`incident-${one.id}`, 'more', list(one.details)) : null,
        ],
      },
      { label: 'State', cell: (one) => state(one.state, 'INCIDENT_STATE_'), sort: (one) => one.state },
      { label: 'Severity', cell: (one) => badge(one.severity), sort: (one) => one.severity },
      { label: 'Opened', cell: (one) => time(one.openedAt), sort: (one) => one.openedAt },
      {
        label: 'Lasted',
        number: true,
        cell: (one) => took(one.openedAt, one.overAt),
        sort: (one) => Date.parse(one.overAt ?? new Date()) - Date.parse(one.openedAt),
      },
      { label: 'Trigger', cell: (one) => word(one.trigger, '').toLowerCase() },
      { label: 'By', cell: (one) => one.openedBy },
      {
        label: 'How it ended',
        words: true,
        cell: (one) => [
          one.resolution,
          one.closure ? `; closed by ${one.closure.by}: ${one.closure.resolution}` : null,
        ],
      },
      { label: 'Runbook', cell: (one) => (one.runbook ? code(`runbook show ${one.runbook}`) : '-') },
      { label: 'Incident', cell: (one) => id(one.id) },
    ],
    rows,
  );
}

function report(it) {
  return [
    table(
      { name: 'Objectives', key: (one) => one.name, empty: 'None is known.' },
      [
        { label: 'What', cell: (one) => one.name },
        { label: 'Target', words: true, cell: (one) => one.target },
        { label: 'Reached', number: true, cell: (one) => percent(one.value) },
        { label: 'Of', number: true, cell: (one) => `${whole(one.numerator)} / ${whole(one.denominator)}` },
        { label: 'State', cell: (one) => truth(one.state) },
        {
          label: 'Apart',
          words: true,
          cell: (one) =>
            one.apart
              .filter((at) => at.count !== '0')
              .map((at) => `${at.count} ${at.name}`)
              .join(', '),
        },
        {
          label: 'The worst',
          words: true,
          cell: (one) =>
            one.offenders
              .map((at) => `${at.name}: ${at.bad} of ${at.all}${at.detail ? ` (${at.detail})` : ''}`)
              .join('; '),
        },
        { label: 'Note', words: true, cell: (one) => one.note },
      ],
      it.objectives,
    ),
    h(
      'p',
      { class: 'muted' },
      'From ',
      time(it.period?.from),
      it.period?.dataMissing ? [', of which data are kept since ', time(it.period.dataFrom)] : null,
      '.',
    ),
  ];
}

const POINT = 'POINT_STANDING_';

function components(rows, redraw) {
  return table(
    {
      name: 'What can be rolled back',
      key: (one) => one.name,
      redraw,
      empty: empty('Nothing can be rolled back yet.', 'genesisctl rollback components'),
    },
    [
      { label: 'Component', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Health', cell: (one) => state(one.health, 'COMPONENT_HEALTH_'), sort: (one) => one.health },
      {
        label: 'In force',
        words: true,
        cell: (one) =>
          one.current
            ? [
                one.current.description,
                one.current.standing === `${POINT}UNSPECIFIED` ? null : [' ', state(one.current.standing, POINT)],
              ]
            : '-',
      },
      { label: 'Points', number: true, cell: (one) => one.pointsTotal, sort: (one) => one.pointsTotal },
      { label: 'Changed', cell: (one) => time(one.changedAt), sort: (one) => one.changedAt ?? '' },
      { label: 'By', cell: (one) => one.changedBy },
      { label: 'Why', words: true, cell: (one) => one.why },
      {
        label: 'Last rollback',
        words: true,
        cell: (one) =>
          one.lastRollback
            ? [
                time(one.lastRollback.at),
                ` ${one.lastRollback.from} → ${one.lastRollback.to}: ${one.lastRollback.outcome}`,
              ]
            : 'never',
      },
    ],
    rows,
  );
}

function drills(rows, redraw) {
  const measured = (it) => [
    Number.isFinite(seconds(it?.rto)) ? `recovered in ${duration(it.rto)}` : null,
    Number.isFinite(seconds(it?.rpo)) ? `, ${duration(it.rpo)} would have been lost` : null,
  ];
  return table(
    { name: 'Drills', key: (one) => one.name, redraw, empty: empty('None is known.', 'genesisctl drill list') },
    [
      { label: 'Drill', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Standing', cell: (one) => state(one.standing, 'DRILL_STANDING_'), sort: (one) => one.standing },
      {
        label: 'Last',
        cell: (one) => (one.last ? [truth(one.last.outcome), ' ', time(one.last.startedAt)] : 'never'),
        sort: (one) => one.last?.startedAt ?? '',
      },
      { label: 'Measured', words: true, cell: (one) => measured(one.last) },
      { label: 'Overdue', cell: (one) => time(one.overdueAt), sort: (one) => one.overdueAt ?? '' },
      {
        label: 'What it does',
        words: true,
        cell: (one) => [one.description, one.notApplicable ? ` (not here: ${one.notApplicable})` : null],
      },
      { label: 'Deviations', words: true, cell: (one) => one.last?.deviations.join('; ') },
    ],
    rows,
  );
}
