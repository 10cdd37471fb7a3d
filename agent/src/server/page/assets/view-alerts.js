// Alerts: what fires, who was told, and the circuit breakers.

import { badge, code, details, h, id, list, state, table, word } from './dom.js';
import { empty, section } from './parts.js';
import { digits, duration, percent, time, whole } from './text.js';

const severity = (value) => state(value, 'SEVERITY_');
const severities = (all) => all.map((one) => word(one, 'SEVERITY_').toLowerCase()).join(', ');

export const alerts = {
  lead: 'What people are told of, by which channel, what they have accepted, and the circuit breakers of services.',
  commands: ['genesisctl alerts list', 'genesisctl alerts history', 'genesisctl breaker list'],
  pages: () => ['alerts/status', 'alerts/list?limit=100&all=true', 'alerts/deliveries?limit=100', 'breaker/status'],
  draw(get, { redraw }) {
    return [
      section(
        get,
        'Firing',
        'alerts/status',
        (it) => firing(it, redraw),
        (it) => `${it.firing.length}`,
      ),
      section(
        get,
        'Channels',
        'alerts/status',
        channels,
        (it) => `${it.channels.length}, ${it.waiting} message(s) wait`,
      ),
      section(
        get,
        'Circuit breakers',
        'breaker/status',
        (it) => breakers(it.breakers, redraw),
        (it) => `${it.breakers.length}`,
      ),
      section(
        get,
        'Deliveries',
        'alerts/deliveries?limit=100',
        (it) => deliveries(it.deliveries, redraw),
        (it) => `the latest ${it.deliveries.length}`,
      ),
      section(get, 'Alerts that are over', 'alerts/list?limit=100&all=true', (it) =>
        over(
          it.alerts.filter((one) => one.state === 'ALERT_STATE_RESOLVED'),
          redraw,
        ),
      ),
      section(get, 'Silences', 'alerts/status', silences, (it) => `${it.silences.length}`),
    ];
  },
};

function firing(it, redraw) {
  return [
    it.unheard.length > 0
      ? h(
          'p',
          null,
          badge('WARN'),
          ` nobody would hear of what is ${severities(it.unheard)}: no channel of theirs is configured.`,
        )
      : null,
    table(
      { name: 'Firing', key: (one) => one.id, redraw, empty: empty('Nothing fires.', 'genesisctl alerts history') },
      [
        {
          label: 'About',
          cell: (one) => `${one.source}: ${one.subject}`,
          sort: (one) => `${one.source}: ${one.subject}`,
        },
        {
          label: 'Severity',
          cell: (one) => severity(one.severity),
          sort: (one) =>
            ['SEVERITY_CRITICAL', 'SEVERITY_HIGH', 'SEVERITY_MEDIUM', 'SEVERITY_LOW'].indexOf(one.severity),
        },
        {
          label: 'State',
          cell: (one) => [state(one.state, 'ALERT_STATE_'), one.flapping ? [' ', badge('FLAPPING')] : null],
          sort: (one) => one.state,
        },
        { label: 'Since', cell: (one) => time(one.since), sort: (one) => one.since },
        {
          label: 'What',
          words: true,
          cell: (one) => [
            one.title,
            one.details.length > 0 ? details(`alert-${one.id}`, 'more', list(one.details)) : null,
          ],
        },
        { label: 'Told', words: true, cell: (one) => told(one) },
        { label: 'Runbook', cell: (one) => (one.runbook ? code(`runbook show ${one.runbook}`) : '-') },
        { label: 'Alert', cell: (one) => id(one.id) },
      ],
      it.firing,
    ),
  ];
}

function told(one) {
  const by = one.ackedBy
    ? [
        `${one.ackedBy} takes care of it`,
        one.ackedUntil ? [' until ', time(one.ackedUntil)] : null,
        one.ackNote ? `: ${one.ackNote}` : null,
        '. ',
      ]
    : null;
  if (one.quiet) return [by, `nobody now: ${one.quiet}`];
  const all = [...one.told, ...one.telling.map((channel) => `${channel} (waits)`)];
  return [by, all.length === 0 ? 'nobody' : all.join(', '), one.repeats > 0 ? `, ${one.repeats} time(s) again` : null];
}

function channels(it) {
  return table(
    {
      name: 'Channels',
      key: (one) => one.name,
      empty: empty(
        'None is configured: [alerts.channel.NAME] in the configuration names one.',
        'genesis-agent example-config',
      ),
    },
    [
      { label: 'Channel', cell: (one) => one.name },
      { label: 'Kind', cell: (one) => one.kind },
      { label: 'State', cell: (one) => badge(one.trouble ? 'FAILING' : 'OK') },
      { label: 'Severities', cell: (one) => severities(one.severities) },
      { label: 'Waiting', number: true, cell: (one) => one.waiting },
      {
        label: 'Trouble',
        words: true,
        cell: (one) => (one.trouble ? [one.trouble, ', since ', time(one.troubleSince)] : '-'),
      },
    ],
    it.channels,
  );
}

function breakers(rows, redraw) {
  const signal = (it) =>
    it?.known ? `${digits(it.sum)} of ${digits(it.limit)}` : `learning, ${it?.learned ?? 0} of ${it?.needed ?? '?'}`;
  return table(
    {
      name: 'Circuit breakers',
      key: (one) => one.name,
      redraw,
      empty: empty(
        'None is known: services report their calls, by the library or an rpc.',
        'genesisctl breaker trip NAME --reason TEXT',
      ),
    },
    [
      { label: 'Breaker', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'State', cell: (one) => state(one.state, 'BREAKER_STATE_'), sort: (one) => one.state },
      { label: 'Since', cell: (one) => time(one.since), sort: (one) => one.since ?? '' },
      {
        label: 'First probe',
        cell: (one) => (one.state === 'BREAKER_STATE_OPEN' ? (one.until ? time(one.until) : 'when it is reset') : '-'),
      },
      { label: 'Calls', number: true, cell: (one) => whole(one.calls), sort: (one) => Number(one.calls) },
      { label: 'Failed', number: true, cell: (one) => whole(one.failedCalls) },
      { label: 'Slow', number: true, cell: (one) => whole(one.slowCalls) },
      { label: 'Slow is over', number: true, cell: (one) => duration(one.slowAfter) },
      { label: 'Latency', cell: (one) => signal(one.latency) },
      { label: 'Errors', cell: (one) => signal(one.errors) },
      {
        label: 'Usually slow',
        number: true,
        cell: (one) => (one.latency?.known ? percent(one.latency.usualShare) : '-'),
      },
      { label: 'By', cell: (one) => one.by },
      { label: 'Reason', words: true, cell: (one) => one.reason },
    ],
    rows,
  );
}

function deliveries(rows, redraw) {
  return table(
    {
      name: 'Deliveries',
      key: (one) => `${one.message}-${one.channel}-${one.at}`,
      redraw,
      empty: empty('No channel was told of anything yet.', 'genesisctl alerts test CHANNEL'),
    },
    [
      { label: 'At', cell: (one) => time(one.at), sort: (one) => one.at },
      { label: 'Channel', cell: (one) => one.channel, sort: (one) => one.channel },
      { label: 'Occasion', cell: (one) => one.occasion, sort: (one) => one.occasion },
      { label: 'Outcome', cell: (one) => state(one.outcome, 'DELIVERY_OUTCOME_'), sort: (one) => one.outcome },
      { label: 'Attempts', number: true, cell: (one) => one.attempts, sort: (one) => one.attempts },
      { label: 'What the channel said', words: true, cell: (one) => one.detail },
      { label: 'Alerts', cell: (one) => (one.alerts.length > 0 ? one.alerts.map((alert) => [id(alert), ' ']) : '-') },
    ],
    rows,
  );
}

function over(rows, redraw) {
  return table(
    {
      name: 'Alerts that are over',
      key: (one) => one.id,
      redraw,
      empty: empty('None is over yet.', 'genesisctl alerts list'),
    },
    [
      {
        label: 'About',
        cell: (one) => `${one.source}: ${one.subject}`,
        sort: (one) => `${one.source}: ${one.subject}`,
      },
      { label: 'Severity', cell: (one) => severity(one.severity) },
      { label: 'Since', cell: (one) => time(one.since), sort: (one) => one.since },
      { label: 'Over', cell: (one) => time(one.resolvedAt), sort: (one) => one.resolvedAt ?? '' },
      { label: 'What', words: true, cell: (one) => one.title },
      { label: 'Told', words: true, cell: (one) => told(one) },
      { label: 'Alert', cell: (one) => id(one.id) },
    ],
    rows,
  );
}

function silences(it) {
  return table(
    { name: 'Silences', key: (one) => one.id, empty: empty('None is in force.', 'genesisctl alerts silence --help') },
    [
      { label: 'Of', cell: (one) => `${one.source || 'any source'}: ${one.subject || 'any subject'}` },
      { label: 'Up to', cell: (one) => severity(one.severity) },
      { label: 'In force', cell: (one) => (one.inForce ? 'yes' : 'no') },
      { label: 'Since', cell: (one) => time(one.since) },
      { label: 'Until', cell: (one) => time(one.until) },
      { label: 'By', cell: (one) => one.by },
      { label: 'Reason', words: true, cell: (one) => one.reason },
      { label: 'Silence', cell: (one) => id(one.id) },
    ],
    it.silences,
  );
}
