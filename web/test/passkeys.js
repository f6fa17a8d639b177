// Pages by name, and passkeys, in a browser that trusts the pages' authority as a phone
// would that has installed it: part of make ui-test.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

/** A browser of its own, whose store of certificates has the authority, and which finds the name at the host. */
async function trusting(work, pages, addr) {
  const home = join(work, 'home')
  const store = join(home, '.pki/nssdb')
  rmSync(home, { recursive: true, force: true })
  mkdirSync(store, { recursive: true })
  const file = join(home, 'pages.crt')
  writeFileSync(file, pages.authority.certificate)
  execFileSync('certutil', ['-d', `sql:${store}`, '-N', '--empty-password'])
  execFileSync('certutil', ['-d', `sql:${store}`, '-A', '-n', 'pages', '-t', 'C,,', '-i', file])
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...(process.getuid() === 0 ? ['--no-sandbox'] : []), `--host-resolver-rules=MAP ${pages.names[0]} ${addr}`],
    env: { ...process.env, HOME: home },
  })
}

/** A certificate by an agency of the test's own for a name, and its key: files. */
function agency(work, name) {
  const dir = join(work, 'agency')
  mkdirSync(dir, { recursive: true })
  const at = (f) => join(dir, f)
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...ec, '-days', '90', '-subj', '/CN=Agency CA', '-keyout', at('ca.key'), '-out', at('ca.crt'))
  openssl('req', ...ec, '-subj', '/CN=pages', '-keyout', at('site.key'), '-out', at('site.csr'))
  writeFileSync(at('names'), `subjectAltName=DNS:${name}\n`)
  openssl('x509', '-req', '-in', at('site.csr'), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '60', '-extfile', at('names'), '-out', at('site.crt'))
  return { ca: readFileSync(at('ca.crt'), 'utf8'), certificate: at('site.crt'), key: at('site.key') }
}

/** A site gives the pages its own certificate, and a browser that trusts its agency opens them. */
async function ownCertificate(page, base, { check, axed, narrow, look, work, faults, holdfast }) {
  const { hostname, port } = new URL(base)
  const name = 'cloud.example.org'
  const its = agency(work, name)
  await page.goto(base + '/settings')
  const dialog = page.getByRole('dialog')
  await page.getByLabel('Certificate and those that vouch').setInputFiles(its.key)
  await page.getByLabel('Its key, PEM').setInputFiles(its.key)
  await page.getByRole('button', { name: 'Use this certificate' }).click()
  await page.getByText('there is a key among the certificates').waitFor()
  await page.getByLabel('Certificate and those that vouch').setInputFiles(its.certificate)
  await page.getByRole('button', { name: 'Use this certificate' }).click()
  await dialog.getByText(`trust CN=Agency CA open the pages without a warning by ${name}`).waitFor()
  check((await dialog.locator('pre').textContent()) === 'holdfast pages set-certificate site.crt site.key', 'what a certificate stands for is said before it is used')
  await axed(page, 'the dialog of the certificate', faults)
  await dialog.getByRole('button', { name: 'Use this certificate' }).click()
  await page.getByRole('button', { name: 'Use another certificate' }).waitFor()
  await narrow(page, 'settings-certificate', faults)
  await page.setViewportSize({ width: 1280, height: 800 })
  await look('trust-site', '/trust', { storageState: undefined })

  const browser = await trusting(work, { names: [name], authority: { certificate: its.ca } }, hostname)
  try {
    const own = await (await browser.newContext()).newPage()
    await own.goto(`https://${name}:${port}/ui/`)
    await own.getByRole('heading', { name: 'Log in' }).waitFor()
    check(true, `a browser that trusts the site's agency opens https://${name} without a warning, with nothing installed`)
  } finally {
    await browser.close()
  }
  await page.getByRole('button', { name: 'Remove it' }).click()
  await dialog.getByRole('button', { name: 'Remove it' }).click()
  await page.getByRole('button', { name: 'Use this certificate' }).waitFor()
  check(JSON.parse(await holdfast('pages', 'show', '-o', 'json')).site === undefined, 'and it is removed')
}

/** Somebody trusts the pages, adds a passkey, and logs in with it. */
export async function passkeys(page, base, password, tools) {
  const { check, axed, narrow, look, holdfast, work, faults } = tools
  const { hostname, port } = new URL(base)
  await page.goto(base + '/settings')
  await page.getByText('Passkeys serve where the page is opened by its name').waitFor()
  check((await page.getByRole('button', { name: 'Add a passkey' }).count()) === 0, 'where the page was opened by an address, no passkey can be added, and it is said why')
  await page.getByRole('link', { name: 'How to get there' }).click()
  await page.getByRole('heading', { name: 'Trust these pages' }).waitFor()
  const pages = JSON.parse(await holdfast('pages', 'show', '-o', 'json'))
  await page.getByText(pages.authority.sha256).waitFor()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Download the certificate' }).click()])
  check(download.suggestedFilename() === `${pages.names[0]}.crt`, 'the certificate is downloaded, and its SHA-256 is what the command line says')
  await look('trust', '/trust', { storageState: undefined })

  const browser = await trusting(work, pages, hostname)
  try {
    const ctx = await browser.newContext({ viewport: { width: 1280, height: 800 } }) // certificates are checked
    const own = await ctx.newPage()
    const named = `https://${pages.names[0]}:${port}/ui`
    await own.goto(named + '/')
    await own.getByRole('heading', { name: 'Log in' }).waitFor()
    check(true, `a browser that trusts the authority opens ${named} without a warning`)
    const devices = await ctx.newCDPSession(own)
    await devices.send('WebAuthn.enable')
    await devices.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })

    await own.getByLabel('User').fill('ann')
    await own.getByLabel('Password').fill(password)
    await own.getByRole('button', { name: 'Log in', exact: true }).click()
    await own.getByRole('heading', { name: /^Rack/ }).first().waitFor()
    await own.goto(named + '/settings')
    const section = own.locator('section', { has: own.getByRole('heading', { name: 'Your passkeys' }) })
    await section.getByLabel('Name of the device').fill('laptop')
    await section.getByLabel('Your password').fill('not the password')
    await section.getByRole('button', { name: 'Add a passkey' }).click()
    await own.getByText('the password is wrong').waitFor()
    await section.getByLabel('Your password').fill(password)
    await section.getByRole('button', { name: 'Add a passkey' }).click()
    await section.getByText('laptop', { exact: true }).waitFor()
    check((await section.getByText(`at ${pages.names[0]}`).count()) === 1, 'a passkey is added, with the password')
    await own.getByText('The passkey is added.').waitFor()
    await section.evaluate((e) => e.scrollIntoView())
    await narrow(own, 'settings-passkey', faults)
    await own.setViewportSize({ width: 1280, height: 800 })

    const out = async () => {
      await own.getByRole('button', { name: 'Log out' }).first().click()
      await own.getByRole('heading', { name: 'Log in' }).waitFor()
    }
    await out()
    await axed(own, 'the log-in with a passkey', faults)
    await narrow(own, 'login-passkey', faults)
    await own.setViewportSize({ width: 1280, height: 800 })
    await own.getByRole('button', { name: 'Log in with a passkey' }).click()
    await own.getByText('Your passkeys').waitFor()
    check(JSON.parse(await holdfast('user', 'passkeys', 'ann', '-o', 'json'))[0].used !== undefined, 'and logs its user in')

    await section.getByRole('button', { name: 'Remove passkey laptop' }).click()
    await own.getByRole('dialog').getByRole('button', { name: 'Remove' }).click()
    await section.getByText('None. With a passkey').waitFor()
    await out()
    await own.getByRole('button', { name: 'Log in with a passkey' }).click()
    await own.getByRole('alert').getByText('not known here').waitFor()
    check(true, 'one that was removed opens nothing, and it is said')
  } finally {
    await browser.close()
  }

  // Other names: it is said before whether people have to trust another authority.
  await page.goto(base + '/settings')
  const names = page.getByLabel('Names, the first for people to be told')
  await names.fill(pages.names[0] + ' 10.0.0.1')
  await page.getByRole('button', { name: 'Save the names' }).click()
  await page.getByText('is no name for the pages').waitFor()
  await names.fill(pages.names[0] + ' cloud.example.org')
  await page.getByRole('button', { name: 'Save the names' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('so there will be another').waitFor()
  check((await dialog.locator('pre').textContent()) === `holdfast pages set ${pages.names[0]} cloud.example.org`, 'another name is said to need another authority, before it has one')
  await axed(page, 'the dialog of the names', faults)
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await ownCertificate(page, base, tools)
}
