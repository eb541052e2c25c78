// The test changes the table each time 'ready' is printed: it inserts row 1 (of Bob)
// and row 2 (of Alice), updates row 2, deletes it.
import assert from 'node:assert/strict'
import { ALICE_TOKEN, connect, Inbox, project, run, subscribed } from './clients.mjs'

await run(async () => {
  const table = { schema: 'public', table: 'todos' }
  const own = new Inbox()
  const updates = new Inbox()
  const client = connect(ALICE_TOKEN)
  const channel = client
    .channel('todos')
    .on('postgres_changes', { event: 'INSERT', ...table, filter: 'id=gt.0' }, own.put)
    .on('postgres_changes', { event: 'UPDATE', ...table }, updates.put)
    .on('postgres_changes', { event: 'DELETE', ...table }, updates.put)
  await subscribed(channel)
  const supabase = project(ALICE_TOKEN)
  await supabase.realtime.setAuth()
  const all = new Inbox()
  await subscribed(
    supabase.channel('any').on('postgres_changes', { event: '*', schema: '*' }, all.put),
  )
  console.log('ready')
  const insert = await own.next('insert')
  assert.equal(insert.eventType, 'INSERT')
  assert.deepEqual(insert.new, {
    id: 2,
    owner: '11111111-1111-1111-1111-111111111111',
    title: 'mine',
    at: '2026-01-02T03:04:05+00:00',
  })
  assert.equal(insert.errors, null)
  console.log('ready')
  const update = await updates.next('update')
  assert.equal(update.new.title, 'changed')
  assert.deepEqual(update.old, { id: 2 })
  console.log('ready')
  assert.deepEqual((await updates.next('delete')).old, { id: 2 })
  const kinds = []
  for (let i = 0; i < 3; i++) kinds.push((await all.next('any change')).eventType)
  assert.deepEqual(kinds, ['INSERT', 'UPDATE', 'DELETE'])
})
