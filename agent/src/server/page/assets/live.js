// What the agent tells as it changes. Nothing that is older than STALE is shown as if it were so now.

/** The page that changes with each look of the agent, since it has the agent's time: hearing it is hearing the agent. */
export const PULSE = 'agent/status';
/** So long, in ms, without an answer, and what is shown is old. */
const STALE = 10_000;
const LONGEST_WAIT = 10_000;

export class Live {
  #source = null;
  #wanted = [PULSE];
  #pages = new Map();
  #waiting = 0;
  #retry = null;
  #paused = false;
  #heard = 0;
  #begun = performance.now();
  #told = '';
  #onPage;
  #onState;

  /** `onPage(name)` when a page was told, `onState({ state, old, silent })` when the page is live, paused or old; `silent` ms. */
  constructor(onPage, onState) {
    this.#onPage = onPage;
    this.#onState = onState;
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#close() : this.#open()));
    setInterval(() => this.#look(), 500);
  }

  /** Follows these pages, besides the pulse: at most seven. */
  follow(names) {
    const wanted = [PULSE, ...names.filter((name) => name !== PULSE)];
    if (wanted.join(' ') === this.#wanted.join(' ') && this.#source) return;
    this.#wanted = wanted;
    // What was told a while ago would be taken for what is so now.
    for (const name of [...this.#pages.keys()]) if (!wanted.includes(name)) this.#pages.delete(name);
    this.#waiting = 0;
    this.#open();
  }

  /** { data } or { error }, or nothing as long as the agent has not said. */
  page(name) {
    return this.#pages.get(name);
  }

  /** Stops to follow, for a reader who wants it to stand still, or goes on. */
  pause(paused) {
    this.#paused = paused;
    if (paused) this.#close();
    else this.#open();
    this.#look();
  }

  get paused() {
    return this.#paused;
  }

  #open() {
    this.#close();
    if (this.#paused || document.hidden) return;
    const query = this.#wanted.map((name) => `follow=${encodeURIComponent(name)}`).join('&');
    const source = new EventSource(`/api/events?${query}`);
    this.#source = source;
    for (const name of this.#wanted) source.addEventListener(name, (event) => this.#take(source, name, event));
    source.addEventListener('error', (event) => {
      if (source !== this.#source) return;
      // The agent's own word for a page that can't be had has the name that a browser uses for a lost connection.
      if (typeof event.data === 'string') this.#fail(event.data);
      else this.#again();
    });
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  // A browser's own attempts never end, come too fast, and not at all after a refusal.
  #again() {
    this.#close();
    const wait = Math.min(LONGEST_WAIT, 500 * 2 ** this.#waiting) * (0.75 + Math.random() / 2);
    this.#waiting += 1;
    this.#retry = setTimeout(() => this.#open(), wait);
    this.#look();
  }

  #take(source, name, event) {
    if (source !== this.#source) return;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    this.#waiting = 0;
    if (name === PULSE) this.#hear();
    this.#pages.set(name, { data });
    this.#onPage(name);
  }

  #fail(text) {
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    this.#waiting = 0;
    this.#pages.set(said.follow, { error: said.error ?? {} });
    this.#onPage(said.follow);
  }

  #hear() {
    this.#heard = performance.now();
    this.#look();
  }

  #look() {
    const silent = performance.now() - Math.max(this.#heard, this.#begun);
    const old = silent > STALE;
    // Between two attempts nothing is heard: that is not live, whatever comes of the next one.
    const away = this.#heard === 0 || (!this.#source && !document.hidden);
    const state = this.#paused ? 'paused' : old ? 'old' : away ? 'connecting' : 'live';
    const told = `${state} ${old}`;
    if (told === this.#told) return;
    this.#told = told;
    this.#onState({ state, old, silent });
  }
}

/** What the agent answers once. */
export async function ask(path) {
  const answer = await fetch(path, { headers: { accept: 'application/json' }, signal: AbortSignal.timeout(STALE) });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer;
}
