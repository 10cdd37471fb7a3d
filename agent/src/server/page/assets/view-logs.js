// Logs: what is cut, proven in the archive, and kept.

import { code, facts, h, id, list, state, table, word } from './dom.js';
import { empty, finding, section } from './parts.js';
import { bytes, duration, percent, time, whole } from './text.js';

const SEGMENTS = 'logs/segments?limit=1000';
const STATE = 'SEGMENT_STATE_';
const SHOWN = 100;

export const logs = {
  lead: 'Logs are cut into segments, compressed, archived, and read back from the archive before the local copy may go.',
  commands: [
    'genesisctl logs status',
    'genesisctl logs list',
    'genesisctl logs retrieve --log-type TYPE --date-range DATE',
  ],
  pages: () => ['logs/status', SEGMENTS, 'logs/holds'],
  draw(get, { redraw }) {
    return [
      section(
        get,
        'Sources',
        'logs/status',
        (it) => sources(it, redraw),
        (it) => `${it.sources.length}`,
      ),
      section(
        get,
        'Recent segments',
        SEGMENTS,
        (it) => segments(it, redraw),
        (it) => `${it.segments.length}${it.truncated ? ' and more' : ''}`,
      ),
      section(get, 'Holds', 'logs/holds', holds, (it) => `${it.holds.length}`),
    ];
  },
};

function sources(it, redraw) {
  const plain = it.sources.reduce((sum, one) => sum + Number(one.archivedPlainBytes), 0);
  const stored = it.sources.reduce((sum, one) => sum + Number(one.archivedCompressedBytes), 0);
  const states = new Map();
  for (const source of it.sources)
    for (const one of source.segments) states.set(one.state, (states.get(one.state) ?? 0) + Number(one.segments));
  const findings = it.sources.flatMap((one) => one.findings);
  return [
    facts([
      ['Archive', it.archiveUrl],
      ['Archived', `${bytes(plain)}, stored as ${bytes(stored)}${plain > 0 ? ` (${percent(stored / plain)})` : ''}`],
      ...[...states].map(([name, count]) => [h('span', null, state(name, STATE)), `${whole(count)} segment(s)`]),
    ]),
    findings.length > 0 ? list(findings.map(finding)) : null,
    table(
      {
        name: 'Sources',
        key: (one) => one.logType,
        redraw,
        empty: empty(
          'None is configured: a [[logs.source]] in the configuration names one.',
          'genesis-agent example-config',
        ),
      },
      [
        { label: 'Type', cell: (one) => one.logType, sort: (one) => one.logType },
        {
          label: 'Segments',
          cell: (one) =>
            one.segments.map((at) => `${whole(at.segments)} ${word(at.state, STATE).toLowerCase()}`).join(', ') ||
            'none',
        },
        {
          label: 'Stalled',
          number: true,
          cell: (one) => whole(one.stalledSegments),
          sort: (one) => Number(one.stalledSegments),
        },
        {
          label: 'Quarantined',
          number: true,
          cell: (one) => whole(one.quarantinedSegments),
          sort: (one) => Number(one.quarantinedSegments),
        },
        {
          label: 'Active now',
          number: true,
          cell: (one) => bytes(one.active.reduce((sum, at) => sum + Number(at.bytes), 0)),
        },
        { label: 'Cut at', number: true, cell: (one) => bytes(one.rotateBytes) },
        {
          label: 'Archived',
          number: true,
          cell: (one) => bytes(one.archivedPlainBytes),
          sort: (one) => Number(one.archivedPlainBytes),
        },
        {
          label: 'Stored as',
          number: true,
          cell: (one) => bytes(one.archivedCompressedBytes),
          sort: (one) => Number(one.archivedCompressedBytes),
        },
        { label: 'Last verified', cell: (one) => time(one.lastVerifiedAt), sort: (one) => one.lastVerifiedAt ?? '' },
        { label: 'Kept here', number: true, cell: (one) => duration(one.localRetention) },
        { label: 'In the archive', number: true, cell: (one) => duration(one.archiveRetention) },
        { label: 'Mode', cell: (one) => one.rotateMode },
        { label: 'Paths', words: true, cell: (one) => one.paths.map((path) => [code(path), ' ']) },
      ],
      it.sources,
    ),
  ];
}

function segments(it, redraw) {
  const newest = [...it.segments]
    .sort((one, other) => ((one.detachedAt ?? '') < (other.detachedAt ?? '') ? 1 : -1))
    .slice(0, SHOWN);
  return table(
    {
      name: 'Recent segments',
      key: (one) => `${one.logType}/${one.sequence}`,
      redraw,
      empty: empty('None was cut yet.', 'genesisctl logs rotate --reason TEXT'),
    },
    [
      {
        label: 'Segment',
        cell: (one) => `${one.logType}/${one.sequence}`,
        sort: (one) => `${one.logType}/${one.sequence.padStart(12, '0')}`,
      },
      {
        label: 'State',
        cell: (one) => [
          state(one.state, STATE),
          one.hindrance === 'SEGMENT_HINDRANCE_UNSPECIFIED' ? null : [' ', state(one.hindrance, 'SEGMENT_HINDRANCE_')],
        ],
        sort: (one) => one.state,
      },
      { label: 'First line', cell: (one) => time(one.firstAt), sort: (one) => one.firstAt ?? '' },
      { label: 'Last line', cell: (one) => time(one.lastAt), sort: (one) => one.lastAt ?? '' },
      { label: 'Lines', number: true, cell: (one) => whole(one.lines), sort: (one) => Number(one.lines) },
      { label: 'Size', number: true, cell: (one) => bytes(one.plainBytes), sort: (one) => Number(one.plainBytes) },
      {
        label: 'Stored',
        number: true,
        cell: (one) => bytes(one.compressedBytes),
        sort: (one) => Number(one.compressedBytes),
      },
      { label: 'Verified', cell: (one) => time(one.verifiedAt), sort: (one) => one.verifiedAt ?? '' },
      { label: 'Waits for', words: true, cell: (one) => (one.waiting ? finding(one.waiting) : '-') },
      { label: 'sha256', cell: (one) => id(one.sha256) },
      { label: 'Archive name', cell: (one) => h('code', null, one.archiveName) },
    ],
    newest,
  );
}

function holds(it) {
  return table(
    {
      name: 'Holds',
      key: (one) => one.id,
      empty: empty('Nothing is held: what is past its retention is deleted.', 'genesisctl logs hold --help'),
    },
    [
      { label: 'Type', cell: (one) => one.logType || 'all' },
      { label: 'From', cell: (one) => (one.from ? time(one.from) : 'the beginning') },
      { label: 'Until', cell: (one) => (one.until ? time(one.until) : 'for ever') },
      { label: 'Segments', number: true, cell: (one) => whole(one.segments) },
      { label: 'Size', number: true, cell: (one) => bytes(one.compressedBytes) },
      { label: 'By', cell: (one) => one.by },
      { label: 'Since', cell: (one) => time(one.at) },
      { label: 'Reason', words: true, cell: (one) => one.reason },
      { label: 'Hold', cell: (one) => id(one.id) },
    ],
    it.holds,
  );
}
