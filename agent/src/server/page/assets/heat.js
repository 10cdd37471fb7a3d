// A matrix of correlations as a heat map: one canvas, since there may be hundreds of series, that is walked through by
// mouse or arrow keys.

import { colour } from './charts.js';
import { clean, h } from './dom.js';

const FONT = '12px system-ui, sans-serif';
const SMALL = '11px system-ui, sans-serif';
/** By how much names of columns lean where there is no room for them. */
const SLANT = Math.PI / 3;

const HINT = 'Point at a pair, or go to it with the arrow keys.';

/** The value of a pair from what lies above the diagonal, row by row. */
export function pair(matrix, row, column) {
  if (row === column) return 1;
  const [one, other] = row < column ? [row, column] : [column, row];
  const n = matrix.series.length;
  return matrix.upper[one * n - (one * (one + 1)) / 2 + (other - one - 1)];
}

/** Two decimals with a sign that is as wide as the other. */
export const written = (value) =>
  Number.isFinite(value) ? `${value < 0 ? '\u2212' : '+'}${Math.abs(value).toFixed(2)}` : 'none';

export function heat(matrix) {
  const element = h('genesis-heat', { class: 'heat', data: { key: 'heat' } });
  element.wanted = matrix;
  return element;
}

// As the charts': only what comes into the page watches it.
class Heat extends HTMLElement {
  #canvas = h('canvas', { tabindex: '0', role: 'application', 'aria-roledescription': 'heat map' });
  #said = h('p', { class: 'pair', role: 'status' }, HINT);
  /** The pair that was chosen, as row and column. */
  #at = null;
  /** Where cells lie. */
  #place = null;
  #redraw = () => this.#draw();
  #observer = new ResizeObserver(this.#redraw);

  constructor() {
    super();
    this.#canvas.addEventListener('pointermove', (event) => this.#point(event));
    this.#canvas.addEventListener('focus', () => {
      if (!this.#at && this.#place?.n > 1) this.#choose(0, 1);
    });
    this.#canvas.addEventListener('keydown', (event) => this.#step(event));
  }

  connectedCallback() {
    this.#label();
    this.replaceChildren(
      this.#canvas,
      h('div', { class: 'scale', 'aria-hidden': 'true' }, '\u22121', h('i'), '+1'),
      this.#said,
    );
    this.#observer.observe(this);
    addEventListener('recolour', this.#redraw);
  }

  disconnectedCallback() {
    this.#observer.disconnect();
    removeEventListener('recolour', this.#redraw);
  }

  /** For morph(). */
  apply(wanted) {
    const same = wanted.digest === this.wanted.digest && wanted.version === this.wanted.version;
    this.wanted = wanted;
    if (same) return;
    this.#at = null;
    this.#said.textContent = HINT;
    this.#label();
    this.#draw();
  }

  #label() {
    const text = `Correlations of ${this.wanted.series.length} series; arrow keys go from pair to pair`;
    this.#canvas.setAttribute('aria-label', text);
  }

  #choose(row, column) {
    const [one, other] = [this.wanted.series[row], this.wanted.series[column]].map(clean);
    this.#at = [row, column];
    this.#said.textContent =
      row === column ? `${one} with itself: 1` : `${one} and ${other}: ${written(pair(this.wanted, row, column))}`;
    this.#draw();
  }

  #point(event) {
    const place = this.#place;
    if (!place) return;
    const column = Math.floor((event.offsetX - place.margin) / place.cell);
    const row = Math.floor((event.offsetY - place.head) / place.high);
    if (row < 0 || column < 0 || row >= place.n || column >= place.n) return;
    if (this.#at?.[0] !== row || this.#at?.[1] !== column) this.#choose(row, column);
  }

  #step(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const { n } = this.#place ?? {};
    if (!step || !n) return;
    event.preventDefault();
    const [row, column] = this.#at ?? [0, 0];
    this.#choose((row + step[0] + n) % n, (column + step[1] + n) % n);
  }

  #draw() {
    const canvas = this.#canvas;
    const { series } = this.wanted;
    const n = series.length;
    const room = Math.floor(this.clientWidth);
    if (!this.isConnected || room < 40 || n === 0) return;
    const ctx = canvas.getContext('2d');
    ctx.font = FONT;
    const most = room < 480 ? 8 : 14;
    const names = series.map((name) => cut(clean(name), most));
    const widest = Math.ceil(Math.max(...names.map((name) => ctx.measureText(name).width)));
    const named = (room - widest - 8) / n >= 11;
    const margin = named ? widest + 8 : 0;
    const lean = Math.ceil(widest * Math.cos(SLANT));
    const fits = (width) => Math.max(2, Math.min(Math.max(52, widest + 12), Math.floor(width / n)));
    // Names lean where they don't fit, and the last one then leans out over the last column.
    const slanted = named && fits(room - margin) < widest + 6;
    const cell = fits(room - margin - (slanted ? lean : 0));
    const high = Math.max(2, Math.min(34, cell));
    const head = !named ? 0 : slanted ? Math.ceil(widest * Math.sin(SLANT)) + 16 : 22;
    const scale = devicePixelRatio || 1;
    const [width, height] = [margin + cell * n + (slanted ? lean : 0), head + high * n];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    this.#place = { margin, head, cell, high, n };
    ctx.scale(scale, scale);
    const ends = { low: rgb(colour('low')), mid: rgb(colour('mid')), high: rgb(colour('high')) };
    const [text, muted, edge] = [colour('text'), colour('muted'), colour('card')];
    ctx.font = FONT;
    ctx.textBaseline = 'middle';
    if (named) {
      ctx.fillStyle = text;
      names.forEach((name, index) => {
        ctx.textAlign = 'right';
        ctx.fillText(names[index], margin - 6, head + high * (index + 0.5));
        ctx.save();
        ctx.translate(margin + cell * (index + 0.5), head - (slanted ? 6 : 11));
        if (slanted) ctx.rotate(-SLANT);
        ctx.textAlign = slanted ? 'left' : 'center';
        ctx.fillText(name, 0, 0);
        ctx.restore();
      });
    }
    const gap = cell > 6 ? 1 : 0;
    for (let row = 0; row < n; row += 1) {
      for (let column = 0; column < n; column += 1) {
        const value = pair(this.wanted, row, column);
        const [x, y] = [margin + cell * column, head + high * row];
        const fill = Number.isFinite(value) ? mix(ends, value) : null;
        ctx.fillStyle = fill ? `rgb(${fill.join(' ')})` : edge;
        ctx.fillRect(x, y, cell - gap, high - gap);
        if (cell >= 34 && high >= 16) {
          ctx.font = cell < 44 ? SMALL : FONT;
          ctx.fillStyle = !fill ? muted : light(fill) ? '#10151b' : '#ffffff';
          ctx.textAlign = 'center';
          ctx.fillText(written(value), x + cell / 2, y + high / 2);
        }
      }
    }
    if (this.#at) {
      ctx.strokeStyle = text;
      ctx.lineWidth = 2;
      ctx.strokeRect(margin + cell * this.#at[1], head + high * this.#at[0], cell - gap, high - gap);
    }
  }
}

const cut = (name, letters) => (name.length > letters ? `${name.slice(0, letters - 1)}\u2026` : name);
const rgb = (text) =>
  text
    .match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);

// From -1 over the middle to 1. The middle is the page's own ground, so that what is far from 0 stands out in dark, too.
function mix({ low, mid, high }, value) {
  const end = value < 0 ? low : high;
  const share = Math.min(1, Math.abs(value));
  return mid.map((one, index) => Math.round(one + (end[index] - one) * share));
}

const light = ([red, green, blue]) => red * 0.299 + green * 0.587 + blue * 0.114 > 140;

customElements.define('genesis-heat', Heat);
