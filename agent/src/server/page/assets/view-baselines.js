// Baselines: how long operations take, and how far that is from what is usual.

import { details, facts, h, link, list, state, table, word } from './dom.js';
import { figure, lines } from './charts.js';
import { empty, section } from './parts.js';
import { bytes, counted, digits, duration, seconds, span, time, whole } from './text.js';

const page = (name, operation, more = '') => `baselines/${name}?operation=${encodeURIComponent(operation)}${more}`;
const COLOURS = ['c1', 'c2', 'c3'];
const DASHES = [undefined, [8, 4], [2, 3]];

export const baselines = {
  lead: 'How long operations take, against what is usual for them. An episode begins when windows leave it by more than chance explains.',
  commands: ['genesisctl baseline list', 'genesisctl baseline show OPERATION'],
  pages: (operation) => [
    'baselines/status',
    'baselines/anomalies',
    ...(operation ? [page('operation', operation), page('history', operation)] : []),
  ],
  // The first one is shown as if it had been chosen, so that nobody looks at half a page.
  first: (get) => get('baselines/status')?.data?.operations[0]?.operation,
  draw(get, { argument, redraw, show }) {
    return [
      section(
        get,
        'Operations',
        'baselines/status',
        (it) => operations(it, argument, redraw, show),
        (it) => `${it.operations.length}`,
      ),
      argument ? section(get, `What is usual for ${argument}`, page('operation', argument), distribution) : null,
      argument ? section(get, 'Windows against what is usual', page('operation', argument), windows) : null,
      section(
        get,
        'Episodes',
        'baselines/anomalies',
        (it) => episodes(it.episodes, redraw),
        (it) => `the latest ${it.episodes.length}`,
      ),
      argument
        ? section(get, 'Earlier baselines', page('history', argument), (it) => generations(it.baselines, redraw))
        : null,
    ];
  },
};

const quantile = (baseline, wanted) => baseline?.quantiles.find((one) => one.quantile === wanted);
const named = (quantile) => `p${Math.round(quantile * 100)}`;
const judged = (window, wanted) => window?.judgements.find((one) => one.quantile === wanted);

/** The judgement that is furthest from what is usual. */
function furthest(window) {
  const all = window?.judgements ?? [];
  return [...all].sort((one, other) => Math.abs(other.z) - Math.abs(one.z))[0];
}

function operations(it, chosen, redraw, show) {
  const away = (one) => {
    const found = furthest(one.window);
    return found && found.usualSeconds > 0 ? found.seconds / found.usualSeconds - 1 : undefined;
  };
  return [
    table(
      {
        name: 'Operations',
        key: (one) => one.operation,
        chosen: (one) => one.operation === chosen,
        redraw,
        empty: empty(
          'Nothing was observed yet. Services send how long their operations take, or send a file:',
          'genesisctl observe --file FILE.csv',
        ),
      },
      [
        {
          label: 'Operation',
          cell: (one) => link(one.operation, () => show(one.operation), one.operation === chosen),
          sort: (one) => one.operation,
        },
        { label: 'State', cell: (one) => state(one.state, 'BASELINE_STATE_'), sort: (one) => one.state },
        ...[0.5, 0.95, 0.99].map((wanted) => ({
          label: `Usual ${named(wanted)}`,
          number: true,
          cell: (one) => span(quantile(one.baseline, wanted)?.seconds),
          sort: (one) => quantile(one.baseline, wanted)?.seconds,
        })),
        {
          label: 'Furthest from it',
          cell: (one) => {
            const found = furthest(one.window);
            return found ? `${named(found.quantile)} ${span(found.seconds)}` : '-';
          },
        },
        {
          label: 'By',
          number: true,
          cell: (one) => {
            const found = away(one);
            return found === undefined ? '-' : `${found > 0 ? '+' : ''}${digits(found * 100)} %`;
          },
          sort: away,
        },
        {
          label: 'z',
          number: true,
          cell: (one) => digits(furthest(one.window)?.z),
          sort: (one) => Math.abs(furthest(one.window)?.z ?? 0),
        },
        { label: 'Not judged', words: true, cell: (one) => one.window?.notJudged },
        { label: 'Calls', number: true, cell: (one) => whole(one.observed), sort: (one) => Number(one.observed) },
        { label: 'Last', cell: (one) => time(one.lastObservedAt), sort: (one) => one.lastObservedAt ?? '' },
      ],
      it.operations,
    ),
    h(
      'p',
      { class: 'muted' },
      `Single calls take ${bytes(it.rawBytes)} of ${bytes(it.rawQuotaBytes)}; baselines are calculated anew `,
      time(it.nextRecalculationAt),
      '.',
    ),
  ];
}

/** Shares of the calls by how long they took, in bins of equal width on a logarithmic axis. */
function bins(sketch) {
  const base = 2 ** (2 ** sketch.level / 64);
  const merged = Math.max(1, Math.ceil(sketch.counts.length / 48));
  const counts = sketch.counts.map(Number);
  const total = counts.reduce((sum, one) => sum + one, 0);
  const found = [];
  for (let at = 0; at < counts.length; at += merged) {
    const calls = counts.slice(at, at + merged).reduce((sum, one) => sum + one, 0);
    found.push({
      from: base ** (sketch.offset - 1 + at),
      until: base ** (sketch.offset - 1 + at + merged),
      calls,
      share: calls / total,
    });
  }
  return found;
}

function distribution(it) {
  const { baseline } = it.operation;
  if (!baseline || !it.sketch || it.sketch.counts.length === 0)
    return h(
      'p',
      { class: 'empty' },
      ...empty(
        'It has no baseline yet: it takes some days of observations, or',
        'genesisctl baseline recalculate --operation OPERATION',
      ),
    );
  const found = bins(it.sketch);
  const said = `Of ${whole(baseline.count)} calls half took less than ${span(quantile(baseline, 0.5)?.seconds)}, 95 % less than ${span(quantile(baseline, 0.95)?.seconds)}, 99 % less than ${span(quantile(baseline, 0.99)?.seconds)}; the longest ${span(baseline.maxSeconds)}.`;
  const last = found[found.length - 1];
  const plot = lines({
    key: 'distribution',
    label: said,
    log: true,
    from_zero: true,
    x: [...found.map((one) => one.from), last.until],
    x_label: 'took',
    x_format: span,
    x_range: [found[0].from, last.until],
    format: (share) => `${digits(share * 100)} %`,
    series: [
      {
        label: 'calls',
        values: [...found.map((one) => one.share), 0],
        colour: 'c1',
        fill: 'c-soft',
        step: true,
        points: false,
        width: 1.5,
      },
    ],
    marks: baseline.quantiles.map((one) => ({ x: one.seconds, text: `${named(one.quantile)} ${span(one.seconds)}` })),
  });
  return [
    facts([
      ['Calls', whole(baseline.count)],
      ...baseline.quantiles.map((one) => [
        named(one.quantile),
        h(
          'span',
          { title: one.lowN ? 'too few values for it' : 'with 95 % confidence' },
          `${span(one.seconds)} (${span(one.lowSeconds)} to ${span(one.highSeconds)})`,
        ),
      ]),
      ['Mean, deviation', `${span(baseline.meanSeconds)}, ${span(baseline.deviationSeconds)}`],
      ['Generation', `${baseline.generation}, ${baseline.cause}`],
      ['Calculated', time(baseline.calculatedAt)],
      ['Of', [time(baseline.from), ' to ', time(baseline.until)]],
    ]),
    figure(
      'distribution',
      said,
      plot,
      table(
        { name: 'Calls by how long they took', empty: '' },
        [
          { label: 'From', number: true, cell: (one) => span(one.from) },
          { label: 'Until', number: true, cell: (one) => span(one.until) },
          { label: 'Calls', number: true, cell: (one) => whole(one.calls) },
          { label: 'Share', number: true, cell: (one) => `${digits(one.share * 100)} %` },
        ],
        found,
      ),
    ),
  ];
}

function windows(it) {
  const all = [...it.windows].reverse();
  if (all.length === 0) return h('p', { class: 'empty' }, 'No window is over yet; one lasts some minutes.');
  const kinds = [0.5, 0.95, 0.99].filter((wanted) => all.some((one) => judged(one, wanted)));
  const latest = all[all.length - 1];
  const said = `${counted(all.length, 'window')} of ${duration(latest.length)}. The latest has ${whole(latest.count)} calls${latest.judgements.length > 0 ? `: ${latest.judgements.map((one) => `${named(one.quantile)} ${span(one.seconds)}, usually ${span(one.usualSeconds)}`).join('; ')}` : ''}${latest.notJudged ? ` (not judged: ${latest.notJudged})` : ''}.`;
  const step = seconds(latest.length) || 300;
  const starts = all.map((one) => Date.parse(one.start) / 1000);
  // What is usual holds for the whole of a window: it is drawn as steps, up to the end of the last one.
  const x = [...starts, starts[starts.length - 1] + step];
  const series = kinds.flatMap((wanted, at) => [
    {
      label: named(wanted),
      values: [...all.map((one) => judged(one, wanted)?.seconds ?? null), null],
      colour: COLOURS[at],
      dash: DASHES[at],
    },
    {
      label: `usual ${named(wanted)}`,
      values: [...all, latest].map((one) => judged(one, wanted)?.usualSeconds ?? null),
      colour: COLOURS[at],
      width: 1.5,
      dash: [3, 4],
      points: false,
      step: true,
    },
  ]);
  const plot = lines({
    key: 'windows',
    label: said,
    time: true,
    x,
    x_range: [Math.min(x[0] - step / 2, x[x.length - 1] - 12 * step), x[x.length - 1] + step / 2],
    format: span,
    from_zero: true,
    series,
  });
  const rows = it.windows;
  const numbers = table(
    { name: 'Windows', key: (one) => one.start, empty: '' },
    [
      { label: 'From', cell: (one) => time(one.start) },
      { label: 'Calls', number: true, cell: (one) => whole(one.count) },
      ...kinds.flatMap((wanted) => [
        { label: named(wanted), number: true, cell: (one) => span(judged(one, wanted)?.seconds) },
        { label: 'usual', number: true, cell: (one) => span(judged(one, wanted)?.usualSeconds) },
        { label: 'z', number: true, cell: (one) => digits(judged(one, wanted)?.z) },
        { label: 'p', number: true, cell: (one) => digits(judged(one, wanted)?.p) },
      ]),
      {
        label: 'Candidate',
        cell: (one) =>
          one.judgements
            .filter((found) => found.candidate)
            .map((found) => named(found.quantile))
            .join(', '),
      },
      { label: 'Not judged', words: true, cell: (one) => one.notJudged },
    ],
    rows,
  );
  return figure('windows', said, plot, numbers);
}

function episodes(rows, redraw) {
  return table(
    {
      name: 'Episodes',
      key: (one) => one.id,
      redraw,
      empty: empty(
        'No operation has left what is usual, as far back as that is kept.',
        'genesisctl baseline anomalies --candidates',
      ),
    },
    [
      { label: 'Operation', cell: (one) => one.operation, sort: (one) => one.operation },
      { label: 'Since', cell: (one) => time(one.since), sort: (one) => one.since },
      {
        label: 'Until',
        cell: (one) =>
          one.ended ? [time(one.until), ` ${one.ended}`] : state('BASELINE_STATE_DEGRADED', 'BASELINE_STATE_'),
        sort: (one) => one.until ?? '',
      },
      { label: 'Quantile', cell: (one) => named(one.quantile) },
      { label: 'Usual', number: true, cell: (one) => span(one.usualSeconds) },
      { label: 'At worst', number: true, cell: (one) => span(one.worstSeconds), sort: (one) => one.worstSeconds },
      { label: 'z', number: true, cell: (one) => digits(one.worstZ), sort: (one) => one.worstZ },
      {
        label: 'What was about then',
        words: true,
        cell: (one) =>
          one.changes.length + one.surroundings.length + one.queries.length + one.rollbacks.length === 0
            ? '-'
            : details(
                `episode-${one.id}`,
                'changes, surroundings, queries',
                list([...one.changes, ...one.surroundings, ...one.queries, ...one.rollbacks]),
              ),
      },
    ],
    rows,
  );
}

function generations(rows, redraw) {
  return table(
    {
      name: 'Earlier baselines',
      key: (one) => String(one.generation),
      redraw,
      empty: empty('There is no earlier one.', 'genesisctl baseline recalculate'),
    },
    [
      { label: 'Generation', number: true, cell: (one) => one.generation, sort: (one) => one.generation },
      { label: 'Calculated', cell: (one) => time(one.calculatedAt), sort: (one) => one.calculatedAt },
      { label: 'Cause', cell: (one) => one.cause },
      { label: 'Calls', number: true, cell: (one) => whole(one.count) },
      ...[0.5, 0.95, 0.99].map((wanted) => ({
        label: named(wanted),
        number: true,
        cell: (one) => span(quantile(one, wanted)?.seconds),
        sort: (one) => quantile(one, wanted)?.seconds,
      })),
      { label: 'By', cell: (one) => one.by },
      { label: 'Reason', words: true, cell: (one) => one.reason },
    ],
    rows,
  );
}
