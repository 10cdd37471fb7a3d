// Certificates: how long each lasts, what is served, and what was done about it.

import { badge, details, facts, h, id, list, meter, state, table, truth, word } from './dom.js';
import { empty, finding, section } from './parts.js';
import { duration, seconds, time } from './text.js';

const STATE = 'CERTIFICATE_STATE_';
const DAY = 86_400;

export const certificates = {
  lead: 'Certificates of the services on this host: how long each lasts, whether what is served is what is on the disk, and what their CAs still allow.',
  commands: ['genesisctl cert list', 'genesisctl cert history', 'genesisctl cert budget'],
  pages: () => ['certificates/status', 'certificates/history?limit=100', 'certificates/budget'],
  draw(get, { redraw }) {
    return [
      section(
        get,
        'Certificates',
        'certificates/status',
        (it) => all(it, redraw),
        (it) => `${it.certificates.length}`,
      ),
      section(
        get,
        'History',
        'certificates/history?limit=100',
        (it) => history(it.events, redraw),
        (it) => `the latest ${it.events.length}`,
      ),
      section(get, 'What the CAs still allow', 'certificates/budget', (it) => budget(it.budgets, redraw)),
    ];
  },
};

/** Days that are left, with a bar for the share of the whole time. */
function left(one) {
  const seconds_left = seconds(one.left);
  if (!Number.isFinite(seconds_left)) return badge('UNKNOWN');
  const whole = (Date.parse(one.current?.notAfter) - Date.parse(one.current?.notBefore)) / 1000;
  return [Number.isFinite(whole) ? meter(seconds_left / whole) : null, `${Math.floor(seconds_left / DAY)} d`];
}

function all(it, redraw) {
  return [
    table(
      {
        name: 'Certificates',
        key: (one) => one.name,
        redraw,
        empty: empty(
          'None is managed: a [[certificates.certificate]] in the configuration names one.',
          'genesis-agent example-config',
        ),
      },
      [
        { label: 'Certificate', cell: (one) => one.name, sort: (one) => one.name },
        { label: 'Left', number: true, cell: left, sort: (one) => seconds(one.left) },
        {
          label: 'State',
          cell: (one) => [state(one.state, STATE), one.pinnedAt ? [' ', badge('PINNED', one.pinnedBy)] : null],
          sort: (one) => one.state,
        },
        { label: 'Served', cell: (one) => truth(one.served), sort: (one) => one.served },
        {
          label: 'How it stands',
          words: true,
          cell: (one) => [
            one.summary,
            one.lastError ? h('span', { class: 'trouble' }, ` ${one.lastError}`) : null,
            one.diagnosis.length > 0 ? list(one.diagnosis.map(finding)) : null,
          ],
        },
        { label: 'Ends', cell: (one) => time(one.current?.notAfter), sort: (one) => one.current?.notAfter ?? '' },
        {
          label: 'Due',
          cell: (one) => [time(one.dueAt), one.dueByCa ? ' (as its CA asks)' : null],
          sort: (one) => one.dueAt ?? '',
        },
        { label: 'Domains', words: true, cell: (one) => one.domains.join(', ') },
        { label: 'Evidence', words: true, cell: (one) => one.servedEvidence },
        { label: 'More', cell: (one) => details(`certificate-${one.name}`, 'generations, files', more(one)) },
      ],
      it.certificates,
    ),
    h(
      'p',
      { class: 'muted' },
      'The daily check is ',
      time(it.nextCheckAt),
      `, ${duration(it.splay)} after its schedule.`,
    ),
  ];
}

function more(one) {
  const generations = [one.current, ...one.earlier, one.backup].filter(Boolean);
  return [
    facts([
      ['CAs', one.cas.join(', ')],
      ['Challenge', one.challenge],
      ['Probe', one.probe],
      ['Trouble', word(one.trouble, 'CERTIFICATE_TROUBLE_').toLowerCase()],
      ['Failures', one.failures],
      ['Files', one.deployments.map((at) => `${at.content} ${at.path}`).join(', ')],
    ]),
    list(
      generations.map((at) => [
        `generation ${at.number}`,
        at.current ? ', in force' : '',
        ` (${word(at.origin, 'CERTIFICATE_ORIGIN_').toLowerCase()} by ${at.issuer}), ends `,
        time(at.notAfter),
        ', sha256 ',
        id(at.fingerprint),
        at.usable ? '' : `: not usable, ${at.unusableWhy}`,
      ]),
    ),
  ];
}

function history(rows, redraw) {
  return table(
    {
      name: 'History',
      key: (one) => `${one.at}-${one.name}-${one.kind}`,
      redraw,
      empty: empty('Nothing was done yet.', 'genesisctl cert renew --domain NAME --plan'),
    },
    [
      { label: 'At', cell: (one) => time(one.at), sort: (one) => one.at },
      { label: 'Certificate', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'What', cell: (one) => one.kind, sort: (one) => one.kind },
      { label: 'Generation', number: true, cell: (one) => one.generation || '-', sort: (one) => one.generation },
      { label: 'CA', cell: (one) => one.ca },
      { label: 'Detail', words: true, cell: (one) => one.detail },
      { label: 'By', cell: (one) => one.actor },
    ],
    rows,
  );
}

function budget(rows, redraw) {
  return table(
    {
      name: 'Budget',
      key: (one) => `${one.name}-${one.ca}-${one.limit}-${one.subject}`,
      redraw,
      empty: empty('No certificate is ordered from a CA, so that nothing is counted.', 'genesisctl cert budget'),
    },
    [
      { label: 'Certificate', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'CA', cell: (one) => one.ca },
      { label: 'Limit', cell: (one) => one.limit },
      { label: 'Of', words: true, cell: (one) => one.subject },
      {
        label: 'Used',
        number: true,
        cell: (one) => [meter(one.used / one.allowed), `${one.used} of ${one.allowed}`],
        sort: (one) => one.used / one.allowed,
      },
      { label: 'Within', number: true, cell: (one) => duration(one.window) },
      { label: 'One more', cell: (one) => (one.nextAt ? time(one.nextAt) : 'now') },
    ],
    rows,
  );
}
