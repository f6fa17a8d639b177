// An incident as it is replayed: what is known at each of its moments.
import type { Incident } from './api'

export interface Step {
  at: number // ms after the incident was opened
  what: string
  text: string
}

export function stepsOf(i: Incident): Step[] {
  const from = Date.parse(i.opened)
  return (i.steps ?? []).map((s) => ({ at: Math.max(0, Date.parse(s.at) - from), what: s.what, text: s.text })).sort((a, b) => a.at - b.at)
}

export function lengthOf(i: Incident, steps: Step[], now: number): number {
  const end = i.closed ? Date.parse(i.closed) : now
  return Math.max(end - Date.parse(i.opened), steps.at(-1)?.at ?? 0, 1000)
}

/** How many VMs have been assigned elsewhere, and how many of them run, after so many steps. */
export function tally(steps: Step[]): { assigned: number; running: number } {
  return { assigned: steps.filter((s) => s.what === 'assigned').length, running: steps.filter((s) => s.what === 'running').length }
}
