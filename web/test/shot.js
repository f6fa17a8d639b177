// Pictures of pages: node test/shot.js SOCKET OUT PATH...
import { chromium } from 'playwright-core'
import { proxy } from './proxy.js'
const [socket, out, ...paths] = process.argv.slice(2)
const via = await proxy(socket)
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
for (const [name, viewport, scheme] of [['wide', { width: 1280, height: 800 }, 'light'], ['phone', { width: 360, height: 740 }, 'light'], ['wide-dark', { width: 1280, height: 800 }, 'dark'], ['phone-dark', { width: 360, height: 740 }, 'dark']]) {
  if (process.env.ONLY && !process.env.ONLY.split(',').includes(name)) continue
  const ctx = await browser.newContext({ viewport, colorScheme: scheme, deviceScaleFactor: 1 })
  for (const p of paths) {
    const page = await ctx.newPage()
    page.on('console', (m) => m.type() === 'error' && console.log(p, 'console:', m.text()))
    page.on('pageerror', (e) => console.log(p, 'error:', e.message))
    await page.goto(`http://127.0.0.1:${via.port}/ui${p}`)
    await page.waitForTimeout(700)
    const w = await page.evaluate(() => document.documentElement.scrollWidth)
    if (w > viewport.width) console.log(p, name, 'scrolls sideways:', w)
    await page.screenshot({ path: `${out}/${name}${p.replaceAll('/', '-').replace(/-$/, '') || '-home'}.png`, fullPage: !!process.env.FULL })
    await page.close()
  }
  await ctx.close()
}
await browser.close()
await via.close()
