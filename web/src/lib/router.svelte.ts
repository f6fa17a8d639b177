// Paths below /ui/. Every page has its own, so that it can be sent to somebody.
const base = '/ui'

function here(): string {
  const p = location.pathname
  return p.startsWith(base) ? p.slice(base.length).replace(/\/+$/, '') || '/' : '/'
}

class Router {
  path = $state(here())
  query = $state.raw(new URLSearchParams(location.search))

  constructor() {
    addEventListener('popstate', () => this.read())
    document.addEventListener('click', (e) => this.click(e))
  }

  /** The parts of the path, decoded. */
  get parts(): string[] {
    return this.path.split('/').filter(Boolean).map(decode)
  }

  go(to: string, replace = false) {
    if (replace) history.replaceState(null, '', base + to)
    else history.pushState(null, '', base + to)
    this.read()
    if (!replace) scrollTo(0, 0)
  }

  private read() {
    this.path = here()
    this.query = new URLSearchParams(location.search)
  }

  private click(e: MouseEvent) {
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return
    const a = (e.target as Element | null)?.closest?.('a')
    if (!a || a.target || a.origin !== location.origin || !a.pathname.startsWith(base + '/') || a.hasAttribute('download')) return
    if (a.pathname === location.pathname && a.hash) return
    e.preventDefault()
    this.go(a.pathname.slice(base.length) + a.search)
  }
}

function decode(s: string): string {
  try {
    return decodeURIComponent(s)
  } catch {
    return s
  }
}

/** The address of a page; parts are encoded. */
export function to(...parts: string[]): string {
  return base + '/' + parts.map(encodeURIComponent).join('/')
}

export const router = new Router()
