// Charts by uPlot, which is loaded when the first one is shown. Each has a line that says what it shows, and its numbers
// as a table.

import { details, h } from './dom.js';
import { digits } from './text.js';

let loading;
function library() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(
      h('link', { rel: 'stylesheet', href: '/assets/uplot.css' }),
      h('script', {
        src: '/assets/uplot.js',
        onload: () => resolve(globalThis.uPlot),
        onerror: () => reject(new Error('uplot.js')),
      }),
    );
  });
  return loading;
}

/** A colour of page.css as it is now, in light or dark. */
export function colour(name) {
  const probe = h('span', { style: { color: `var(--${name})` } });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** A figure: what it shows in a line, the drawing, and the numbers. `body` has to be an element that draws itself, or a chart's. */
export function figure(name, said, body, numbers) {
  return h(
    'figure',
    { class: 'chart', data: { key: `figure-${name}` } },
    h('figcaption', null, said),
    body,
    numbers ? details(`numbers-${name}`, 'Numbers', numbers) : null,
  );
}

/**
 * Lines over x. `spec`: { key, label, x, time?, log?, series: [{ label, values, colour, dash?, width?, points?, step?, fill? }],
 * format, x_format?, y_log?, marks?: [{ x, text }], levels?: [{ y, text, colour }], spans?: [{ x, low, high, colour }] }.
 */
export function lines(spec) {
  const element = h('genesis-plot', {
    class: 'plot',
    role: 'img',
    'aria-label': spec.label,
    data: { key: `plot-${spec.key}` },
  });
  element.wanted = spec;
  return element;
}

// An element of its own, since views are made anew with each look, and only what comes into the page may watch it.
class Plot extends HTMLElement {
  #plot = null;
  #drawn = '';
  #width = 0;
  #redraw = () => this.#draw();
  #observer = new ResizeObserver(() => {
    if (Math.floor(this.clientWidth) === this.#width) return;
    this.#width = Math.floor(this.clientWidth);
    this.#draw();
  });

  connectedCallback() {
    this.#drawn = JSON.stringify(this.wanted);
    this.#observer.observe(this);
    addEventListener('recolour', this.#redraw);
  }

  disconnectedCallback() {
    this.#observer.disconnect();
    removeEventListener('recolour', this.#redraw);
  }

  /** For morph(). */
  apply(wanted) {
    this.wanted = wanted;
    this.setAttribute('aria-label', wanted.label);
    const text = JSON.stringify(wanted);
    if (text !== this.#drawn) this.#draw();
    this.#drawn = text;
  }

  async #draw() {
    const uPlot = await library();
    const width = Math.floor(this.clientWidth);
    if (!this.isConnected || width < 40) return;
    this.#plot?.destroy();
    const { wanted } = this;
    this.#plot = new uPlot(options(uPlot, wanted, width), [wanted.x, ...wanted.series.map((one) => one.values)], this);
  }
}
customElements.define('genesis-plot', Plot);

const two = (number) => String(number).padStart(2, '0');

/** Marks of a time axis in UTC: the day where it begins, else the minute. */
function times(_, splits) {
  const coarse = splits.length > 1 && splits[1] - splits[0] >= 86_400;
  return splits.map((at, index) => {
    const day = new Date(at * 1000);
    const date = `${two(day.getUTCMonth() + 1)}-${two(day.getUTCDate())}`;
    const clock = `${two(day.getUTCHours())}:${two(day.getUTCMinutes())}`;
    if (coarse) return date;
    return index === 0 || clock === '00:00' ? `${clock}\n${date}` : clock;
  });
}

function options(uPlot, spec, width) {
  const [text, grid] = [colour('muted'), colour('line-soft')];
  const axis = {
    stroke: text,
    font: '12px system-ui, sans-serif',
    grid: { stroke: grid, width: 1 },
    ticks: { stroke: grid, width: 1, size: 4 },
  };
  const powers = spec.y_log
    ? { filter: tens, grid: { ...axis.grid, filter: tens }, ticks: { ...axis.ticks, filter: tens } }
    : {};
  const format = spec.format ?? digits;
  const x_format = spec.x_format ?? digits;
  const series = spec.series.map((one) => ({
    label: one.label,
    stroke: colour(one.colour),
    width: one.width ?? 2,
    dash: one.dash,
    fill: one.fill ? colour(one.fill) : undefined,
    paths: one.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
    points: { show: one.points ?? one.values.filter((value) => value !== null).length < 40, size: 5 },
    spanGaps: true,
    value: (_, value) => (value === null || value === undefined ? '' : format(value)),
  }));
  const y_range = (self, low, high) => reach(spec, low, high);
  return {
    width,
    height: spec.height ?? 240,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), 'Etc/UTC'),
    scales: {
      x: { time: Boolean(spec.time), distr: spec.log ? 3 : 1, range: spec.x_range },
      y: { distr: spec.y_log ? 3 : 1, range: y_range },
    },
    legend: {
      markers: {
        width: 3,
        dash: (_, index) => (spec.series[index - 1]?.dash ? 'dashed' : 'solid'),
        fill: 'transparent',
      },
    },
    cursor: { drag: { x: false, y: false }, points: { size: 7 } },
    axes: [
      {
        ...axis,
        values: spec.time ? times : (_, all) => all.map((at) => (at === null ? '' : x_format(at))),
        space: spec.time ? 64 : 56,
        size: spec.time ? 46 : 34,
        ...(spec.log ? { filter: dense } : {}),
      },
      { ...axis, values: (_, all) => all.map((at) => (at === null ? '' : format(at))), size: 66, ...powers },
    ],
    series: [
      {
        label: spec.x_label ?? (spec.time ? 'UTC' : 'x'),
        value: (_, value) =>
          value === null
            ? ''
            : spec.time
              ? new Date(value * 1000).toISOString().slice(0, 16).replace('T', ' ')
              : x_format(value),
      },
      ...series,
    ],
    // What lies still is beneath the lines, what belongs to a point is above them.
    hooks: {
      drawAxes: [
        (self) => annotate(self, { levels: spec.levels, marks: spec.marks_below ? spec.marks : [], low: true }, text),
      ],
      draw: [(self) => annotate(self, { marks: spec.marks_below ? [] : spec.marks, spans: spec.spans }, text)],
    },
  };
}

// Of a logarithmic axis over many sizes, the powers of ten.
const tens = (_, splits) =>
  splits.map((at) => (Math.abs(Math.log10(at) - Math.round(Math.log10(at))) < 1e-6 ? at : null));

// On a logarithmic axis 1, 2 and 5 are written, as far as there is room.
function dense(_, splits) {
  return splits.map((at) => ([1, 2, 5].includes(Math.round(at / 10 ** Math.floor(Math.log10(at) + 1e-9))) ? at : null));
}

// What lies beside the lines, such as a limit, is in sight too.
function reach(spec, low, high) {
  const all = [
    low,
    high,
    ...(spec.levels ?? []).map((one) => one.y),
    ...(spec.spans ?? []).flatMap((one) => [one.low, one.high]),
  ].filter((one) => Number.isFinite(one));
  let [least, most] = [Math.min(...all), Math.max(...all)];
  if (spec.y_log)
    return [10 ** Math.floor(Math.log10(Math.max(least, 1e-12))), 10 ** Math.ceil(Math.log10(Math.max(most, 1e-12)))];
  if (spec.from_zero) least = Math.min(0, least);
  const room = (most - least || Math.abs(most) || 1) * 0.08;
  return [spec.from_zero && least === 0 ? 0 : least - room, most + room];
}

function annotate(self, spec, text) {
  const { ctx, bbox } = self;
  const scale = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${12 * scale}px system-ui, sans-serif`;
  ctx.lineWidth = 1.5 * scale;
  for (const level of spec.levels ?? []) {
    const y = self.valToPos(level.y, 'y', true);
    ctx.setLineDash([6 * scale, 4 * scale]);
    ctx.strokeStyle = ctx.fillStyle = colour(level.colour ?? 'fail');
    line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    const under = y - 18 * scale < bbox.top;
    // At the end of the line that the first series is further away from.
    const left = away(self, y, 0) > away(self, y, -1);
    const x = left ? bbox.left + 6 * scale : bbox.left + bbox.width - 6 * scale;
    write(ctx, level.text, left ? 'left' : 'right', x, y + (under ? 15 : -6) * scale, scale);
  }
  ctx.setLineDash([]);
  (spec.marks ?? []).forEach((mark, at) => {
    const x = self.valToPos(mark.x, 'x', true);
    ctx.strokeStyle = text;
    line(ctx, x, bbox.top, x, bbox.top + bbox.height);
    ctx.fillStyle = text;
    const right = x + 10 * scale + ctx.measureText(mark.text).width > bbox.left + bbox.width;
    const y = spec.low ? bbox.top + bbox.height - 8 * scale : bbox.top + (14 + 17 * at) * scale;
    write(ctx, mark.text, right ? 'right' : 'left', x + (right ? -6 : 6) * scale, y, scale);
  });
  for (const span of spec.spans ?? []) {
    const [x, low, high] = [
      self.valToPos(span.x, 'x', true),
      self.valToPos(span.low, 'y', true),
      self.valToPos(span.high, 'y', true),
    ];
    ctx.strokeStyle = colour(span.colour);
    line(ctx, x, low, x, high);
    for (const y of [low, high]) line(ctx, x - 5 * scale, y, x + 5 * scale, y);
  }
  ctx.restore();
}

// How far, in pixels, the first series is from `y` at its beginning or end.
function away(self, y, at) {
  const value = self.data[1].filter((one) => one !== null && one !== undefined).at(at);
  return value === undefined ? 0 : Math.abs(self.valToPos(value, 'y', true) - y);
}

// With the ground of the page around it, so that lines behind it don't strike it through.
function write(ctx, text, align, x, y, scale) {
  ctx.save();
  ctx.setLineDash([]);
  ctx.textAlign = align;
  ctx.lineWidth = 5 * scale;
  ctx.lineJoin = 'round';
  ctx.strokeStyle = colour('card');
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
  ctx.restore();
}

function line(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
