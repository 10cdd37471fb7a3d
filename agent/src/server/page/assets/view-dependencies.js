// Dependencies: what applications are built of, what is vulnerable in it, and by when that has to be mended.

import { badge, code, details, h, id, list, state, table, truth, word } from './dom.js';
import { empty, section } from './parts.js';
import { duration, seconds, span, time, took, whole } from './text.js';

const SEVERITY = 'VULNERABILITY_SEVERITY_';
const SEVERITIES = ['CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'NONE', 'UNKNOWN'];

export const dependencies = {
  lead: 'What applications have locked, held against advisories that lie on this host; updates, and the clocks of what is critical or exploited.',
  commands: [
    'genesisctl deps status',
    'genesisctl deps scan',
    'genesisctl deps history',
    'genesisctl deps postmortem list',
  ],
  pages: () => ['dependencies/status', 'dependencies/clocks', 'dependencies/updates'],
  draw(get, { redraw }) {
    return [
      section(
        get,
        'Projects',
        'dependencies/status',
        (it) => projects(it.projects, redraw),
        (it) => `${it.projects.length}`,
      ),
      section(
        get,
        'Clocks',
        'dependencies/clocks',
        (it) => clocks(it.clocks, redraw),
        (it) => `${it.clocks.length}`,
      ),
      section(
        get,
        'Updates',
        'dependencies/updates',
        (it) => updates(it.updates, redraw),
        (it) => `the latest ${it.updates.length}`,
      ),
      section(
        get,
        'Advisories',
        'dependencies/status',
        (it) => sources(it.sources, redraw),
        (it) => `${it.sources.length}`,
      ),
    ];
  },
};

/** Vulnerabilities by severity, the worst first. */
function counted(one) {
  const found = new Map(one.vulnerabilities.map((at) => [word(at.severity, SEVERITY), at.count]));
  const shown = SEVERITIES.filter((name) => found.get(name) > 0);
  if (one.verdict === 'SCAN_VERDICT_UNSPECIFIED') return badge('UNKNOWN');
  return shown.length === 0 ? 'none' : shown.map((name) => [badge(name), ` ${found.get(name)} `]);
}

function projects(rows, redraw) {
  return table(
    {
      name: 'Projects',
      key: (one) => one.name,
      redraw,
      empty: empty(
        'None is configured: a [[dependencies.project]] in the configuration names one.',
        'genesis-agent example-config',
      ),
    },
    [
      { label: 'Project', cell: (one) => one.name, sort: (one) => one.name },
      {
        label: 'Scan',
        cell: (one) =>
          one.verdict === 'SCAN_VERDICT_UNSPECIFIED' ? badge('UNKNOWN') : state(one.verdict, 'SCAN_VERDICT_'),
        sort: (one) => one.verdict,
      },
      {
        label: 'Vulnerabilities',
        cell: counted,
        sort: (one) => one.vulnerabilities.reduce((sum, at) => sum + at.count, 0),
      },
      { label: 'Ignored', number: true, cell: (one) => one.ignored.filter((at) => at.inForce).length },
      { label: 'Scanned', cell: (one) => time(one.scannedAt), sort: (one) => one.scannedAt ?? '' },
      { label: 'Strategy', cell: (one) => word(one.strategy, 'UPDATE_STRATEGY_').toLowerCase() },
      {
        label: 'Runs what is installed',
        words: true,
        cell: (one) => (one.inMemory === 'TRUTH_UNSPECIFIED' ? '-' : [truth(one.inMemory), ` ${one.inMemoryWhy}`]),
      },
      {
        label: 'In service',
        cell: (one) => (one.current ? `generation ${one.current.generation}, ${one.current.packages} packages` : '-'),
      },
      {
        label: 'Updates',
        words: true,
        cell: (one) =>
          one.running
            ? [state('RUNNING', ''), ' ', id(one.running)]
            : one.managed
              ? 'can be updated'
              : one.unmanagedWhy,
      },
      { label: 'Manifests', words: true, cell: (one) => one.manifests.map((path) => [code(path), ' ']) },
      { label: 'Root', words: true, cell: (one) => code(one.root) },
    ],
    rows,
  );
}

function clocks(rows, redraw) {
  const left = (one) => seconds(one.mendWithin) - seconds(one.elapsed);
  const within = (one) =>
    one.state === 'CLOCK_STATE_OPEN'
      ? left(one) < 0
        ? [badge('OVERDUE'), ` by ${span(-left(one))}`]
        : span(left(one))
      : '-';
  return table(
    {
      name: 'Clocks',
      key: (one) => `${one.project}/${one.id}`,
      redraw,
      empty: empty('None runs: nothing critical or exploited was found.', 'genesisctl deps scan'),
    },
    [
      { label: 'Vulnerability', cell: (one) => one.id, sort: (one) => one.id },
      { label: 'Project', cell: (one) => one.project, sort: (one) => one.project },
      { label: 'Package', cell: (one) => one.package, sort: (one) => one.package },
      {
        label: 'Severity',
        cell: (one) => [state(one.severity, SEVERITY), one.exploited ? [' ', badge('EXPLOITED')] : null],
        sort: (one) => SEVERITIES.indexOf(word(one.severity, SEVERITY)),
      },
      { label: 'State', cell: (one) => state(one.state, 'CLOCK_STATE_'), sort: (one) => one.state },
      { label: 'Known for', number: true, cell: (one) => duration(one.elapsed), sort: (one) => seconds(one.elapsed) },
      { label: 'Left to mend it', number: true, cell: within, sort: left },
      { label: 'In time', cell: (one) => (one.inTime === 'TRUTH_UNSPECIFIED' ? '-' : truth(one.inTime)) },
      { label: 'Mended', cell: (one) => time(one.mendedAt), sort: (one) => one.mendedAt ?? '' },
      { label: 'Post-mortem within', number: true, cell: (one) => duration(one.postmortemWithin) },
      { label: 'Note', words: true, cell: (one) => one.note },
    ],
    rows,
  );
}

function updates(rows, redraw) {
  return table(
    {
      name: 'Updates',
      key: (one) => one.id,
      redraw,
      empty: empty('There was none yet.', 'genesisctl deps update --project NAME --plan'),
    },
    [
      { label: 'Project', cell: (one) => one.project, sort: (one) => one.project },
      { label: 'State', cell: (one) => state(one.state, 'UPDATE_STATE_'), sort: (one) => one.state },
      {
        label: 'What',
        cell: (one) =>
          one.strategy === 'UPDATE_STRATEGY_UNSPECIFIED'
            ? 'rollback'
            : word(one.strategy, 'UPDATE_STRATEGY_').toLowerCase(),
      },
      { label: 'Began', cell: (one) => time(one.startedAt), sort: (one) => one.startedAt },
      { label: 'Took', number: true, cell: (one) => took(one.startedAt, one.endedAt) },
      {
        label: 'Changes',
        words: true,
        cell: (one) =>
          one.changes.length === 0
            ? 'none'
            : details(
                `update-${one.id}`,
                `${one.changes.length} package(s)`,
                list(
                  one.changes.map(
                    (at) =>
                      `${at.package} ${at.from || 'none'} → ${at.to || 'none'}${at.fixes.length > 0 ? `, mends ${at.fixes.join(', ')}` : ''}`,
                  ),
                ),
              ),
      },
      {
        label: 'What went wrong',
        words: true,
        cell: (one) => [
          one.errorCode ? [badge(one.errorCode), ' '] : null,
          one.error,
          one.ill ? ` ${one.ill}` : null,
          one.restartOwed ? ' The service has still to be restarted.' : null,
        ],
      },
      { label: 'By', cell: (one) => one.actor },
      { label: 'Run', cell: (one) => id(one.id) },
    ],
    rows,
  );
}

function sources(rows, redraw) {
  return table(
    {
      name: 'Advisories',
      key: (one) => one.name,
      redraw,
      empty: empty('None was imported yet.', 'genesisctl deps import-advisories FILE'),
    },
    [
      { label: 'Data', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'State', cell: (one) => state(one.state, 'DATA_STATE_'), sort: (one) => one.state },
      { label: 'Records', number: true, cell: (one) => whole(one.records), sort: (one) => Number(one.records) },
      { label: 'Newest in it', cell: (one) => time(one.newestAt), sort: (one) => one.newestAt ?? '' },
      { label: 'Imported', cell: (one) => time(one.importedAt), sort: (one) => one.importedAt ?? '' },
      { label: 'Why', words: true, cell: (one) => one.why },
      { label: 'File', words: true, cell: (one) => (one.file ? h('code', null, one.file) : '-') },
    ],
    rows,
  );
}
