// The first page of a simulated fleet in a browser, for make fleet-figures: how soon
// it can be used, what it loads, and how soon a commit shows on it. It prints JSON.
import { request } from 'node:http'
import { chromium } from 'playwright-core'

const { FLEET_URL: url, FLEET_SETUP: setup, FLEET_SOCKET: socketPath, FLEET_RUNS: runs } = process.env
const password = 'a long enough password'

/** Asks on the fleet's socket. */
function ask(method, path, body) {
  return new Promise((done, failed) => {
    const req = request({ socketPath, method, path, headers: { 'Content-Type': 'application/json' } }, (resp) => {
      let text = ''
      resp.on('data', (d) => (text += d))
      resp.on('end', () => (resp.statusCode < 300 ? done(text && JSON.parse(text)) : failed(new Error(`${method} ${path}: ${resp.statusCode} ${text}`))))
    })
    req.on('error', failed)
    req.end(body && JSON.stringify(body))
  })
}

/** Notes, in the page, when all racks are drawn and the page has time for somebody. */
function note(racks) {
  const look = () => {
    if (!document.querySelector('.truth p')?.textContent || document.querySelectorAll('section.rack').length < racks) return
    seen.disconnect()
    requestAnimationFrame(() => setTimeout(() => (window.usable = performance.now())))
  }
  const seen = new MutationObserver(look)
  seen.observe(document, { childList: true, subtree: true })
}

/** Loads the page; bytes come over the line, compressed as they are. */
async function load(page, racks) {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Network.enable')
  const kinds = new Map()
  const sum = { files: 0, stream: 0 }
  cdp.on('Network.requestWillBeSent', (e) => kinds.set(e.requestId, new URL(e.request.url).pathname))
  cdp.on('Network.loadingFinished', (e) => kinds.get(e.requestId)?.startsWith('/ui/') && (sum.files += e.encodedDataLength))
  cdp.on('Network.dataReceived', (e) => kinds.get(e.requestId) === '/v1/watch' && (sum.stream += e.encodedDataLength || e.dataLength))
  await page.goto(url + '/ui/', { waitUntil: 'commit' })
  await page.waitForFunction(() => window.usable, undefined, { timeout: 60_000 })
  await cdp.detach()
  return { ready: await page.evaluate(() => window.usable), files: sum.files / 1000, stream: sum.stream / 1000 }
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: process.getuid() === 0 ? ['--no-sandbox'] : [] })
try {
  const racks = (await ask('GET', '/v1/status')).counts.racks
  const first = await browser.newContext({ ignoreHTTPSErrors: true })
  const door = await first.newPage()
  await door.goto(setup)
  await door.getByLabel('User').fill('ann')
  await door.getByLabel('Password', { exact: true }).fill(password)
  await door.getByLabel('Password again').fill(password)
  await door.getByRole('button', { name: 'Create and log in' }).click()
  await door.getByRole('note').getByText('Simulated').waitFor()
  const storageState = await first.storageState()
  await first.close()

  const out = { ready: [], again: [], files: [], stream: [], commit: [] }
  for (let i = 0; i < Number(runs); i++) {
    const ctx = await browser.newContext({ ignoreHTTPSErrors: true, storageState, viewport: { width: 1280, height: 800 } })
    await ctx.addInitScript(note, racks)
    const page = await ctx.newPage()
    const cold = await load(page, racks)
    out.ready.push(cold.ready)
    out.files.push(cold.files)
    out.stream.push(cold.stream)

    // A VM that the page shows gets another name. The time before the request is
    // sent is taken: the commit is later.
    const is = await page.locator('a.vm[title]').first().getAttribute('title')
    const name = `seen-${i}-${Date.now() % 100000}`
    await page.evaluate((name) => {
      const seen = new MutationObserver(() => {
        if (!document.querySelector(`a.vm[title^="${name}:"]`)) return
        seen.disconnect()
        requestAnimationFrame(() => setTimeout(() => (window.told = Date.now())))
      })
      seen.observe(document, { childList: true, subtree: true, attributes: true, characterData: true })
    }, name)
    const sent = Date.now()
    await ask('PATCH', `/v1/vms/${is.split(':')[0]}`, { name })
    await page.waitForFunction(() => window.told, undefined, { timeout: 60_000 })
    out.commit.push((await page.evaluate(() => window.told)) - sent)

    const warm = await ctx.newPage()
    out.again.push((await load(warm, racks)).ready)
    await ctx.close()
  }
  console.log(JSON.stringify(out))
} finally {
  await browser.close()
}
