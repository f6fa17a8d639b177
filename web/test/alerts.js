// Receivers of alerts in a browser: part of make ui-test.
import { createServer } from 'node:http'

/** Somebody is told what is wrong: by a receiver that is added in the settings, tried there, and removed. */
export async function alerts(page, base, { check, axed, look, faults }) {
  const got = []
  const server = createServer((req, res) => {
    let body = ''
    req.on('data', (b) => (body += b))
    req.on('end', () => (got.push({ signature: req.headers['holdfast-signature'], message: JSON.parse(body) }), res.end('thanks')))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${server.address().port}/hook/a-key`

  await page.goto(base + '/settings')
  const section = page.locator('section', { has: page.getByRole('heading', { name: 'Alerts' }) })
  await section.getByText('Nobody outside is told').waitFor()
  await section.getByLabel('Tell by').selectOption('webhook')
  await section.getByLabel('New receiver').fill('ops')
  await section.getByLabel('URL').fill(url)
  await section.getByRole('button', { name: 'Add' }).click()
  await page.getByText("only where their receiver has 'private'").waitFor() // and the form is as it was
  await section.getByLabel('Its address may be in a private network').check()
  await section.getByRole('button', { name: 'Add' }).click()
  await section.getByText('Keep it now').waitFor()
  const secret = await section.locator('.made').innerText()
  check(/[\w-]{43}/.test(secret) && !(await section.locator('li').first().innerText()).includes('a-key'), 'a receiver of alerts is added; its secret is shown once, the key in its URL never')
  await axed(page, 'the settings with a receiver of alerts', faults)

  await section.getByRole('button', { name: 'Test' }).click()
  await section.getByText(/has sent a test: 200 OK thanks/).waitFor()
  check(got.length > 0 && got.at(-1).message.kind === 'test' && /^t=\d+,v1=[0-9a-f]{64}$/.test(got.at(-1).signature), 'a test arrives, signed, and the page says what was answered')
  await section.getByLabel('What ops is told').selectOption('errors')
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await section.getByRole('button', { name: 'Test' }).click()
  await section.getByText(/could not send a test: the server cannot be reached/).waitFor()
  check(true, 'and that it could not be sent, when its server is gone')
  await axed(page, 'the settings with a test that failed', faults)
  await look('settings-alerts', '/settings')

  await section.getByRole('button', { name: 'Remove' }).click()
  const dialog = page.getByRole('dialog')
  check((await dialog.locator('pre').textContent()) === 'holdfast alert receiver remove ops', 'the same on the command line: holdfast alert receiver remove ops')
  await dialog.getByRole('button', { name: 'Remove' }).click()
  await section.getByText('Nobody outside is told').waitFor()
  check(true, 'a receiver that is removed is gone')
}
