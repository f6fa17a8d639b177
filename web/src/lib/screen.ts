// A VM's screen, keyboard and pointer, by noVNC. Loaded only when somebody opens one.
import RFB from '@novnc/novnc'
import type { Console } from './terminal'

/** Opens the screen of a VM in an element; `ended` is told why it ended. */
export function open(at: HTMLElement, vm: string, opened: () => void, ended: (why: string) => void): Console {
  const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/vms/${encodeURIComponent(vm)}/screen`)
  let why = ''
  ws.addEventListener('close', (e) => (why = e.reason))
  const rfb = new RFB(at, ws, { shared: true })
  rfb.scaleViewport = true
  rfb.background = '#0d1117'
  const over = () => ended(why)
  rfb.addEventListener('connect', () => {
    opened()
    rfb.focus()
  })
  rfb.addEventListener('disconnect', over)
  return {
    close() {
      rfb.removeEventListener('disconnect', over)
      rfb.disconnect()
    },
    press: () => rfb.sendCtrlAltDel(),
  }
}
