// A terminal on a VM's serial port. Loaded only when somebody opens a console.
import { FitAddon } from '@xterm/addon-fit'
import { Terminal } from '@xterm/xterm'
import '@xterm/xterm/css/xterm.css'

// The policy of the page forbids <style>, into which xterm writes its colours and
// measures while it is opened. What it writes is adopted as a constructed sheet
// instead, which no markup from outside can make. (Colours of 24 bits, which it
// writes into attributes, are not shown.)
function withSheets(open: () => void) {
  const real = document.createElement.bind(document)
  const style = () => {
    const holder = real('template')
    const sheet = new CSSStyleSheet()
    document.adoptedStyleSheets.push(sheet)
    new MutationObserver(() => sheet.replaceSync(holder.textContent ?? '')).observe(holder, { childList: true, characterData: true, subtree: true })
    return holder
  }
  document.createElement = ((name: string, o?: ElementCreationOptions) => (name === 'style' ? style() : real(name, o))) as typeof document.createElement
  try {
    open()
  } finally {
    delete (document as { createElement?: unknown }).createElement // that of all documents is behind it
  }
}

export interface Console {
  close(): void
  /** Presses Ctrl, Alt and Delete together, where there are such keys. */
  press?(): void
}

/** Opens the console of a VM in an element; `ended` is told why it ended. */
export function open(at: HTMLElement, vm: string, opened: () => void, ended: (why: string) => void): Console {
  const look = getComputedStyle(document.documentElement)
  const term = new Terminal({
    fontFamily: look.getPropertyValue('--mono'),
    fontSize: 14,
    lineHeight: 1.2,
    scrollback: 5000,
    cursorBlink: false,
    screenReaderMode: true,
    theme: { background: '#0d1117', foreground: '#e8ecf2', cursor: '#8ab0ff' },
  })
  const fit = new FitAddon()
  term.loadAddon(fit)
  withSheets(() => term.open(at))
  fit.fit()
  const sized = new ResizeObserver(() => fit.fit())
  sized.observe(at)

  const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/vms/${encodeURIComponent(vm)}/console`)
  ws.binaryType = 'arraybuffer'
  ws.onopen = () => {
    opened()
    term.focus()
  }
  ws.onmessage = (m) => term.write(new Uint8Array(m.data as ArrayBuffer))
  ws.onclose = (e) => ended(e.reason)
  const text = new TextEncoder()
  const most = 8 << 10 // the host takes 16 KiB a message
  term.onData((s) => {
    const b = text.encode(s)
    for (let i = 0; i < b.length && ws.readyState === WebSocket.OPEN; i += most) ws.send(b.subarray(i, i + most))
  })
  return {
    close() {
      ws.onclose = null
      ws.close()
      sized.disconnect()
      term.dispose()
    },
  }
}
