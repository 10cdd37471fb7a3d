// The page: which view is shown, what it follows, and how fresh that is.

import { badge, clean, code, h, morph, word } from './dom.js';
import { ask, Live, PULSE } from './live.js';
import { agentNow, clock, hour, tick } from './text.js';

const VERSION = document.documentElement.dataset.version;
const el = (id) => document.getElementById(id);

/** Views, in groups: [name, title, module, domains of the agent's status that it shows]. */
const GROUPS = [
  [['overview', 'Overview', null, []]],
  [
    ['health', 'Health', 'health', ['health']],
    ['alerts', 'Alerts', 'alerts', ['alerts', 'breaker']],
    ['recovery', 'Recovery', 'recovery', ['recovery']],
  ],
  [
    ['baselines', 'Baselines', 'baselines', ['baselines']],
    ['experiments', 'Experiments', 'experiments', ['experiments']],
    ['matrices', 'Matrices', 'matrices', ['matrices']],
  ],
  [
    ['logs', 'Logs', 'logs', ['logs']],
    ['database', 'Databases', 'database', ['database', 'backup']],
    ['certificates', 'Certificates', 'certificates', ['certificates']],
    ['dependencies', 'Dependencies', 'dependencies', ['dependencies']],
  ],
  [
    ['schedule', 'Schedule', 'work', ['schedule']],
    ['runs', 'Runs', 'work', ['runs']],
    ['oplog', 'Oplog', 'work', ['oplog']],
    ['fleet', 'Fleet', 'fleet', ['fleet']],
  ],
];
const VIEWS = new Map(GROUPS.flat().map(([name, title, module, domains]) => [name, { name, title, module, domains }]));

let shown = { view: VIEWS.get('overview'), argument: '', drawn: null };
const live = new Live(told, stood);

// Navigation.

function place() {
  let [, name, argument] = /^#([^/]*)\/?(.*)$/.exec(location.hash) ?? [];
  try {
    argument = decodeURIComponent(argument ?? '');
  } catch {
    argument = '';
  }
  if (name === 'main') return null;
  // Domains that are shown in another's view lead there.
  const view = VIEWS.get(name) ?? [...VIEWS.values()].find((one) => one.domains.includes(name));
  return { view: view ?? VIEWS.get('overview'), argument };
}

function navigation() {
  const item = ({ name, title }, first) =>
    h(
      'li',
      { class: first ? 'part' : null },
      h('a', { href: `#${name}`, id: `to-${name}` }, title, h('span', { class: 'mark', hidden: true })),
    );
  el('views').firstElementChild.replaceChildren(
    ...GROUPS.flatMap((group) => group.map(([name], at) => item(VIEWS.get(name), at === 0))),
  );
}

async function go(byHand) {
  const next = place();
  if (!next) return;
  const same = next.view === shown.view;
  shown = { ...next, drawn: same ? shown.drawn : null };
  const now = shown;
  for (const link of el('views').querySelectorAll('a')) {
    if (link.id === `to-${next.view.name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  el(`to-${next.view.name}`).scrollIntoView({ block: 'nearest', inline: 'nearest' });
  const overview = next.view.module === null;
  el('overview').hidden = !overview;
  el('view').hidden = overview;
  if (overview) {
    live.follow(['health/status', 'alerts/status']);
    refresh();
  } else {
    if (!same) el('view').replaceChildren(h('article', null, h('h1', { tabindex: '-1' }, next.view.title)));
    const module = await load(next.view.module);
    if (shown !== now) return;
    if (!module) {
      notice('view', `${next.view.title} can't be loaded, since the agent does not answer; it is tried again.`);
      setTimeout(() => shown === now && go(byHand), 2_000);
      return;
    }
    if (el('notice').dataset.about === 'view') el('notice').hidden = true;
    now.drawn = module[next.view.name];
    live.follow(now.drawn.pages(now.argument));
    draw();
  }
  titled();
  if (byHand && !same) {
    (overview ? el('overview-title') : el('view').querySelector('h1')).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

let attempt = 0;
/** A view's module, or nothing while it can't be had. */
async function load(name) {
  try {
    // A browser may remember that it failed, by its address.
    return await import(`./view-${name}.js${attempt > 0 ? `?again=${attempt}` : ''}`);
  } catch {
    attempt += 1;
    return null;
  }
}

// Drawing. What is told within a moment is drawn once.

let pending = false;
function later() {
  if (pending) return;
  pending = true;
  setTimeout(() => {
    pending = false;
    draw();
  }, 30);
}

function draw() {
  const { view, drawn } = shown;
  if (!drawn) return;
  const get = (name) => live.page(name);
  if (!shown.argument && drawn.first?.(get)) {
    shown.argument = drawn.first(get);
    live.follow(drawn.pages(shown.argument));
  }
  const { argument } = shown;
  const parts = drawn.draw(get, {
    argument,
    redraw: later,
    show: (one) => {
      location.hash = `${view.name}/${encodeURIComponent(one)}`;
    },
  });
  const head = h(
    'header',
    { class: 'view-head' },
    h('h1', { tabindex: '-1' }, view.title),
    h(
      'p',
      { class: 'same' },
      'The same: ',
      drawn.commands.flatMap((command, at) => [at > 0 ? ' · ' : null, code(command)]),
    ),
    h('p', { class: 'lead' }, drawn.lead),
  );
  const article = h('article', { 'aria-label': view.title }, head, parts);
  if (el('view').firstElementChild) morph(el('view').firstElementChild, article);
  else el('view').append(article);
}

// The overview is written by the agent: there is one place where it is made.

let refreshing = false;
let wanted = false;
async function refresh() {
  if (shown.view.module !== null) return;
  wanted = true;
  if (refreshing) return;
  refreshing = true;
  while (wanted) {
    wanted = false;
    try {
      const text = await (await ask('/overview')).text();
      const made = new DOMParser().parseFromString(text, 'text/html').body;
      adopt(made);
      if (el('notice').dataset.about === 'overview') el('notice').hidden = true;
    } catch (error) {
      notice(
        'overview',
        `The overview can't be had (${error.message}); what is shown is as of the time that it gives.`,
      );
    }
  }
  refreshing = false;
}

function adopt(made) {
  for (const walker = document.createTreeWalker(made, NodeFilter.SHOW_TEXT); walker.nextNode(); )
    walker.currentNode.data = clean(walker.currentNode.data);
  // The page has whatever holds it; scripts are not run by this, and the policy lets none be written here.
  const from = h('div');
  from.append(...[...made.childNodes].map((node) => document.importNode(node, true)));
  tick(from);
  from.id = 'overview';
  from.hidden = el('overview').hidden;
  morph(el('overview'), from);
}

function notice(about, ...content) {
  el('notice').dataset.about = about;
  el('notice').replaceChildren(...content);
  el('notice').hidden = false;
}

// What was told.

function told(name) {
  if (name === PULSE) pulse();
  if (shown.view.module === null) refresh();
  else later();
}

let before = null;
function pulse() {
  const status = live.page(PULSE)?.data;
  if (!status) return;
  clock(status.now);
  // The agent's own time beside it, so that one sees that it goes on.
  if (el('live').dataset.state === 'live')
    el('live').firstElementChild.textContent = `live ${hour(Date.parse(status.now))}`;
  const now = word(status.condition, 'CONDITION_').replace(/^-$/, 'UNKNOWN');
  const made = badge(now);
  made.id = 'condition';
  morph(el('condition'), made);
  el('host').textContent = clean(status.hostname);
  if (before && before !== now) say(`${status.hostname} is ${now}, it was ${before}`);
  before = now;
  marks(status.domains ?? []);
  el('emergency').hidden = !status.emergency;
  titled();
  if (status.version !== VERSION) {
    const versions = `The agent is version ${clean(status.version)} now, and this page is of ${clean(VERSION)}: `;
    notice('version', versions, h('a', { href: '' }, 'load it again'), '.');
  }
}

const BADNESS = ['OK', 'WARN', 'UNKNOWN', 'CRITICAL'];
function marks(domains) {
  for (const { name, domains: mine } of VIEWS.values()) {
    const all = domains
      .filter((one) => mine.includes(one.domain))
      .map((one) => word(one.condition, 'CONDITION_').replace(/^-$/, 'UNKNOWN'));
    const worst = all.sort((one, other) => BADNESS.indexOf(other) - BADNESS.indexOf(one))[0];
    const mark = worst
      ? h(
          'span',
          { class: `mark s-${worst.toLowerCase()}`, title: worst },
          h('span', { class: 'unseen' }, `, ${worst}`),
        )
      : h('span', { class: 'mark', hidden: true });
    morph(el(`to-${name}`).lastElementChild, mark);
  }
}

function titled() {
  const old = document.documentElement.hasAttribute('data-old');
  document.title = `${old ? 'OLD' : el('condition').textContent} · ${el('host').textContent} · ${shown.view.title}`;
}

function say(text) {
  el('said').textContent = clean(text);
}

// How fresh it is.

let stood_before = '';
function stood({ state, old, silent }) {
  const at = hour(agentNow() - silent);
  const lost = `no connection since ${at} — what is shown is old`;
  const words = { live: 'live', connecting: 'connecting', old: lost, paused: `paused at ${at}` };
  el('live').dataset.state = state;
  el('live').replaceChildren(h('span', { class: 'live-text' }, state === 'old' ? 'no connection' : words[state]));
  document.documentElement.toggleAttribute('data-old', old);
  el('old').hidden = !old;
  const note = state === 'paused' ? `paused since ${at} — what is shown is old` : lost;
  if (old) el('old').textContent = note[0].toUpperCase() + note.slice(1);
  if (stood_before && stood_before !== state) say(old ? note : words[state]);
  stood_before = state;
  titled();
}

// Controls.

function theme() {
  const kept = document.documentElement.dataset.theme ?? 'auto';
  const next = { auto: 'dark', dark: 'light', light: 'auto' }[kept];
  if (next === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('genesis-theme', next);
  } catch {
    // It holds for this page only.
  }
  themed();
}

function themed() {
  const now = document.documentElement.dataset.theme ?? 'auto';
  el('theme').textContent = `Theme: ${now}`;
  dispatchEvent(new Event('recolour'));
}

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  el('main').focus();
});
el('theme').addEventListener('click', theme);
el('pause').addEventListener('click', () => {
  live.pause(!live.paused);
  el('pause').setAttribute('aria-pressed', String(live.paused));
  el('pause').textContent = live.paused ? 'Go on' : 'Pause';
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => dispatchEvent(new Event('recolour')));
addEventListener('hashchange', () => go(true));
setInterval(() => {
  if (!document.hidden) tick(document);
}, 1000);

navigation();
themed();
tick(document);
go(false);
