// Server-sent events (HTML, section 9.2.6) read from a response: unlike
// EventSource it sees why a stream is refused, and that one has gone silent.
import type { Event } from './api'

/** Reads the lines of a stream of which chunks come as they like. */
export class Lines {
  private rest = ''

  /** The events that a chunk completes. Comments count as a sign of life alone. */
  take(chunk: string): Event[] {
    const lines = (this.rest + chunk).split('\n')
    this.rest = lines.pop()!
    const out: Event[] = []
    for (const line of lines) if (line.startsWith('data:')) out.push(JSON.parse(line.slice(5)) as Event)
    return out
  }
}

/** Hands on what comes until the stream ends. Throws if nothing comes for `silence` ms. */
export async function follow(body: ReadableStream<Uint8Array>, silence: number, each: (events: Event[]) => void): Promise<void> {
  const reader = body.getReader()
  const text = new TextDecoder()
  const lines = new Lines()
  for (;;) {
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<never>((_, no) => {
      timer = setTimeout(() => no(new Error('silent')), silence)
    })
    try {
      const { done, value } = await Promise.race([reader.read(), late])
      if (done) return
      const events = lines.take(text.decode(value, { stream: true }))
      if (events.length) each(events)
    } catch (err) {
      void reader.cancel().catch(() => {})
      throw err
    } finally {
      clearTimeout(timer)
    }
  }
}
