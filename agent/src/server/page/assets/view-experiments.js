// Experiments: which values are tried, and what the evidence is.

import { badge, code, details, facts, h, id, link, meter, state, table, word } from './dom.js';
import { figure, lines } from './charts.js';
import { empty, section } from './parts.js';
import { change, digits, time, whole } from './text.js';

const STATE = 'EXPERIMENT_STATE_';
const one_of = (name) => `experiments/experiment?id=${encodeURIComponent(name)}`;

export const experiments = {
  lead: 'Strategies try other values of their parameters on a share of their units. Evidence promotes them, or rolls them back.',
  commands: ['genesisctl experiment list', 'genesisctl experiment show TEST_1', 'genesisctl param list'],
  pages: (name) => ['experiments/status', 'experiments/parameters', ...(name ? [one_of(name)] : [])],
  first: (get) => get('experiments/status')?.data?.experiments[0]?.id,
  draw(get, { argument, redraw, show }) {
    return [
      section(
        get,
        'Experiments',
        'experiments/status',
        (it) => all(it, argument, redraw, show),
        (it) => `${it.experiments.length}`,
      ),
      argument ? section(get, argument, one_of(argument), one) : null,
      argument ? section(get, 'Evidence over looks', one_of(argument), curves) : null,
      section(
        get,
        'Parameters',
        'experiments/parameters',
        (it) => parameters(it, redraw),
        (it) => `${it.parameters.length}`,
      ),
    ];
  },
};

const trial = (it) => it.definition.parameters.map((one) => `${one.name} ${one.control} → ${one.variant}`).join(', ');

function all(it, chosen, redraw, show) {
  return table(
    {
      name: 'Experiments',
      key: (one) => one.id,
      chosen: (one) => one.id === chosen,
      redraw,
      empty: empty('There is none yet.', 'genesisctl experiment create --help'),
    },
    [
      {
        label: 'Test',
        cell: (one) => link(one.id, () => show(one.id), one.id === chosen),
        sort: (one) => one.startedAt,
      },
      { label: 'State', cell: (one) => state(one.state, STATE), sort: (one) => one.state },
      { label: 'Strategy', cell: (one) => one.definition.strategy, sort: (one) => one.definition.strategy },
      { label: 'What is tried', words: true, cell: trial },
      {
        label: 'Trades',
        number: true,
        cell: (one) => `${whole(one.control?.n)} / ${whole(one.variant?.n)}`,
        sort: (one) => Number(one.control?.n),
      },
      { label: 'Lift', number: true, cell: (one) => change(one.look?.lift), sort: (one) => one.look?.lift },
      {
        label: 'p over all looks',
        number: true,
        cell: (one) => digits(one.look?.pSequential),
        sort: (one) => one.look?.pSequential,
      },
      { label: 'Decision', cell: (one) => one.look?.decision?.name },
      { label: 'Started', cell: (one) => time(one.startedAt), sort: (one) => one.startedAt },
      { label: 'Ended', cell: (one) => time(one.conclusion?.at), sort: (one) => one.conclusion?.at ?? '' },
    ],
    it.experiments,
  );
}

function one({ experiment: it, table: rules }) {
  const { look, definition } = it;
  const most = Math.max(1, Number(it.control?.n), Number(it.variant?.n));
  const arms = [
    ['Control', it.control, definition.parameters.map((at) => at.control), false],
    ['Variant', it.variant, definition.parameters.map((at) => at.variant), true],
  ];
  return [
    facts([
      ['State', state(it.state, STATE)],
      ['Strategy', definition.strategy],
      ['What is tried', trial(it)],
      ['Share of the variant', `${definition.variantBasisPoints / 100} %`],
      ['Design', word(definition.design, 'EXPERIMENT_DESIGN_').toLowerCase()],
      [
        'Lift',
        look
          ? look.lift === undefined
            ? look.liftUndefined || '-'
            : `${change(look.lift)} (${change(look.liftLow)} to ${change(look.liftHigh)})`
          : '-',
      ],
      ['p over all looks', digits(look?.pSequential)],
      ['Effect (Cohen\u2019s d)', digits(look?.d)],
      ['Reason', it.reason],
      ['Definition', id(definition.hash)],
    ]),
    table(
      { name: 'Arms', key: ([name]) => name, empty: '' },
      [
        { label: 'Arm', cell: ([name]) => name },
        { label: 'Value', cell: ([, , values]) => values.join(', ') },
        {
          label: 'Trades',
          number: true,
          cell: ([, arm, , second]) => [meter(Number(arm?.n) / most, second), whole(arm?.n)],
        },
        { label: 'Mean', number: true, cell: ([, arm]) => digits(arm?.mean) },
        {
          label: 'Where it lies',
          number: true,
          cell: ([, arm]) => (arm?.meanLow === undefined ? '-' : `${digits(arm.meanLow)} to ${digits(arm.meanHigh)}`),
        },
        { label: 'Deviation', number: true, cell: ([, arm]) => digits(arm?.deviation) },
      ],
      arms,
    ),
    look?.decision
      ? h(
          'p',
          null,
          h('strong', null, `${it.conclusion ? 'Decided' : 'For now'}: ${look.decision.name}`),
          ` (line ${look.decision.line}): ${look.decision.text}.`,
        )
      : h(
          'p',
          { class: 'empty' },
          ...empty('Nothing was looked at yet: it takes trades.', 'genesisctl trades push --file FILE.csv'),
        ),
    details(
      'rules',
      'The whole decision table, as it holds now',
      h(
        'ol',
        null,
        (rules ?? []).map((line) =>
          h(
            'li',
            null,
            h('strong', null, line.name),
            `: ${line.text}`,
            line.alternatives.map((ways) =>
              h(
                'ul',
                { class: 'plain' },
                ways.conditions.map((at) => h('li', null, badge(at.holds ? 'yes' : 'no'), ` ${at.text}`)),
              ),
            ),
          ),
        ),
      ),
    ),
  ];
}

function curves({ experiment: it, curve }) {
  const points = curve.filter((at) => Number.isFinite(at.pSequential));
  if (points.length === 0)
    return h(
      'p',
      { class: 'empty' },
      ...empty('There was no look yet: it takes trades.', 'genesisctl trades push --file FILE.csv'),
    );
  const { rules } = it.definition;
  // Several looks may see the same number of trades in the smaller arm; the last one of them counts.
  const kept = [...new Map(points.map((at) => [Number(at.trades), at])).values()].sort(
    (one, other) => Number(one.trades) - Number(other.trades),
  );
  const x = kept.map((at) => Number(at.trades));
  const last = kept[kept.length - 1];
  const x_range = [0, Math.max(x[x.length - 1] * 1.06, Number(rules.leastTrades) * 1.1)];
  const of = `${kept.length === 1 ? 'One look' : `${kept.length} looks`}, the last at ${whole(last.trades)} trades in the smaller arm`;
  const p_said = `${of}: p over all looks ${digits(last.pSequential)}; below ${digits(rules.alpha)} it is evidence of a difference.`;
  const lift_said = `${of}: lift ${change(last.lift)}${it.look?.liftLow === undefined ? '' : `, which lies between ${change(it.look.liftLow)} and ${change(it.look.liftHigh)}`}; promoted from ${change(rules.promoteLift)}, rolled back from ${change(rules.rollbackLift)}.`;
  const marks = [{ x: Number(rules.leastTrades), text: 'decided from here' }];
  const common = { x, x_range, x_label: 'trades', x_format: (at) => whole(Math.round(at)), marks, marks_below: true };
  const p_plot = lines({
    ...common,
    key: 'p',
    label: p_said,
    y_log: true,
    format: digits,
    series: [{ label: 'p over all looks', values: kept.map((at) => Math.max(at.pSequential, 1e-12)), colour: 'c1' }],
    levels: [{ y: rules.alpha, text: `evidence below ${digits(rules.alpha)}`, colour: 'c2' }],
  });
  const span =
    it.look?.liftLow === undefined
      ? []
      : [{ x: x[x.length - 1], low: it.look.liftLow, high: it.look.liftHigh, colour: 'c1' }];
  const lift_plot = lines({
    ...common,
    key: 'lift',
    label: lift_said,
    format: (at) => `${at > 0 ? '+' : ''}${digits(at * 100)} %`,
    series: [{ label: 'lift', values: kept.map((at) => at.lift ?? null), colour: 'c1' }],
    levels: [
      { y: rules.promoteLift, text: 'promoted from here', colour: 'c3' },
      { y: rules.rollbackLift, text: 'rolled back below', colour: 'c2' },
    ],
    spans: span,
  });
  return [
    h('div', { class: 'columns' }, figure('p', p_said, p_plot), figure('lift', lift_said, lift_plot)),
    details(
      'looks',
      'Numbers',
      table(
        { name: 'Looks', empty: '' },
        [
          { label: 'At', cell: (at) => time(at.at) },
          { label: 'Trades', number: true, cell: (at) => whole(at.trades) },
          { label: 'p over all looks', number: true, cell: (at) => digits(at.pSequential) },
          { label: 'Lift', number: true, cell: (at) => change(at.lift) },
        ],
        [...points].reverse(),
      ),
    ),
  ];
}

function parameters(it, redraw) {
  return table(
    {
      name: 'Parameters',
      key: (one) => `${one.strategy}.${one.name}`,
      redraw,
      empty: empty('None was set yet.', 'genesisctl param set --strategy STRATEGY NAME=VALUE --reason TEXT'),
    },
    [
      { label: 'Strategy', cell: (one) => one.strategy, sort: (one) => one.strategy },
      { label: 'Parameter', cell: (one) => one.name, sort: (one) => one.name },
      { label: 'Value', cell: (one) => code(one.value) },
      { label: 'Version', number: true, cell: (one) => one.version },
      { label: 'Since', cell: (one) => time(one.setAt), sort: (one) => one.setAt },
      { label: 'Cause', cell: (one) => `${one.cause}${one.experiment ? ` by ${one.experiment}` : ''}` },
      { label: 'By', cell: (one) => one.setBy },
      { label: 'In test', cell: (one) => one.inTest },
      { label: 'Reason', words: true, cell: (one) => one.reason },
    ],
    it.parameters,
  );
}
