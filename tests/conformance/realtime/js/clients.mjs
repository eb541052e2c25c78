// What every script shares: clients of the served project, waiting, and cleaning up.
import { RealtimeClient } from '@supabase/realtime-js'
import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

export const { REALTIME_URL, PROJECT_URL, ANON_TOKEN, ALICE_TOKEN, BOB_TOKEN } =
  process.env
const DEADLINE_MS = 8000
const opened = []

/** A realtime-js client; `options` go to its constructor. */
export function connect(token = ANON_TOKEN, options = {}) {
  const client = new RealtimeClient(REALTIME_URL, {
    params: { apikey: token },
    transport: WebSocket,
    ...options,
  })
  opened.push(() => client.disconnect())
  return client
}

/** A supabase-js client that speaks for `token`. */
export function project(token = ANON_TOKEN) {
  const client = createClient(PROJECT_URL, ANON_TOKEN, {
    realtime: { transport: WebSocket },
    accessToken: async () => token,
  })
  opened.push(() => client.removeAllChannels())
  return client
}

/** Collects values; `next()` waits for the first that was not taken yet. */
export class Inbox {
  constructor() {
    this.values = []
    this.waiting = []
  }

  put = (value) => {
    const taker = this.waiting.shift()
    if (taker) taker(value)
    else this.values.push(value)
  }

  next(what = 'value') {
    if (this.values.length) return Promise.resolve(this.values.shift())
    return within(new Promise((resolve) => this.waiting.push(resolve)), what)
  }
}

/** Resolves once `channel` is subscribed; rejects with any other first state. */
export function subscribed(channel) {
  const settled = new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === 'SUBSCRIBED') resolve(channel)
      else reject(error ?? new Error(status))
    })
  })
  return within(settled, `subscription to ${channel.topic}`)
}

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} in time`)), DEADLINE_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Runs one scenario and ends the process with its outcome. */
export async function run(scenario) {
  try {
    await scenario()
    console.log('ok')
  } finally {
    for (const close of opened) await close()
  }
  process.exit(0)
}
