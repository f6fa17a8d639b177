// Several pictures on one: node test/sheet.js OUT COLUMNS FILE...
import { readFileSync } from 'node:fs'
import { chromium } from 'playwright-core'
const [out, cols, ...files] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
const page = await browser.newPage()
await page.setContent(`<body style="margin:0;background:#777;display:inline-grid;grid-template-columns:repeat(${cols},auto);gap:8px;align-items:start">` +
  files.map((f) => `<img src="data:image/png;base64,${readFileSync(f).toString('base64')}">`).join(''))
await page.locator('body').screenshot({ path: out })
await browser.close()
