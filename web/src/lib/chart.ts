// Lines over time, drawn by uPlot. Loaded only with a page that has graphs.
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import type { Graph } from './graphs'

export interface Chart {
  close(): void
}

const height = 150
const binary = Array.from({ length: 50 }, (_, i) => 2 ** i)

/** Draws a graph into an element. `pointed` is told at which point somebody looks,
 * -1: at none. */
export function draw(at: HTMLElement, g: Graph, pointed: (index: number) => void): Chart {
  const look = getComputedStyle(document.documentElement)
  const color = (name: string) => look.getPropertyValue(name).trim()
  const font = `11px ${color('--sans')}`
  const axis = { stroke: color('--muted'), font, grid: { stroke: color('--line'), width: 1 }, ticks: { show: false } }
  const days = g.times.length > 1 && g.times[g.times.length - 1] - g.times[0] > 100_000
  const plot = new uPlot(
    {
      width: Math.max(at.clientWidth, 120),
      height,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max(max * 1.05, g.least)] } },
      axes: [
        { ...axis, size: 26, space: 60, values: (_, ticks) => ticks.map((s) => label(s, days)) },
        { ...axis, size: 62, space: 32, ...(g.binary ? { incrs: binary } : {}), values: (_, ticks) => ticks.map((v) => g.show(v)) },
      ],
      series: [{}, ...g.lines.map((l) => ({ label: l.text, stroke: color(l.color), width: 1.5, fill: g.lines.length === 1 ? color(l.color) + '22' : undefined, points: { show: false }, spanGaps: false }))],
      hooks: { setCursor: [(u) => pointed(u.cursor.idx ?? -1)] },
    },
    [g.times, ...g.lines.map((l) => l.points)],
    at,
  )
  const sized = new ResizeObserver(() => plot.setSize({ width: Math.max(at.clientWidth, 120), height }))
  sized.observe(at)
  return {
    close() {
      sized.disconnect()
      plot.destroy()
    },
  }
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' })
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

function label(seconds: number, days: boolean): string {
  return (days ? day : clock).format(new Date(seconds * 1000))
}
