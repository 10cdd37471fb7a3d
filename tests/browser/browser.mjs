// A browser for the tests: Debian's Chromium, and what every page in it is held to.

import { createRequire } from 'node:module';

// Modules are installed outside of the source tree, where imports of ES modules don't look.
const modules = process.env.GENESIS_BROWSER_MODULES ?? new URL('.', import.meta.url).pathname;
const require = createRequire(`${modules.replace(/\/$/, '')}/`);
const { chromium } = require('playwright-core');
export const axe = require('axe-core').source;

/** So long, in ms, everything may take that is not measured. */
export const PATIENCE = 20_000;

export const launch = () =>
  chromium.launch({
    executablePath: process.env.GENESIS_BROWSER ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });

/** What no page may do, as found by the pages of `open()`. */
export class Conduct {
  faults = new Set();
  bytes = new Map();

  constructor(base) {
    this.base = base;
  }

  /** A page in a browser of its own that remembers nothing. */
  async open(browser, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) =>
        console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`),
      );
    });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.faults.add(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.faults.add(`exception: ${error.stack ?? error}`));
    page.on('dialog', (dialog) => {
      this.faults.add(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(`${this.base}/`)) this.faults.add(`a request off the host: ${request.url()}`);
      if (request.method() !== 'GET') this.faults.add(`a request that is no GET: ${request.method()} ${request.url()}`);
    });
    page.on('response', async (response) => {
      const { pathname } = new URL(response.url());
      if (pathname !== '/' && !pathname.startsWith('/assets/')) return;
      const body = await response.body().catch(() => null);
      if (body) this.bytes.set(pathname, body.length);
    });
    return page;
  }
}

/** Shows a view, and waits until all that it asks for has been told and drawn. */
export async function show(page, base, view) {
  await page.goto(`${base}/#${view}`);
  await settled(page, view);
}

export async function settled(page, view) {
  await page.waitForFunction(
    (view) => {
      const current = document.querySelector('#views a[aria-current]')?.id === `to-${view.split('/')[0]}`;
      const live = document.querySelector('#live')?.dataset.state === 'live';
      const content =
        view === 'overview'
          ? document.querySelector('#overview table')
          : document.querySelector('#view section') && !document.querySelector('#view .loading');
      return (
        current &&
        live &&
        content &&
        [...document.querySelectorAll('#view .plot')].every((plot) => plot.querySelector('canvas'))
      );
    },
    view,
    { polling: 50 },
  );
}
