import { expect, test } from 'vitest'
import { follow, Lines } from './stream'

test('events come whole, however they are cut', () => {
  const text = 'retry: 1000\n\nevent: all\ndata: {"kind":"all"}\n\n:\n\nid: 7\nevent: ready\ndata: {"kind":"ready","at":"7"}\n\n'
  for (let cut = 0; cut <= text.length; cut++) {
    const lines = new Lines()
    expect([...lines.take(text.slice(0, cut)), ...lines.take(text.slice(cut))]).toEqual([{ kind: 'all' }, { kind: 'ready', at: '7' }])
  }
})

test('a stream that has gone silent is left', async () => {
  const body = new ReadableStream<Uint8Array>({ start: (c) => c.enqueue(new TextEncoder().encode(':\n\n')) })
  await expect(follow(body, 1, () => {})).rejects.toThrow('silent')
})
