import assert from 'node:assert/strict'
import { connect, Inbox, run, subscribed } from './clients.mjs'

await run(async () => {
  const watcher = connect().channel('lobby')
  const joins = new Inbox()
  const leaves = new Inbox()
  watcher.on('presence', { event: 'join' }, joins.put)
  watcher.on('presence', { event: 'leave' }, leaves.put)
  await subscribed(watcher)
  const client = connect()
  const config = { config: { presence: { key: 'ada' } } }
  const tracker = client.channel('lobby', config)
  tracker.on('presence', { event: 'sync' }, () => {})
  await subscribed(tracker)
  assert.equal(await tracker.track({ mood: 'calm' }), 'ok')
  const joined = await joins.next('join')
  assert.equal(joined.key, 'ada')
  assert.equal(joined.newPresences[0].mood, 'calm')
  assert.equal(watcher.presenceState().ada[0].mood, 'calm')
  assert.ok(joined.newPresences[0].presence_ref)
  await client.disconnect()
  assert.equal((await leaves.next('leave')).key, 'ada')
  assert.deepEqual(watcher.presenceState(), {})
})
