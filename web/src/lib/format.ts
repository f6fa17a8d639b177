// Figures and times as people read them.
import { now } from './api'

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** A size in binary units, three digits: 512 MiB, 1.5 TiB. */
export function size(bytes: number): string {
  let n = bytes
  let u = 0
  while (Math.abs(n) >= 1024 && u < units.length - 1) {
    n /= 1024
    u++
  }
  const digits = u === 0 || n >= 100 || Number.isInteger(n) ? 0 : n >= 10 ? 1 : 2
  return `${n.toFixed(digits).replace(/\.0+$/, '')} ${units[u]}`
}

export function memory(mib: number): string {
  return size(mib * 2 ** 20)
}

/** A size as a person types it: 20, 20G, 20 GiB, 512M. NaN: it is none. */
export function parseSize(text: string): number {
  const m = /^\s*(\d+(?:[.,]\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text)
  if (!m) return NaN
  const scale = 1024 ** ' kmgtp'.indexOf(m[2].toLowerCase() || ' ')
  return Math.round(parseFloat(m[1].replace(',', '.')) * scale)
}

/** A length of time: 8 s, 3 min, 2 h 5 min, 4 d. */
export function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 90) return `${s} s`
  const min = Math.round(s / 60)
  if (min < 60) return `${min} min`
  const h = Math.floor(min / 60)
  if (h < 24) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`
  const d = Math.floor(h / 24)
  return h % 24 && d < 4 ? `${d} d ${h % 24} h` : `${d} d`
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' })
const date = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' })
const full = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'long' })

/** A time: within 20 hours by the clock, within half a year with its day, otherwise the date. */
export function when(time: string | number): string {
  const t = new Date(time)
  const away = Math.abs(now() - t.getTime())
  return (away < 20 * 3600_000 ? clock : away < 182 * 86400_000 ? day : date).format(t)
}

export function exactly(time: string | number): string {
  return full.format(new Date(time))
}

export function percent(part: number, of: number): number {
  return of > 0 ? Math.max(0, Math.min(100, (100 * part) / of)) : 0
}
