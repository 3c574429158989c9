// Puts, reads, compares, watches, leases, locks and campaigns through the etcd3 package, and
// prints what comes back.
'use strict';

const { Etcd3 } = require('etcd3');

const SECONDS = 1000;

async function keys(client) {
  await client.put('node/ä').value('eins');
  await client.put('node/ä').value('zwei');
  await client.put('node/b').value('drei');
  const all = await client.getAll().prefix('node/').strings();
  for (const [key, value] of Object.entries(all)) console.log(key, '=', value);
  console.log('missing', await client.get('node/none'));
  console.log('count', await client.getAll().prefix('node/').count());
}

async function transaction(client) {
  for (let round = 0; round < 2; round += 1) {
    const answer = await client
      .if('node/b', 'Value', '==', 'drei')
      .then(client.put('node/b').value('vier'))
      .else(client.get('node/b'))
      .commit();
    console.log('succeeded', answer.succeeded);
  }
}

async function watch(client) {
  const watcher = await client.watch().prefix('node/w').create();
  const done = new Promise((resolve) => {
    let seen = 0;
    const print = (kind) => (pair) => {
      console.log(kind, pair.key.toString(), JSON.stringify(pair.value.toString()));
      seen += 1;
      if (seen === 2) resolve();
    };
    watcher.on('put', print('PUT'));
    watcher.on('delete', print('DELETE'));
  });
  await client.put('node/w1').value('x');
  await client.delete().key('node/w1');
  await done;
  await watcher.cancel();
}

async function lease(client) {
  const granted = client.lease(60, { autoKeepAlive: false });
  await granted.put('node/leased').value('x');
  const alive = await granted.keepaliveOnce();
  console.log('ttl', alive.TTL);
  await granted.revoke();
  console.log('left', await client.get('node/leased'));
}

async function lock(client) {
  await client.lock('node/lock').ttl(30).do(async () => {
    const error = await client.lock('node/lock').acquire().then(() => null, (e) => e);
    console.log('second holder:', error.constructor.name);
  });
}

async function election(client) {
  const contest = client.election('node/election', 30);
  const campaign = contest.campaign('candidate');
  await new Promise((resolve, reject) => {
    campaign.on('elected', resolve);
    campaign.on('error', reject);
  });
  console.log('leader', await contest.leader());
  await campaign.resign();
}

async function main(endpoint) {
  const client = new Etcd3({ hosts: endpoint, dialTimeout: 60 * SECONDS });
  for (const part of [keys, transaction, watch, lease, lock, election]) await part(client);
  client.close();
}

main(process.argv[2]).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
