// Fleet: the other hosts, and how this one stands to them.

import { badge, facts, h, id, list, state, table } from './dom.js';
import { empty, section } from './parts.js';
import { duration, time } from './text.js';

export const fleet = {
  lead: 'How this host stands to its fleet, and the hosts that are of it.',
  commands: ['genesisctl fleet status', 'genesisctl fleet members'],
  pages: () => ['fleet/status', 'fleet/members'],
  draw: (get, { redraw }) => [
    section(get, 'Standing', 'fleet/status', standing),
    // A host on its own has no members to be asked for: that is no failure.
    get('fleet/status')?.data?.standing === 'FLEET_STANDING_ALONE'
      ? null
      : section(
          get,
          'Members',
          'fleet/members',
          (it) => members(it.members, redraw),
          (it) => `${it.members.length}`,
        ),
  ],
};

const WORDS = {
  FLEET_STANDING_ALONE: 'nothing holds a fleet together here: [fleet.etcd] endpoints in the configuration would.',
  FLEET_STANDING_CONNECTED: 'etcd answers.',
  FLEET_STANDING_STALE: 'etcd has not answered for some seconds: what is said of the fleet is what was known then.',
  FLEET_STANDING_LOST: 'etcd has not answered for so long that what this host held in the fleet has ended.',
};

function standing(it) {
  const { emergency } = it;
  return [
    h('p', null, state(it.standing, 'FLEET_STANDING_'), ` ${WORDS[it.standing] ?? ''}`),
    it.trouble ? h('p', { class: 'trouble' }, it.trouble) : null,
    it.twins.length > 0
      ? h(
          'p',
          { class: 'trouble' },
          badge('CRITICAL'),
          ` hosts live under this host's identity: ${it.twins.join(', ')}`,
        )
      : null,
    it.emergencyUntold
      ? h(
          'p',
          { class: 'trouble' },
          'The emergency of this host is to be the fleet\u2019s, and the fleet could not be told yet.',
        )
      : null,
    facts([
      ['Fleet', it.fleet],
      ['This host', it.hostname],
      ['Identity', id(it.hostId)],
      ['Node', it.node],
      ['etcd', it.endpoint],
      ['Known up to', it.revision === '0' ? '-' : `revision ${it.revision}`],
      it.age ? ['Known is', `${duration(it.age)} old`] : null,
      ['Lease', duration(it.lease)],
      [
        'Emergency of the fleet',
        emergency?.active
          ? [badge('EMERGENCY'), ` by ${emergency.activatedBy} on ${emergency.host}: ${emergency.reason}`]
          : 'none',
      ],
    ]),
    it.builtIn ? null : list(['This agent was built without what it needs to be of a fleet.']),
  ];
}

function members(rows, redraw) {
  return table(
    { name: 'Members', key: (one) => one.hostId, redraw, empty: empty('None is known.', 'genesisctl fleet members') },
    [
      { label: 'Host', cell: (one) => [one.hostname, one.self ? ' (this one)' : null], sort: (one) => one.hostname },
      {
        label: 'Agent',
        cell: (one) => (one.unreadable ? badge('UNKNOWN') : one.alive ? badge('OK') : badge('GONE')),
        sort: (one) => String(one.alive),
      },
      {
        label: 'Emergency',
        cell: (one) => (one.emergency ? badge('EMERGENCY') : one.alive ? 'no' : badge('UNKNOWN')),
        sort: (one) => String(one.emergency),
      },
      { label: 'Version', cell: (one) => one.version, sort: (one) => one.version },
      { label: 'Node', cell: (one) => one.node, sort: (one) => one.node },
      { label: 'Since', cell: (one) => time(one.since), sort: (one) => one.since ?? '' },
      { label: 'Twins', cell: (one) => one.twins.join(', ') },
      { label: 'Identity', cell: (one) => id(one.hostId) },
    ],
    rows,
  );
}
