import assert from 'node:assert/strict'
import { connect, Inbox, run, subscribed } from './clients.mjs'

await run(async () => {
  for (const vsn of ['1.0.0', '2.0.0']) {
    const config = { config: { broadcast: { self: true, ack: true } } }
    const sender = connect(undefined, { vsn }).channel(`room-${vsn}`, config)
    const receiver = connect(undefined, { vsn: '2.0.0' }).channel(`room-${vsn}`)
    const heard = new Inbox()
    const echoed = new Inbox()
    receiver.on('broadcast', { event: 'shout' }, heard.put)
    sender.on('broadcast', { event: '*' }, echoed.put)
    await Promise.all([subscribed(sender), subscribed(receiver)])
    const payload = { words: 'é', nested: { n: [1, 2.5, null] } }
    const answer = await sender.send({ type: 'broadcast', event: 'shout', payload })
    assert.equal(answer, 'ok')
    assert.deepEqual((await heard.next('broadcast')).payload, payload)
    assert.deepEqual((await echoed.next('echo')).payload, payload)
  }

  const sender = connect().channel('bytes')
  const receiver = connect().channel('bytes')
  const heard = new Inbox()
  receiver.on('broadcast', { event: 'raw' }, heard.put)
  await Promise.all([subscribed(sender), subscribed(receiver)])
  const bytes = new Uint8Array([0, 1, 254, 255])
  await sender.send({ type: 'broadcast', event: 'raw', payload: bytes.buffer })
  const { payload } = await heard.next('binary broadcast')
  assert.deepEqual(new Uint8Array(payload), bytes)

  await receiver.httpSend('raw', { over: 'http' })
  assert.deepEqual((await heard.next('broadcast over HTTP')).payload, { over: 'http' })
})
