// What the agent tells, with texts as somebody would choose them who wants a reader's browser to do something else.

/** It has to be seen as it is. */
export const MARK = '<img src=x onerror="alert(1)">';
const TEXT = `${MARK}</td></table><script>alert(2)</script>\u202e\u2066\u0007\u0000"'&lt;`;

/** Details are asked for by a name, which is hostile here. */
const NAMED = {
  'baselines/operation': 'operation=orders.place',
  'baselines/history': 'operation=orders.place',
  'experiments/experiment': 'id=TEST_1',
  'health/issue': 'issue=queue',
};

// Enums, numbers, times and durations are no free texts: the agent's types see to that.
const typed = /^([A-Z][A-Z0-9_]*|-?\d+|\d{4}-\d\d-\d\dT.*Z|-?[\d.]+s|)$/;

function poison(value) {
  if (Array.isArray(value)) return value.map(poison);
  if (value && typeof value === 'object')
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, poison(one)]));
  return typeof value === 'string' && !typed.test(value) ? `${TEXT}${value}` : value;
}

/** The stream that `url` asks for. */
export async function hostile(base, url) {
  let stream = '';
  for (const follow of new URL(url).searchParams.getAll('follow')) {
    const [path, query] = follow.split('?');
    const asked = NAMED[path] ?? query;
    const answer = await fetch(`${base}/api/operations/${path}${asked ? `?${asked}` : ''}`);
    const body = await answer.json();
    const [event, data] = answer.ok ? [follow, poison(body)] : ['error', { follow, error: poison(body.error) }];
    stream += `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  }
  return stream;
}
