import { expect, test } from 'vitest'
import type { Incident } from './api'
import { lengthOf, stepsOf, tally } from './timeline'

const incident = {
  id: 'i', racks: ['a'], hosts: ['a1'], opened: '2026-11-22T22:28:00Z', closed: '2026-11-22T22:28:19Z',
  steps: [{ at: '2026-11-22T22:28:00.4Z', what: 'running', text: 'x' }, { at: '2026-11-22T22:27:59.900Z', what: 'lost', text: 'rack a' }, { at: '2026-11-22T22:28:00Z', what: 'assigned', text: 'x' }],
} as Incident

test('steps come in their order, none before the incident', () => {
  const steps = stepsOf(incident)
  expect(steps.map((s) => [s.at, s.what])).toEqual([[0, 'lost'], [0, 'assigned'], [400, 'running']])
  expect(tally(steps)).toEqual({ assigned: 1, running: 1 })
  expect(lengthOf(incident, steps, 0)).toBe(19_000)
})

test('an open incident lasts until now', () => {
  expect(lengthOf({ ...incident, closed: undefined }, [], Date.parse(incident.opened) + 5000)).toBe(5000)
})
