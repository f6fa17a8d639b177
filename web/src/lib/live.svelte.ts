// The cluster as the watch stream tells it. Everything is kept by identity and
// handed to the pages as sorted lists, once per batch: a page is drawn once for
// thousands of things that come at once.
import { get, now, Problem, request, told, type Disk, type Event, type Export, type Host, type Incident, type Status, type Task, type VM, type Volume, type Work } from './api'
import { who } from './session.svelte'
import { follow } from './stream'

const silence = 25_000 // ms; the stream has a sign of life every 10 s
const again = 1500 // ms between attempts
const remembered = 500 // changes that the activity page can show

type Kind = 'host' | 'disk' | 'volume' | 'vm' | 'export' | 'incident' | 'task'
type Thing = Host | Disk | Volume | VM | Export | Incident | Task

/** A change as the stream told it. */
export interface Change {
  at: number // by the host's clock, ms
  kind: Kind | 'status'
  name: string
  text: string
  gone: boolean
}

const byName = new Intl.Collator('en', { numeric: true }).compare

class Live {
  status = $state.raw<Status>()
  hosts = $state.raw<Host[]>([])
  disks = $state.raw<Disk[]>([])
  volumes = $state.raw<Volume[]>([]) // images too
  vms = $state.raw<VM[]>([])
  exports = $state.raw<Export[]>([])
  incidents = $state.raw<Incident[]>([]) // newest first
  tasks = $state.raw<Task[]>([]) // newest first
  work = $state.raw<Work[]>([])
  silent = $state.raw<string[]>([]) // hosts that did not tell their work
  changes = $state.raw<Change[]>([]) // newest first

  /** Everything has been told once. */
  ready = $state(false)
  /** Since when the stream is broken, ms; 0: it is not. What is shown is from then. */
  lostAt = $state(0)
  why = $state('')
  /** Somebody has to log in first. */
  locked = $state(false)

  private kept: Record<Kind, Map<string, Thing>> = {
    host: new Map(), disk: new Map(), volume: new Map(), vm: new Map(), export: new Map(), incident: new Map(), task: new Map(),
  }
  private at = ''
  private stopped?: AbortController

  /** Begins anew, for whoever is logged in now. */
  start() {
    this.stop()
    this.locked = false
    this.at = '' // another one may have been told other things before
    this.stopped = new AbortController()
    void this.run(this.stopped.signal)
    void this.askWork(this.stopped.signal)
  }

  stop() {
    this.stopped?.abort()
  }

  private async run(signal: AbortSignal) {
    while (!signal.aborted) {
      try {
        const resp = await request('GET', this.at ? `/v1/watch?after=${encodeURIComponent(this.at)}` : '/v1/watch', undefined, signal)
        this.lostAt = 0
        await follow(resp.body!, silence, (events) => this.take(events))
        this.lost('')
      } catch (err) {
        if (signal.aborted) return
        if (err instanceof Problem && err.status === 401) {
          this.locked = true
          return
        }
        this.lost(told(err))
        if (err instanceof Problem && err.status > 0) await this.askStatus()
      }
      await sleep(again, signal)
    }
  }

  private lost(why: string) {
    this.lostAt ||= now()
    this.why = why
  }

  /** A host that cannot tell changes can still say how it is. */
  private async askStatus() {
    try {
      this.status = await get('/v1/status')
      this.ready = true
      this.lostAt = 0
    } catch {
      // the stream's own error is told
    }
  }

  private async askWork(signal: AbortSignal) {
    while (!signal.aborted) {
      if (!who.limited && document.visibilityState === 'visible' && this.ready && !this.lostAt) {
        try {
          const w = await get('/v1/work')
          this.work = w.work ?? []
          this.silent = w.silent ?? []
        } catch {
          this.work = []
        }
      }
      await sleep(this.work.length ? 2000 : 6000, signal)
    }
  }

  private take(events: Event[]) {
    const touched = new Set<Kind>()
    const changes: Change[] = []
    for (const e of events) {
      if (e.at) this.at = e.at
      if (e.kind === 'all') {
        this.ready = false
        for (const [kind, of] of Object.entries(this.kept)) {
          of.clear()
          touched.add(kind as Kind)
        }
      } else if (e.kind === 'ready') {
        this.ready = true
      } else if (e.kind === 'status') {
        if (this.ready && e.status && e.status.sentence !== this.status?.sentence) {
          changes.push({ at: now(), kind: 'status', name: '', text: e.status.sentence, gone: false })
        }
        this.status = e.status
      } else {
        touched.add(e.kind)
        const change = this.put(e)
        if (change && this.ready) changes.push(change)
      }
    }
    if (changes.length) this.changes = [...changes.reverse(), ...this.changes].slice(0, remembered)
    for (const kind of touched) this.show(kind)
  }

  private put(e: Event): Change | undefined {
    const kind = e.kind as Kind
    const of = this.kept[kind]
    const id = e.id ?? ''
    const before = of.get(id)
    if (e.gone) {
      of.delete(id)
      return before && { at: now(), kind, name: nameOf(before), text: '', gone: true }
    }
    const thing = e[kind] as Thing
    of.set(id, thing)
    const text = stateOf(thing)
    if (before && stateOf(before) === text) return undefined
    return { at: now(), kind, name: nameOf(thing), text, gone: false }
  }

  private show(kind: Kind) {
    const all = [...this.kept[kind].values()]
    if (kind === 'incident') {
      this.incidents = (all as Incident[]).sort((a, b) => (a.opened < b.opened ? 1 : -1))
      return
    }
    if (kind === 'task') {
      this.tasks = (all as Task[]).sort((a, b) => ((a.started ?? '') < (b.started ?? '') ? 1 : -1))
      return
    }
    all.sort((a, b) => byName(nameOf(a), nameOf(b)))
    if (kind === 'host') this.hosts = all as Host[]
    else if (kind === 'disk') this.disks = all as Disk[]
    else if (kind === 'volume') this.volumes = all as Volume[]
    else if (kind === 'vm') this.vms = all as VM[]
    else this.exports = all as Export[]
  }
}

function nameOf(t: Thing): string {
  if ('subject' in t) return `${t.kind} ${t.subject}`
  if ('path' in t && 'host' in t) return `${t.host}:${t.path}`
  return 'name' in t ? t.name : t.id
}

/** What of a thing is worth a line when it changes. */
function stateOf(t: Thing): string {
  if ('opened' in t) return t.steps?.at(-1)?.text ?? ''
  if ('cpus' in t && 'power' in t) return [t.state, t.host].filter(Boolean).join(' · ')
  if ('replicas' in t) return t.state
  return t.state
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true })
  })
}

export const live = new Live()
