// Matrices: which correlations consumers use, and how the next ones fare.

import { details, facts, h, id, link, state, table, word } from './dom.js';
import { heat, pair, written } from './heat.js';
import { empty, section } from './parts.js';
import { bytes, change, digits, span, time, whole } from './text.js';

const STAGES = [10, 25, 50, 100];
/** Up to so many series the whole matrix is a table, too; beyond that nobody reads it. */
const READABLE = 24;
const PAIRS = 8;

const matrix = (version) => `matrices/matrix?version=${/^\d+$/.test(version) ? version : 0}`;

export const matrices = {
  lead: 'The correlation matrix that consumers use, how it was made, and how far the next one has come.',
  commands: ['genesisctl matrix show', 'genesisctl matrix history', 'genesisctl matrix rollout status'],
  pages: (version) => ['matrices/status', matrix(version), 'matrices/rollout', 'matrices/series'],
  draw(get, { argument, redraw, show }) {
    return [
      section(get, /^[1-9]/.test(argument) ? `Version ${argument}` : 'The active matrix', matrix(argument), (it) =>
        active(it, argument, show),
      ),
      section(get, 'Rollout', 'matrices/rollout', rollout),
      section(
        get,
        'Versions',
        'matrices/status',
        (it) => versions(it, argument, redraw, show),
        (it) => `${it.versions.length}`,
      ),
      section(
        get,
        'Series',
        'matrices/series',
        (it) => series(it, redraw),
        (it) => `${it.series.length}, a value each ${span(it.bucketSeconds)}, of ${span(Number(it.windowSeconds))}`,
      ),
    ];
  },
};

function pairs(it) {
  const found = [];
  for (let row = 0; row < it.series.length; row += 1) {
    for (let column = row + 1; column < it.series.length; column += 1)
      found.push({ one: it.series[row], other: it.series[column], value: pair(it, row, column) });
  }
  return found.sort((one, other) => Math.abs(other.value) - Math.abs(one.value));
}

function active(it, argument, show) {
  const found = it.matrix;
  if (!found || found.series.length === 0)
    return h(
      'p',
      { class: 'empty' },
      ...empty(
        'There is none yet. Programs send prices, or a file does; then one is calculated each day, or',
        'genesisctl matrix update --reason TEXT',
      ),
    );
  const sorted = pairs(found);
  const strongest = sorted[0];
  const said = `${found.series.length} series, ${sorted.length} pairs.${strongest ? ` The furthest from 0: ${strongest.one} and ${strongest.other}, ${written(strongest.value)}.` : ''}`;
  const { about } = it;
  return [
    facts([
      ['Version', found.version],
      ['State', state(about?.state, 'MATRIX_STATE_')],
      ['Calculated', time(about?.calculatedAt)],
      ['Cause', about ? `${about.cause}${about.reason ? `: ${about.reason}` : ''}` : '-'],
      ['Fewest rows of a pair', whole(about?.fewestPoints)],
      ['Digest', id(found.digest)],
    ]),
    h('p', { class: 'said' }, said),
    h(
      'div',
      { class: 'columns map' },
      heat(found),
      h(
        'div',
        null,
        h('h3', null, 'Furthest from 0'),
        table(
          { name: 'Pairs furthest from 0', key: (one) => `${one.one}/${one.other}`, empty: '' },
          [
            { label: 'Pair', cell: (one) => `${one.one} / ${one.other}` },
            { label: 'Correlation', number: true, cell: (one) => written(one.value) },
          ],
          sorted.slice(0, PAIRS),
        ),
      ),
    ),
    found.series.length <= READABLE ? details('values', 'All values', whole_table(found)) : null,
    argument && argument !== '0'
      ? h(
          'p',
          null,
          link('Show the active one', () => show('0')),
        )
      : null,
  ];
}

function whole_table(it) {
  const rows = it.series.map((name, row) => ({ name, row }));
  return table(
    { name: 'Correlations', key: (one) => one.name, empty: '' },
    [
      { label: 'Series', cell: (one) => one.name },
      ...it.series.map((name, column) => ({
        label: name,
        number: true,
        cell: (one) => written(pair(it, one.row, column)),
      })),
    ],
    rows,
  );
}

function rollout(it) {
  const { rollout: found } = it;
  if (!found)
    return h(
      'p',
      { class: 'empty' },
      ...empty(
        'There was none yet: the first valid matrix is used at once, later ones go from stage to stage.',
        'genesisctl matrix update --reason TEXT',
      ),
    );
  const percents = [...new Set([...STAGES, ...found.stages.map((one) => one.percent)])].sort(
    (one, other) => one - other,
  );
  const stage = (percent) => {
    const at = found.stages.findLast((one) => one.percent === percent);
    return h(
      'li',
      { data: { reached: Boolean(at), key: String(percent) } },
      h('strong', null, `${percent} %`),
      at ? state(at.state, 'STAGE_STATE_') : 'not reached',
      at ? h('p', null, at.verdict || 'waits for outcomes') : null,
      at && at.canary?.outcomes !== '0'
        ? h(
            'p',
            null,
            `${whole(at.canary?.outcomes)} of ${whole(at.needed)} outcomes`,
            at.lift === undefined ? null : `, lift ${change(at.lift)}`,
            at.pHarm === undefined ? null : `, p of harm ${digits(at.pHarm)} (harm below ${digits(at.alpha)})`,
          )
        : null,
    );
  };
  return [
    facts([
      ['Version', `${found.version} in place of ${found.control}`],
      ['Outcome', found.outcome === 'active' ? 'it became active' : found.outcome || 'it goes on'],
      ['Began', time(found.beganAt)],
      found.endedAt ? ['Ended', time(found.endedAt)] : null,
      found.reason ? ['Why', found.reason] : null,
    ]),
    h('ol', { class: 'stages', 'aria-label': 'Stages by their share of the consumers' }, percents.map(stage)),
  ];
}

function versions(it, chosen, redraw, show) {
  const failed = (one) => one.criteria.filter((criterion) => criterion.verdict === 'CRITERION_VERDICT_FAIL');
  return [
    table(
      {
        name: 'Versions',
        key: (one) => one.version,
        chosen: (one) => one.version === chosen,
        redraw,
        empty: empty('None was calculated yet.', 'genesisctl matrix update --reason TEXT'),
      },
      [
        {
          label: 'Version',
          number: true,
          cell: (one) => (one.kept ? link(one.version, () => show(one.version), one.version === chosen) : one.version),
          sort: (one) => Number(one.version),
        },
        { label: 'State', cell: (one) => state(one.state, 'MATRIX_STATE_'), sort: (one) => one.state },
        { label: 'Calculated', cell: (one) => time(one.calculatedAt), sort: (one) => one.calculatedAt },
        { label: 'Series', number: true, cell: (one) => one.series, sort: (one) => one.series },
        {
          label: 'Criteria',
          words: true,
          cell: (one) =>
            failed(one).length === 0
              ? `${one.criteria.filter((it) => it.verdict === 'CRITERION_VERDICT_PASS').length} of ${one.criteria.length} passed, none failed`
              : failed(one)
                  .map(
                    (criterion) =>
                      `${criterion.name}: ${criterion.detail || `${digits(criterion.value)}, ${criterion.atLeast ? 'at least' : 'at most'} ${digits(criterion.limit)}`}`,
                  )
                  .join('; '),
        },
        {
          label: 'Moved most',
          cell: (one) =>
            one.worst[0]
              ? `${one.worst[0].one}/${one.worst[0].other} ${written(one.worst[0].oldValue)} → ${written(one.worst[0].newValue)}`
              : '-',
        },
        { label: 'Active', cell: (one) => time(one.activatedAt), sort: (one) => one.activatedAt ?? '' },
        {
          label: 'Ended',
          words: true,
          cell: (one) => (one.endedAt ? [time(one.endedAt), one.endedReason ? ` ${one.endedReason}` : null] : '-'),
        },
        { label: 'By', cell: (one) => one.by },
        { label: 'Reason', words: true, cell: (one) => one.reason },
      ],
      it.versions,
    ),
    h('p', { class: 'muted' }, 'The next is calculated ', time(it.nextUpdateAt), '.'),
  ];
}

function series(it, redraw) {
  return [
    table(
      {
        name: 'Series',
        key: (one) => one.name,
        redraw,
        empty: empty('None was sent yet.', 'genesisctl series push --file FILE.csv'),
      },
      [
        { label: 'Series', cell: (one) => one.name, sort: (one) => one.name },
        { label: 'Kind', cell: (one) => word(one.kind, 'SERIES_KIND_').toLowerCase() },
        { label: 'Used', cell: (one) => (one.used ? 'yes' : 'no') },
        { label: 'First', cell: (one) => time(one.firstAt), sort: (one) => one.firstAt ?? '' },
        { label: 'Last', cell: (one) => time(one.lastAt), sort: (one) => one.lastAt ?? '' },
        {
          label: 'Last value',
          number: true,
          cell: (one) => Number(one.lastValue.toPrecision(8)),
          sort: (one) => one.lastValue,
        },
        { label: 'Values', number: true, cell: (one) => whole(one.points), sort: (one) => Number(one.points) },
        { label: 'Missing', number: true, cell: (one) => whole(one.missing), sort: (one) => Number(one.missing) },
        { label: 'Gaps', number: true, cell: (one) => whole(one.gaps), sort: (one) => Number(one.gaps) },
      ],
      it.series,
    ),
    h('p', { class: 'muted' }, `${bytes(it.fileBytes)} on the disk.`),
  ];
}
