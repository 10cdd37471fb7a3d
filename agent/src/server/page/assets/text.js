// How times, sizes and numbers are written: the same for every reader, whatever their browser's language and zone.

import { h } from './dom.js';

// How far this computer's clock is from the agent's, by which ages are told.
let skew = 0;

/** Takes the agent's own time, as it is at this moment. */
export function clock(now) {
  const told = Date.parse(now);
  if (Number.isFinite(told)) skew = told - Date.now();
}

export const agentNow = () => Date.now() + skew;

const utc = (at) => new Date(at).toISOString();
export const hour = (at) => `${utc(at).slice(11, 19)} UTC`;

/** "12:36:14Z 3 min ago"; of another day than today "2026-11-27 12:36Z 1 d ago". All of it is in the title. */
export function time(value) {
  const at = Date.parse(value);
  if (!value || !Number.isFinite(at)) return '-';
  const element = h('time', { datetime: value, title: `${value} (UTC)` });
  fill(element, at);
  return element;
}

function fill(element, at) {
  const [day, now] = [utc(at), utc(agentNow())];
  const shown =
    day.slice(0, 10) === now.slice(0, 10) ? `${day.slice(11, 19)}Z` : `${day.slice(0, 10)} ${day.slice(11, 16)}Z`;
  const said = age(at - agentNow());
  if (element.childNodes.length === 3 && element.firstChild.data === shown) {
    if (element.lastChild.textContent !== said) element.lastChild.textContent = said;
    return;
  }
  element.replaceChildren(shown, ' ', h('span', { class: 'age' }, said));
}

/** Tells ages anew, also of times that the agent wrote into the page itself. */
export function tick(root) {
  for (const element of root.querySelectorAll('time[datetime]')) {
    const at = Date.parse(element.dateTime);
    if (Number.isFinite(at)) fill(element, at);
  }
}

function age(difference) {
  const text = span(Math.abs(difference) / 1000, true);
  if (Math.abs(difference) < 1000) return 'now';
  return difference < 0 ? `${text} ago` : `in ${text}`;
}

const UNITS = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
  [1, 's'],
];

/** A time in seconds, in two units at the most; `coarse`: in one. */
export function span(seconds, coarse) {
  if (!Number.isFinite(seconds)) return '-';
  const sign = seconds < 0 ? '-' : '';
  const size = Math.abs(seconds);
  if (size === 0) return '0 s';
  if (size < 1e-3 && !coarse) return `${sign}${digits(size * 1e6)} µs`;
  if (size < 1 && !coarse) return `${sign}${digits(size * 1e3)} ms`;
  if (size < 60) return `${sign}${coarse ? Math.floor(size) : digits(size)} s`;
  const at = UNITS.findIndex(([unit]) => size >= unit);
  const [unit, name] = UNITS[at];
  const whole = Math.floor(size / unit);
  const rest = at + 1 < UNITS.length ? Math.floor((size - whole * unit) / UNITS[at + 1][0]) : 0;
  return `${sign}${whole} ${name}${rest > 0 && !coarse ? ` ${rest} ${UNITS[at + 1][1]}` : ''}`;
}

/** The seconds of a duration in protobuf JSON, such as "1.5s". */
export const seconds = (value) => (typeof value === 'string' && value.endsWith('s') ? Number(value.slice(0, -1)) : NaN);
export const duration = (value) => (value ? span(seconds(value)) : '-');

/** How long something took, from its two times; of what goes on, until now. */
export function took(from, until) {
  if (!from) return '-';
  return span(((until ? Date.parse(until) : agentNow()) - Date.parse(from)) / 1000);
}

/** Three digits that count. */
export function digits(value) {
  if (!Number.isFinite(value)) return '-';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return Number(value.toPrecision(3)).toExponential().replace('e+', 'e');
  return size >= 100 ? Math.round(value).toString() : Number(value.toPrecision(3)).toString();
}

/** A whole number, which protobuf JSON has as text: "12,000". */
export function whole(value) {
  if (value === undefined || value === null || value === '') return '-';
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

export function bytes(value) {
  let size = Number(value ?? NaN);
  if (!Number.isFinite(size)) return '-';
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB']) {
    if (size < 1000 || unit === 'TB') return `${unit === 'B' ? size : digits(size)} ${unit}`;
    size /= 1000;
  }
}

/** "1 window", "2 windows". */
export const counted = (count, what) => `${whole(count)} ${what}${Number(count) === 1 ? '' : 's'}`;

/** A share as percent, never rounded up to a goal that was not reached. */
export const percent = (value) =>
  Number.isFinite(value) ? `${(Math.floor(value * 1e4) / 100).toFixed(2)} %` : 'no data';
/** A change as percent, with its sign. */
export const change = (value) =>
  Number.isFinite(value) ? `${value > 0 ? '+' : ''}${(value * 100).toFixed(2)} %` : '-';
