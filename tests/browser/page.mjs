// The page in a browser, view by view, against a running agent:
//
//   GENESIS_BROWSER_MODULES=FOLDER node tests/browser/page.mjs http://127.0.0.1:7480 [--pictures FOLDER]
//
// Prints a line for each check, and ends with 1 when one has failed. Of the environment:
//
//   GENESIS_BROWSER_MODULES    where `npm install` has put what package.json names
//   GENESIS_BROWSER_CHANGE     a command that writes an entry into the agent's operation log
//   GENESIS_BROWSER_AGENT_PID  the agent, to be stopped for a while
//   GENESIS_BROWSER_PAINT_MS   so long the first paint may take; without it that is measured only
//   GENESIS_BROWSER            another browser than /usr/bin/chromium
//   GENESIS_BROWSER_ONLY       a regular expression: only checks whose names match

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

import { axe, Conduct, launch, PATIENCE, settled, show } from './browser.mjs';
import { hostile, MARK } from './hostile.mjs';
import { smaller } from './png.mjs';

const [address, ...rest] = process.argv.slice(2);
if (!address) {
  console.error('usage: node page.mjs AGENT_URL [--pictures FOLDER]');
  process.exit(2);
}
const base = address.replace(/\/$/, '');
const pictures = rest[0] === '--pictures' ? rest[1] : null;
const { GENESIS_BROWSER_CHANGE: change, GENESIS_BROWSER_AGENT_PID: pid, GENESIS_BROWSER_PAINT_MS: paint } = process.env;

/** So much the page may load, views and charts and all. */
const MOST_BYTES = 300_000;
/** And so much a picture for the documentation may take. */
const MOST_PICTURE = 150_000;
/** What a view's picture is to show where that is further down. */
const DRAWN = { baselines: 'Windows against what is usual', experiments: 'Evidence over looks' };
/** Each view, and what it must show of the demo's data. */
const VIEWS = {
  overview: ['Domains', 'logs', 'health', 'Objectives, 30 days', 'operations', 'gateway'],
  health: ['queue', 'cat says', 'above 100', 'mend', 'SUCCEEDED', 'remediations'],
  alerts: ['note', 'ACCEPTED', 'acknowledged', 'TEST_2 of market-making was rolled back by itself'],
  recovery: [
    'NORMAL',
    'prices are wrong',
    'certificate:gateway',
    'over 99.5 % of operations succeed',
    'declare, halt, cancel, close, prove and release',
  ],
  baselines: ['orders.place', 'p95', 'calls half took less than', 'Windows against what is usual'],
  experiments: ['TEST_1', 'PROMOTED', 'TEST_2', 'ROLLED BACK', 'market-making', 'p over all looks', 'Variant'],
  matrices: ['BTC-USD / ETH-USD', 'ACTIVE', 'REJECTED', '10 %', '25 %', '50 %', '100 %', 'GOLD-USD'],
  logs: ['trading/1', 'VERIFIED', 'Archive'],
  database: ['orders.db', 'SQLite', 'DONE', 'PASS', 'L2 restored', 'COMPLETE'],
  certificates: ['gateway.demo.example', 'DEPLOYED', 'imported', ' d'],
  dependencies: ['pricing', 'requirements.txt', 'PASS', 'PyPI', 'CHECKED'],
  schedule: ['logs.archive-retention', 'baselines.recalculate', 'Mon 00:00', 'SUCCEEDED'],
  runs: ['logs.rotate', 'matrices.update', 'SUCCEEDED', 'REFUSED'],
  oplog: ['config.loaded', 'agent.started', 'system:agent', 'sha256'],
  fleet: ['ALONE', 'This host', 'Identity'],
};
/** What may have nothing to show where all is well, or where the demo has nothing of it. */
const MAY_BE_EMPTY = [
  'Open issues',
  'Incidents',
  'Silences',
  'Holds',
  'Episodes',
  'Clocks',
  'Updates',
  'What the CAs still allow',
  'Circuit breakers',
  // Of the demo's alerts some are over at times, and at times none is.
  'Firing',
  'Alerts that are over',
];

const browser = await launch();
const conduct = new Conduct(base);
let failed = 0;

const only = new RegExp(process.env.GENESIS_BROWSER_ONLY ?? '');

async function check(name, make) {
  if (!only.test(name)) return;
  const started = performance.now();
  try {
    const said = await make();
    console.log(`ok      ${name}${said ? `: ${said}` : ''} (${Math.round(performance.now() - started)} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const text = (page) => page.evaluate(() => document.querySelector('main').innerText);

/** Waits until `probe` in the page is true. */
const until = (page, probe, argument, timeout = PATIENCE) =>
  page.waitForFunction(probe, argument, { polling: 50, timeout });

// Each view, with data.

for (const scheme of ['light', 'dark']) {
  const page = await conduct.open(browser, { colorScheme: scheme });
  await page.goto(base);
  await page.evaluate(axe);
  for (const [view, expected] of Object.entries(VIEWS)) {
    await check(`${view}, ${scheme}`, async () => {
      await page.evaluate((view) => {
        location.hash = view;
      }, view);
      await settled(page, view);
      const shown = await text(page);
      const missing = expected.filter((one) => !shown.includes(one));
      assert.deepEqual(missing, [], 'is not shown');
      const bad = await page.evaluate(
        (allowed) => {
          const title = (one) => one.closest('section')?.querySelector('h2')?.firstChild.data ?? '?';
          const main = document.querySelector(document.querySelector('#view').hidden ? '#overview' : '#view');
          return [
            ...[...main.querySelectorAll('.empty')]
              .map(title)
              .filter((one) => !allowed.includes(one))
              .map((one) => `${one} has nothing to show`),
            ...[...main.querySelectorAll('.trouble')].map((one) => `${title(one)}: ${one.innerText}`),
          ];
        },
        [...MAY_BE_EMPTY, 'Open incidents', 'Alerts that fire'],
      );
      assert.deepEqual(bad, []);
      for (const closed of await page.$$('main details:not([open]) > summary'))
        await closed.evaluate((one) => {
          one.parentElement.open = true;
        });
      const found = await page.evaluate(async () => {
        const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
        return violations
          .filter((one) => ['serious', 'critical'].includes(one.impact))
          .map(
            (one) =>
              `${one.id}: ${one.nodes
                .slice(0, 3)
                .map((node) => node.target.join(' '))
                .join(', ')}`,
          );
      });
      assert.deepEqual(found, [], 'axe');
    });
  }
  await page.context().close();
}

// On a phone.

{
  const page = await conduct.open(browser, {
    viewport: { width: 360, height: 740 },
    deviceScaleFactor: 2,
    hasTouch: true,
    isMobile: true,
  });
  await page.goto(base);
  for (const view of Object.keys(VIEWS)) {
    await check(`${view} at 360 px does not scroll sideways`, async () => {
      await page.evaluate((view) => {
        location.hash = view;
      }, view);
      await settled(page, view);
      await page.evaluate(() => {
        for (const one of document.querySelectorAll('main details')) one.open = true;
      });
      await later(100);
      const { width, wide } = await page.evaluate(() => ({
        width: document.documentElement.scrollWidth,
        wide: [...document.querySelectorAll('body *')]
          .filter((one) => one.getBoundingClientRect().right > 361 && !one.closest('.scroll, .views'))
          .slice(0, 3)
          .map((one) => `${one.tagName}.${one.className}`),
      }));
      assert.ok(width <= 360, `${width} px wide: ${wide}`);
    });
  }
  await page.context().close();
}

// What changes is seen.

{
  const page = await conduct.open(browser);
  await check('a check is looked at again without a reload', async () => {
    await show(page, base, 'health');
    await page.evaluate(() => {
      globalThis.kept = true;
    });
    const at = () => document.querySelector('section[data-key="Checks"] time').dateTime;
    const before = await page.evaluate(at);
    await until(
      page,
      (before) => document.querySelector('section[data-key="Checks"] time').dateTime !== before,
      before,
    );
    assert.ok(await page.evaluate(() => globalThis.kept), 'the page was loaded again');
  });
  await check('an entry of the operation log appears', async () => {
    if (!change) return 'skipped, no GENESIS_BROWSER_CHANGE';
    await page.evaluate(() => {
      location.hash = 'oplog';
    });
    await settled(page, 'oplog');
    const newest = () => Number(document.querySelector('section[data-key="Entries"] tbody tr').dataset.key);
    const before = await page.evaluate(newest);
    await promisify(execFile)('sh', ['-c', change]);
    const started = performance.now();
    await until(
      page,
      (before) =>
        [...document.querySelectorAll('section[data-key="Entries"] tbody tr')].some(
          (row) => Number(row.dataset.key) > before && /note/.test(row.innerText),
        ),
      before,
    );
    assert.ok(await page.evaluate(() => globalThis.kept), 'the page was loaded again');
    return `after ${Math.round(performance.now() - started)} ms`;
  });
  await check('the filter of the operation log keeps what it is asked for, and the focus', async () => {
    await page.evaluate(() => {
      location.hash = 'oplog';
    });
    await settled(page, 'oplog');
    await page.fill('#oplog-filter', 'agent.started');
    await until(page, () =>
      [...document.querySelectorAll('section[data-key="Entries"] tbody tr')].every((row) =>
        row.innerText.includes('agent.started'),
      ),
    );
    await later(2500);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'oplog-filter');
    assert.equal(await page.inputValue('#oplog-filter'), 'agent.started');
    await page.fill('#oplog-filter', '');
  });
  await check('a hidden page asks for nothing, and goes on when it is seen', async () => {
    const hide = (hidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    const ended = page.waitForEvent('requestfailed', (request) => request.url().includes('/api/events'));
    await hide(true);
    await ended;
    const again = page.waitForRequest((request) => request.url().includes('/api/events'));
    await hide(false);
    await again;
  });
  await check('a reader can have it stand still', async () => {
    await page.click('#pause');
    await until(page, () => document.querySelector('#live').dataset.state === 'paused');
    await page.click('#pause');
    await until(page, () => document.querySelector('#live').dataset.state === 'live');
  });
  await page.context().close();
}

// Somebody leaves it open for a night.

await check('what is drawn anew takes the place of what was there before', async () => {
  const page = await conduct.open(browser);
  await show(page, base, 'baselines');
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  const held = async () => {
    await session.send('HeapProfiler.collectGarbage');
    const { metrics } = await session.send('Performance.getMetrics');
    return ['Nodes', 'JSEventListeners'].map((wanted) => metrics.find((one) => one.name === wanted).value);
  };
  await later(2500);
  const before = await held();
  await later(10_000);
  const after = await held();
  assert.ok(after[0] - before[0] < 400 && after[1] - before[1] < 20, `nodes and listeners: ${before}, then ${after}`);
  await page.context().close();
  return `${after[0]} nodes, ${after[1]} listeners`;
});

// Nobody hears the agent.

await check('an agent that stands still makes the page old, and its return live', async () => {
  if (!pid) return 'skipped, no GENESIS_BROWSER_AGENT_PID';
  const page = await conduct.open(browser);
  await show(page, base, 'health');
  // What says that all is well, here and in the navigation.
  const colour = () =>
    page.evaluate(() =>
      ['#view .badge.s-ok', '.views .mark.s-ok'].map((one) => getComputedStyle(document.querySelector(one)).color),
    );
  const before = await colour();
  process.kill(Number(pid), 'SIGSTOP');
  try {
    const started = performance.now();
    await until(page, () => document.documentElement.hasAttribute('data-old'), null, 15_000);
    const took = performance.now() - started;
    assert.match(await page.innerText('#old'), /^No connection since \d\d:\d\d:\d\d UTC — what is shown is old$/);
    assert.match(await page.title(), /^OLD/);
    const now = await colour();
    assert.ok(
      before.every((one, at) => one !== now[at]),
      `what was OK still looks so: ${before} ${now}`,
    );
    process.kill(Number(pid), 'SIGCONT');
    const back = performance.now();
    await until(
      page,
      () =>
        !document.documentElement.hasAttribute('data-old') && document.querySelector('#live').dataset.state === 'live',
    );
    assert.deepEqual(await colour(), before);
    await page.context().close();
    return `old after ${Math.round(took)} ms, live again after ${Math.round(performance.now() - back)} ms`;
  } finally {
    process.kill(Number(pid), 'SIGCONT');
  }
});

// For everybody.

await check('keys alone reach each view and what is in it', async () => {
  for (const view of Object.keys(VIEWS)) {
    const page = await conduct.open(browser);
    await page.goto(base);
    await settled(page, 'overview');
    const focus = () => page.evaluate(() => document.activeElement.id);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    for (let at = 0; (await focus()) !== `to-${view}`; at += 1) {
      assert.ok(at < 40, `${view} is not reached`);
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('Enter');
    await settled(page, view);
    assert.ok(
      (await page.evaluate(() => document.querySelector('main').contains(document.activeElement))) ||
        view === 'overview',
      `the focus does not go to ${view}`,
    );
    const parts = 'main article .scroll, main article button, main article summary, main article a';
    const some = await page.evaluate(
      (parts) => [...document.querySelectorAll(parts)].some((one) => one.checkVisibility()),
      parts,
    );
    for (let at = 0; some && !(await page.evaluate((parts) => document.activeElement.matches(parts), parts)); at += 1) {
      assert.ok(at < 40, `the content of ${view} is not reached`);
      await page.keyboard.press('Tab');
    }
    await page.context().close();
  }
});

await check('keys alone sort a table, and walk through the heat map', async () => {
  const page = await conduct.open(browser);
  await show(page, base, 'runs');
  await page.focus('section[data-key="Runs"] th:nth-child(2) button');
  for (const direction of ['ascending', 'descending']) {
    await page.keyboard.press('Enter');
    await until(
      page,
      (direction) => document.querySelector('section[data-key="Runs"] th:nth-child(2)').ariaSort === direction,
      direction,
    );
  }
  assert.equal(await page.evaluate(() => document.activeElement.innerText), 'State');
  await show(page, base, 'matrices');
  await page.focus('.heat canvas');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowLeft');
  assert.match(await page.innerText('.pair'), /^ETH-USD and BTC-USD: [+−]0\.\d\d$/);
  await page.context().close();
});

await check('the theme can be chosen, and is kept', async () => {
  const page = await conduct.open(browser);
  await show(page, base, 'overview');
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await ground();
  await page.click('#theme');
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await ground(), dark);
  await page.context().close();
});

await check('without JavaScript there is the overview', async () => {
  const page = await conduct.open(browser, { javaScriptEnabled: false });
  await page.goto(base);
  for (const wanted of ['Domains', 'Open issues', 'Objectives, 30 days'])
    assert.ok(await page.isVisible(`h2:has-text("${wanted}")`), wanted);
  assert.ok(await page.isVisible('td .badge'), 'no condition');
  assert.ok(await page.isVisible('noscript'), 'it is not said what is missing');
  assert.ok(!(await page.isVisible('#views')), 'there are views that lead nowhere');
  await page.context().close();
});

await check('hostile texts are harmless', async () => {
  const page = await conduct.open(browser);
  await page.route('**/api/events?*', async (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: await hostile(base, route.request().url()) }),
  );
  for (const view of Object.keys(VIEWS).filter((view) => view !== 'overview')) {
    await page.goto(`${base}/#${view}`);
    await until(page, (mark) => document.querySelector('#view')?.innerText.includes(mark), MARK);
    const found = await page.evaluate(() => ({
      made: document.querySelectorAll('main img, main script, main iframe, main a[href^="javascript:"]').length,
      turned: /[\u0000-\u0008\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText),
    }));
    assert.deepEqual(found, { made: 0, turned: false }, view);
  }
  await page.unroute('**/api/events?*');
  await page.context().close();
});

// How fast, and how much.

await check('first paint', async () => {
  const taken = [];
  for (let at = 0; at < 5; at += 1) {
    const page = await conduct.open(browser);
    await page.goto(base);
    await until(page, () => performance.getEntriesByName('first-contentful-paint').length > 0);
    taken.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
    await page.context().close();
  }
  const median = Math.round(taken.sort((one, other) => one - other)[2]);
  if (paint) assert.ok(median <= Number(paint), `${median} ms are more than ${paint}`);
  return `median ${median} ms of ${taken.map(Math.round).join(', ')}`;
});

await check('what is loaded', async () => {
  const total = [...conduct.bytes.values()].reduce((sum, one) => sum + one, 0);
  assert.ok(conduct.bytes.has('/assets/uplot.js'), 'the charts were not loaded');
  assert.ok(total < MOST_BYTES, `${total} bytes: ${JSON.stringify([...conduct.bytes])}`);
  return `${total} bytes in ${conduct.bytes.size} files`;
});

if (pictures) {
  await mkdir(pictures, { recursive: true });
  const forms = {
    light: { colorScheme: 'light' },
    dark: { colorScheme: 'dark' },
    phone: { viewport: { width: 360, height: 740 }, deviceScaleFactor: 1.5 },
  };
  for (const [form, options] of Object.entries(forms)) {
    const page = await conduct.open(browser, options);
    for (const view of ['overview', 'health', 'baselines', 'matrices', 'experiments']) {
      await check(`picture of ${view}, ${form}`, async () => {
        await show(page, base, view);
        const bottom = (drawn) =>
          document.querySelector(`section[data-key="${drawn}"]`)?.scrollIntoView({ block: 'end' });
        await page.evaluate(bottom, DRAWN[view]);
        await later(300);
        const path = `${pictures}/page-${view}-${form}.png`;
        const picture = smaller(await page.screenshot({ animations: 'disabled' }));
        await writeFile(path, picture);
        assert.ok(picture.length < MOST_PICTURE, `${picture.length} bytes`);
        return `${Math.round(picture.length / 1000)} kB`;
      });
    }
    await page.context().close();
  }
}

await check('no errors, no warnings, nothing off the host, nothing but GET, no violation of the policy', () =>
  assert.deepEqual([...conduct.faults], []),
);
await browser.close();
console.log(failed === 0 ? 'all is well' : `${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
