// Elements of text nodes only: nothing that the agent tells is ever read as HTML.

const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** `text` with what can't be seen, or turns the writing around, shown as its number. */
export function clean(text) {
  return String(text).replace(
    HIDDEN,
    (one) => `\u27e8U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`,
  );
}

/** An element; `on...` are listeners, `data` and `style` are maps, null and false leave an attribute out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) listen(element, name.slice(2), value);
    else if (name === 'style') for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === 'data')
      for (const [key, one] of Object.entries(value)) {
        if (one !== null && one !== false && one !== undefined) element.dataset[key] = one === true ? '' : clean(one);
      }
    else element.setAttribute(name, value === true ? '' : clean(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(clean(child)));
  }
}

// Listeners are looked up when they are called, so that morph() can give an element those of its successor.
function listen(element, type, listener) {
  element.listeners ??= {};
  element.listeners[type] = listener;
  element.addEventListener(type, (event) => element.listeners[type]?.(event));
}

/** Makes `from` what `to` is and keeps what is the same, so that focus, scrolling, selection and open details stay. */
export function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || key(from) !== key(to)) {
    from.replaceWith(to);
    return to;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return from;
  }
  if (Boolean(from.apply) !== Boolean(to.apply) || differs(from, to)) {
    from.replaceWith(to);
    return to;
  }
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  for (const { name } of [...from.attributes]) {
    if (to.hasAttribute(name) || (name === 'open' && from.nodeName === 'DETAILS')) continue;
    from.removeAttribute(name);
  }
  if (from.listeners) from.listeners = to.listeners;
  // What draws itself is given what it is to draw.
  if (from.apply) from.apply(to.wanted);
  else children(from, to);
  return from;
}

const differs = (from, to) => Object.keys(from.listeners ?? {}).join() !== Object.keys(to.listeners ?? {}).join();
const key = (node) => node.dataset?.key;

function children(from, to) {
  const known = new Map();
  for (const child of from.childNodes) if (key(child) !== undefined) known.set(key(child), child);
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const named = key(wanted) === undefined ? null : known.get(key(wanted));
    if (named && named !== at) from.insertBefore(named, at);
    else if (!named && (!at || (key(at) !== undefined && key(at) !== key(wanted)))) {
      from.insertBefore(wanted, at);
      continue;
    }
    at = morph(named ?? at, wanted).nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** A word with a shape and a colour; page.css knows which. */
export function badge(word, title) {
  const text = clean(word || '-').replaceAll('_', ' ');
  return h('span', { class: `badge s-${text.toLowerCase().replace(/[^a-z ]/g, '')}`, title }, text);
}

/** An enum's value without its prefix. */
export function word(value, prefix) {
  const text = String(value ?? '');
  const short = text.startsWith(prefix) ? text.slice(prefix.length) : text;
  return short === 'UNSPECIFIED' || short === '' ? '-' : short.replaceAll('_', ' ');
}

export const state = (value, prefix, title) => {
  const text = word(value, prefix);
  return text === '-' ? '-' : badge(text, title);
};

export const condition = (value) =>
  badge(value === 'CONDITION_UNSPECIFIED' || !value ? 'UNKNOWN' : word(value, 'CONDITION_'));
export const truth = (value) => badge(value === 'TRUTH_UNSPECIFIED' || !value ? 'UNKNOWN' : word(value, 'TRUTH_'));

/** A long name, cut for the eye only: all of it is in the title, and is what is copied. */
export const id = (text) => (text ? h('span', { class: 'id cut', title: text }, text) : '-');
/** The same for names of some length, such as paths and rpcs. */
export const name = (text) => (text ? h('span', { class: 'cut wide', title: text }, text) : '-');

export const code = (text) => h('code', null, text);

/** A button that looks as a link: it shows something more of this view. */
export const link = (text, onclick, pressed) =>
  h(
    'button',
    { type: 'button', class: 'link', onclick, 'aria-pressed': pressed === undefined ? null : String(pressed) },
    text,
  );

/** A bar for a share from 0 to 1, beside a number that says the same. */
export function meter(share, second) {
  const width = `${Math.max(0, Math.min(1, Number(share) || 0)) * 100}%`;
  return h(
    'span',
    { class: second ? 'meter second' : 'meter', 'aria-hidden': 'true' },
    h('span', { style: { width } }),
  );
}

export function facts(pairs) {
  return h(
    'dl',
    { class: 'facts' },
    pairs
      .filter(Boolean)
      .map(([name, value]) =>
        h(
          'div',
          { data: { key: name } },
          h('dt', null, name),
          h('dd', null, value === '' || value === null || value === undefined ? '-' : value),
        ),
      ),
  );
}

export const list = (items) =>
  h(
    'ul',
    { class: 'plain' },
    items.map((item) => h('li', null, item)),
  );

/** A chart's or a table's numbers for those who can't see it. */
export const details = (name, title, ...content) =>
  h('details', { data: { key: `details-${name}` } }, h('summary', null, title), content);

/** Words with more letters than this are wrapped in a column that is wide enough to be read. */
const LONG = 40;

// By which column each table is sorted, as long as the page is open.
const sorted = new Map();

/**
 * A table in a region that scrolls. A column: { label, cell(row), sort?(row), number?, words? }. Options: { name, key(row),
 * empty, chosen?(row), redraw }.
 */
export function table(options, columns, rows) {
  const { name, redraw } = options;
  if (rows.length === 0) return h('p', { class: 'empty' }, options.empty);
  const order = sorted.get(name);
  const by = order && columns[order.column];
  const shown = by?.sort ? [...rows].sort((one, other) => order.sign * compare(by.sort(one), by.sort(other))) : rows;
  const head = (column, at) => {
    const mine = order?.column === at;
    const kind = column.number ? 'number' : null;
    if (!column.sort || !redraw) return h('th', { scope: 'col', class: kind }, column.label);
    const turn = () => {
      sorted.set(name, { column: at, sign: mine ? -order.sign : 1 });
      redraw();
    };
    const direction = mine ? (order.sign > 0 ? 'ascending' : 'descending') : 'none';
    return h(
      'th',
      { scope: 'col', class: kind, 'aria-sort': direction },
      h('button', { type: 'button', class: 'sort', onclick: turn }, column.label),
    );
  };
  const cell = (row) => (column, at) => {
    const kind = column.number ? 'number' : column.words ? 'words' : column.id ? 'id' : null;
    const shown = column.cell(row);
    const content = shown === '' || shown === null || shown === undefined ? '-' : shown;
    const made = at === 0 ? h('th', { scope: 'row', class: kind }, content) : h('td', { class: kind }, content);
    // What is long gets room, what is short takes none.
    if (column.words && made.textContent.length > LONG) made.classList.add('long');
    if (made.textContent === '') made.append('-');
    return made;
  };
  const line = (row, at) =>
    h(
      'tr',
      { data: { key: options.key ? options.key(row) : String(at), chosen: Boolean(options.chosen?.(row)) } },
      columns.map(cell(row)),
    );
  return h(
    'div',
    { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': name },
    h('table', null, h('thead', null, h('tr', null, columns.map(head))), h('tbody', null, shown.map(line))),
  );
}

function compare(one, other) {
  if (one === other) return 0;
  if (one === null || one === undefined || Number.isNaN(one)) return 1;
  if (other === null || other === undefined || Number.isNaN(other)) return -1;
  return one < other ? -1 : 1;
}
