import assert from 'node:assert/strict'
import { ALICE_TOKEN, BOB_TOKEN, connect, Inbox, run, subscribed } from './clients.mjs'

await run(async () => {
  const config = { config: { private: true, broadcast: { ack: true } } }
  const refused = connect().channel('club', config)
  await assert.rejects(subscribed(refused), /You do not have permissions to read/)
  const alice = connect()
  await alice.setAuth(ALICE_TOKEN)
  const writer = alice.channel('club', config)
  const bob = connect(BOB_TOKEN)
  const reader = bob.channel('club', config)
  const heard = new Inbox()
  reader.on('broadcast', { event: 'news' }, heard.put)
  await Promise.all([subscribed(writer), subscribed(reader)])
  const sent = await writer.send({ type: 'broadcast', event: 'news', payload: { n: 1 } })
  assert.equal(sent, 'ok')
  assert.deepEqual((await heard.next('private broadcast')).payload, { n: 1 })
  console.log('ready')
  const stored = await heard.next('broadcast from the database')
  assert.equal(stored.payload.from, 'database')
  assert.ok(stored.meta.id)

  const since = Date.now() - 60_000
  const late = connect(BOB_TOKEN).channel('club', {
    config: { private: true, broadcast: { replay: { since, limit: 5 } } },
  })
  const replayed = new Inbox()
  late.on('broadcast', { event: 'news' }, replayed.put)
  await subscribed(late)
  const again = await replayed.next('replay')
  assert.equal(again.meta.replayed, true)
  assert.equal(again.payload.from, 'database')
})
