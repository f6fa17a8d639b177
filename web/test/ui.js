// The web interface in a browser, against a lab of real hosts: make ui-test.
// A VM is made by the form, its serial console is typed into, its screen looked at,
// volumes are made, kept, cloned, moved and deleted by the dialogs, somebody of a
// project sees that and nothing else, a rack is killed, and the page has to tell the
// truth; names that are markup are shown as text;
// axe looks at every page, in light and dark, on a phone and on a wide screen.
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { chromium } from 'playwright-core'
import { alerts } from './alerts.js'
import { shell } from './guest.js'
import { oidc } from './oidc.js'
import { passkeys } from './passkeys.js'
import { backups, disks, exports, pools, upgrade } from './storage.js'

const root = resolve(import.meta.dirname, '../..')
const out = join(root, 'build/ui')
const work = join(root, 'build/ui-test')
const dir = process.env.UI_LAB ?? join(work, 'lab') // short enough for sockets to be in it
const kernel = process.env.UI_KERNEL ?? join(root, 'build/kernel')
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const env = { ...process.env, XDG_STATE_HOME: join(work, 'state') }

const run = promisify(execFile)
async function holdfast(...args) {
  return (await run(join(root, 'bin/holdfast'), args, { env, maxBuffer: 16 << 20 })).stdout
}
const began = Date.now()
const say = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`)
function check(ok, what) {
  if (!ok) throw new Error(what)
  say(`ok    ${what}`)
}

const screens = [
  ['wide', { width: 1280, height: 800 }, 'light'],
  ['phone', { width: 360, height: 740 }, 'light'],
  ['wide-dark', { width: 1280, height: 800 }, 'dark'],
  ['phone-dark', { width: 360, height: 740 }, 'dark'],
]

/** A page that fails the test when it does what its policy forbids, or throws. */
async function opened(ctx, url, faults) {
  const page = await ctx.newPage()
  page.on('pageerror', (e) => faults.push(`${url}: ${e.message}`))
  page.on('console', (m) => m.type() === 'error' && /Content Security Policy|Refused to|Uncaught/.test(m.text()) && faults.push(`${url}: ${m.text()}`))
  page.on('dialog', (d) => (faults.push(`${url}: a script has run: ${d.message()}`), d.dismiss()))
  await page.goto(url)
  return page
}

let storageState // of the browser: its session
const context = (browser, more = {}) => browser.newContext({ ignoreHTTPSErrors: true, storageState, ...more })

/** Has axe look at a page as it is. */
async function axed(page, where, faults) {
  await page.evaluate(axe) // by the debugger, which the policy does not concern
  const found = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }))
  for (const v of found.violations) faults.push(`${where}: ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120)).join(' | ')}`)
}

async function look(browser, base, name, path, faults, more = {}) {
  for (const [size, viewport, colorScheme] of screens) {
    const ctx = await context(browser, { viewport, colorScheme, ...more })
    const page = await opened(ctx, base + path, faults)
    await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.waiting'))
    await page.waitForTimeout(400) // pictures are for people; nothing is judged by it
    const wide = await page.evaluate(() => document.documentElement.scrollWidth)
    if (wide > viewport.width) faults.push(`${path} is ${wide} wide on ${size}`)
    await page.screenshot({ path: join(out, `${name}-${size}.png`), fullPage: true })
    await axed(page, `${path} on ${size}`, faults)
    await ctx.close()
  }
}

/** Has axe look at a page with an open dialog, here and on a phone. */
async function narrow(page, name, faults) {
  for (const [size, viewport] of screens.slice(0, 2).reverse()) {
    await page.setViewportSize(viewport)
    await page.screenshot({ path: join(out, `${name}-${size}.png`) })
    const wide = await page.evaluate(() => document.documentElement.scrollWidth)
    if (wide > viewport.width) faults.push(`${name} is ${wide} wide on ${size}`)
    await axed(page, `${name} on ${size}`, faults)
  }
}

const password = 'a long enough password'

/** Nobody is told anything before they log in; the set-up link makes the first administrator. */
async function enter(browser, base, faults) {
  const ctx = await context(browser, { viewport: screens[0][1] })
  const page = await opened(ctx, base + '/', faults)
  await page.getByRole('heading', { name: 'Log in' }).waitFor()
  check(!/rack|host [abc]1/i.test(await page.locator('body').innerText()), 'who has not logged in is told nothing of the cluster')
  await page.getByLabel('User').fill('ann')
  await page.getByLabel('Password').fill('guess')
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('alert').getByText(/\w/).waitFor()
  await look(browser, base, 'login', '/', faults)
  await page.goto(new URL((await holdfast('user', 'setup-link', '-o', 'json', '--socket', join(dir, `${keep}1`, 'api.sock'))).match(/https:[^"\s]+/)[0]).href)
  await page.getByLabel('User').fill('ann')
  await page.getByLabel('Password', { exact: true }).fill(password)
  await page.getByLabel('Password again').fill(password)
  await page.getByRole('button', { name: 'Create and log in' }).click()
  await page.getByRole('status').getByText(/VM/).waitFor()
  storageState = await ctx.storageState()
  check(storageState.cookies.length === 1 && storageState.cookies.every((c) => c.httpOnly && c.secure && c.sameSite === 'Strict'), 'the set-up link makes the first administrator, and a cookie that no script can read')
  await ctx.close()
}

/** A user whose account ends is shown out. */
async function revoke(browser, base, faults) {
  const file = join(work, 'password')
  writeFileSync(file, password)
  await holdfast('user', 'add', 'bob', '--role', 'viewer', '--password-file', file)
  const ctx = await context(browser, { storageState: undefined })
  const page = await opened(ctx, base + '/', faults)
  await page.getByLabel('User').fill('bob')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('heading', { name: /^Rack/ }).first().waitFor()
  const at = Date.now()
  await holdfast('user', 'set', 'bob', '--disabled')
  await page.getByRole('heading', { name: 'Log in' }).waitFor({ timeout: 60_000 })
  check((await page.getByRole('heading', { name: /^Rack/ }).count()) === 0, 'a user whose account ends is shown out')
  say(`      ${Date.now() - at} ms after the command`)
  await ctx.close()
}

/** What is tried, in this order; UI_PARTS names some. What comes later lives on the VM that the first makes. */
const parts = {
  machine: ({ page, base }) => machine(page, base),
  screen: ({ page, base }) => screen(page, base),
  graphs: ({ page, base }) => graphs(page, base),
  acts: ({ page, base }) => acts(page, base, faults),
  alerts: ({ page, base, browser }) => alerts(page, base, tools(browser, base)),
  oidc: ({ page, base, browser }) => oidc(page, base, work, tools(browser, base)),
  passkeys: ({ page, base, browser }) => passkeys(page, base, password, tools(browser, base)),
  pools: ({ page, base, browser }) => pools(page, base, tools(browser, base)),
  exports: ({ page, base, browser }) => exports(page, base, tools(browser, base)),
  backups: ({ page, base, browser }) => backups(page, base, tools(browser, base)),
  disks: ({ page, base, browser }) => disks(page, base, tools(browser, base)),
  upgrade: ({ page, base, browser }) => upgrade(page, base, tools(browser, base)),
  project: ({ base, browser }) => project(browser, base, faults),
  // Markup from outside is text: in the names of an answer, in its conditions, in a path.
  markup: ({ base, browser }) => markup(browser, base, faults),
  revoke: ({ base, browser }) => revoke(browser, base, faults),
  loss: ({ page, base, browser }) => loss(browser, page, base),
  pages: ({ base, browser }) => pages(browser, base),
}

async function story(browser, base) {
  await enter(browser, base, faults)
  const ctx = await context(browser, { viewport: screens[0][1] })
  const page = await opened(ctx, base + '/', faults)
  await page.getByRole('status').getByText('No VM should be running').waitFor()
  await page.screenshot({ path: join(out, 'empty-wide.png') })
  const wanted = process.env.UI_PARTS?.split(/[ ,]+/) ?? Object.keys(parts)
  for (const name of wanted) await parts[name]({ page, base, browser })
}

/** What parts in other files work with. */
const tools = (browser, base) => ({ check, axed, narrow, faults, holdfast, run, dir, work, look: (name, path, more) => look(browser, base, name, path, faults, more), visitor: () => visitor(browser, base) })

/** Somebody who has not logged in. */
async function visitor(browser, base) {
  const ctx = await context(browser, { storageState: undefined, viewport: screens[0][1] })
  return { ctx, page: await opened(ctx, base + '/', faults) }
}

/** A VM is made by the form, its console is typed into, and another one deleted. */
async function machine(page, base) {
  // A VM by the form, which shows the command that does the same.
  await page.getByRole('navigation').getByRole('link', { name: 'VMs' }).click()
  await page.getByRole('link', { name: 'New VM' }).first().click()
  await page.getByLabel('Name').fill('web1')
  await page.getByLabel('Image', { exact: true }).selectOption('probe')
  await page.getByLabel('Memory').fill('32 MiB')
  check((await page.locator('pre').textContent()) === 'holdfast vm create web1 --image probe --memory 32MiB', 'the form shows the command that does the same')
  await page.getByRole('button', { name: 'Make and start it' }).click()
  await page.getByText('running', { exact: true }).waitFor({ timeout: 60_000 })
  check((await holdfast('list', '-o', 'name')).includes('web1'), 'a VM made by the form runs')

  // Its serial console.
  await page.getByRole('link', { name: 'Console' }).click()
  await page.locator('.xterm-rows').getByText(/probe|flushed/).first().waitFor({ timeout: 60_000 })
  check(true, 'the console shows what was printed before')
  if (shell(kernel, work)) {
    await holdfast('image', 'import', join(work, 'vmlinuz'), '--name', 'kernel')
    await holdfast('image', 'import', join(work, 'initrd'), '--name', 'initrd')
    await holdfast('vm', 'create', 'shell', '--kernel', 'kernel', '--initrd', 'initrd', '--append', 'console=ttyS0 quiet', '--size', '4MiB', '--memory', '192MiB', '--no-wait')
    await page.goto(base + '/vms/shell/console')
    await page.locator('.xterm-rows').getByText(/[/~] #/).first().waitFor({ timeout: 90_000 })
    await page.locator('.xterm-helper-textarea').focus()
    await page.keyboard.type('echo $((6*7))x; printf "\\033]0;t\\007<img src=x onerror=alert(1)>"\n')
    await page.locator('.xterm-rows').getByText('42x').first().waitFor({ timeout: 30_000 })
    check(true, 'a guest answers what is typed into its console')
    await page.screenshot({ path: join(out, 'console-wide.png') })
  } else {
    say('SKIPPED: no kernel for a guest with a shell (make kernel)')
  }

  // Deleting asks for the name, and says what is lost.
  await holdfast('vm', 'create', 'old', '--image', 'probe', '--memory', '32MiB', '--off')
  await page.goto(base + '/vms/old')
  await page.locator('summary', { hasText: 'More' }).click()
  await page.getByRole('button', { name: 'Delete', exact: true }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('and everything on it: lost').waitFor()
  check(await dialog.getByRole('button', { name: 'Delete' }).isDisabled(), 'nothing is deleted before its name is typed')
  await page.screenshot({ path: join(out, 'delete-wide.png') })
  await dialog.getByLabel('To go on, type old').fill('old')
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await page.waitForURL(base + '/vms')
  check(!(await holdfast('list', '-o', 'name')).split('\n').includes('old'), 'and then it is')
}

/** A rack is lost, and the page tells it. */
async function loss(browser, page, base) {
  const vm = JSON.parse(await holdfast('vm', 'show', 'web1', '-o', 'json'))
  await page.goto(base + '/')
  await page.getByRole('heading', { name: `Rack ${vm.rack}` }).waitFor()
  const rack = vm.rack === keep ? 'b' : vm.rack
  say(`rack ${rack} is killed`)
  const killed = Date.now()
  await holdfast('lab', 'kill', rack, '--dir', dir)
  await page.getByRole('main').getByText(`rack ${rack} is away`, { exact: false }).first().waitFor({ timeout: 60_000 })
  const told = Date.now()
  let incident // which is opened a moment after the host was seen to be away
  while (!(incident = JSON.parse(await holdfast('incident', 'list', '-o', 'json'))[0])) if (Date.now() - told > 60_000) throw new Error('no incident was opened')
  const lost = incident.steps.find((s) => s.what === 'lost')
  say(`      the page said so ${told - killed} ms after the kill; ${told - Date.parse(lost.at)} ms after the incident's first step`)
  const status = JSON.parse(await holdfast('status', '-o', 'json'))
  await page.waitForFunction((s) => document.querySelector('.truth p')?.textContent.replace(/\s+/g, ' ').trim() === s, status.sentence).catch(() => {})
  check(/away|one copy|Cannot lose|short/i.test(await page.locator('main').innerText()), 'the page says what the loss means')
  await look(browser, base, 'lost', '/', faults)
  await page.getByRole('link', { name: /What to do/ }).first().click()
  await page.getByRole('heading', { name: 'What to type' }).waitFor()
  check(true, 'and leads to what to do')

  const dialog = page.getByRole('dialog')
  await page.goto(base + '/hosts')
  await page.getByRole('button', { name: 'Remove the rack' }).click()
  await dialog.locator('.losses li').first().waitFor()
  check((await dialog.locator('pre').textContent()) === `holdfast rack remove ${rack} --lost`, 'what it would mean to remove the rack is said before it is done')
  await page.waitForTimeout(400) // for the picture
  await page.screenshot({ path: join(out, 'remove-rack-wide.png') })
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await holdfast('lab', 'start', rack, '--dir', dir)
  await page.goto(base + '/')
  await page.getByRole('status').getByText(/Can lose any 1 rack/).waitFor({ timeout: 120_000 })
  check(true, 'and that all is well again')
}

/** axe looks at every page. */
async function pages(browser, base) {
  const incidents = JSON.parse(await holdfast('incident', 'list', '-o', 'json'))
  for (const [name, path] of [
    ['home', '/'], ['vms', '/vms'], ['vm', '/vms/web1'], ['console', '/vms/web1/console'], ['screen', '/vms/web1/screen'], ['new-vm', '/new-vm'], ['storage', '/storage'], ['volume', '/storage/web1'],
    ['hosts', '/hosts'], ['host', '/hosts/a1'], ['incidents', '/incidents'], ...incidents.slice(0, 1).map((i) => ['incident', `/incidents/${i.id}`]), ['activity', '/activity'], ['settings', '/settings'],
    ['runbooks', '/runbooks'], ['runbook', '/runbooks/rack-away'],
  ]) await look(browser, base, name, path, faults)
  say('      axe has looked at every page on four screens')
}

/** A VM's screen shows what its firmware has written there. */
async function screen(page, base) {
  await page.goto(base + '/vms/web1/screen')
  await page.getByRole('button', { name: 'Ctrl-Alt-Del' }).waitFor({ timeout: 30_000 })
  await page.waitForFunction(() => {
    const c = document.querySelector('.screen canvas')
    const b = c?.width && c.getContext('2d').getImageData(0, 0, c.width, c.height).data
    let lit = 0
    for (let i = 0; b && i < b.length; i += 4) lit += b[i] > 100
    return lit > 500 // of the letters of a few lines
  }, undefined, { timeout: 30_000 })
  check(true, 'the screen of a VM shows its letters')
  await page.screenshot({ path: join(out, 'screen-wide.png') })
}

/** What a VM, its volume and its host have used is drawn, and told in words. */
async function graphs(page, base) {
  for (const [path, said] of [['/vms/web1', /^Disks\. .*written: .* now/], ['/storage/web1', /^Requests\. .*writes: .* now/], ['/hosts/c1', /^Processor\. used: .* now/]]) {
    await page.goto(base + path)
    await page.getByRole('img', { name: said }).locator('canvas').first().waitFor({ timeout: 60_000 })
  }
  await page.getByRole('button', { name: 'Month' }).click()
  await page.getByRole('img', { name: /^Processor\. used: .* now/ }).locator('canvas').first().waitFor()
  check(true, 'graphs of VMs, volumes and hosts show what was measured')
}

/** Things are done by dialogs, each of which says what it leads to and the command that does the same. */
async function acts(page, base, faults) {
  const dialog = page.getByRole('dialog')
  const more = (name) => page.locator('summary', { hasText: 'More' }).first().click().then(() => page.locator('details[open]').getByRole('button', { name, exact: true }).click())
  const same = async (command) => check((await dialog.locator('pre').textContent()) === command, `the same on the command line: ${command}`)
  const closed = () => dialog.waitFor({ state: 'detached', timeout: 30_000 })

  await page.goto(base + '/storage')
  await page.getByRole('button', { name: 'Fetch an image' }).click()
  await dialog.getByLabel('Name').fill('debian')
  await dialog.getByLabel('URL').fill('http://images.example/debian.raw')
  await same('holdfast image import http://images.example/debian.raw --name debian')
  await axed(page, 'the dialog of an image by URL', faults)
  await dialog.getByRole('button', { name: 'Fetch an image' }).click()
  await dialog.getByRole('alert').getByText(/https/).waitFor()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'New volume' }).click()
  await dialog.getByRole('button', { name: 'Make it' }).click()
  await dialog.getByText('This is needed.').first().waitFor()
  await axed(page, 'the dialog of a new volume', faults)
  await dialog.getByLabel('Name').fill('orders')
  await dialog.getByLabel('Size', { exact: true }).fill('8 MiB')
  await same('holdfast volume create orders --size 8MiB')
  await dialog.getByRole('button', { name: 'Make it' }).click()
  await page.getByRole('heading', { name: 'orders' }).waitFor()

  check((await page.locator('pre').textContent()).includes(`/${JSON.parse(await holdfast('volume', 'show', 'orders', '-o', 'json')).id.replaceAll('-', '').slice(0, 16)}/nbd`), 'its page says where it is a disk by NBD')

  await page.getByRole('button', { name: 'Take a snapshot' }).click()
  await dialog.getByLabel('Name').fill('monday')
  await same('holdfast volume snapshot orders monday')
  await dialog.getByRole('button', { name: 'Take a snapshot' }).click()
  await closed()
  await page.getByText('monday').waitFor()

  await page.getByRole('button', { name: 'Enlarge' }).click()
  await dialog.getByLabel('New size').fill('16MiB')
  await dialog.getByText('It grows from 8 MiB to 16 MiB').waitFor()
  await dialog.getByRole('button', { name: 'Enlarge' }).click()
  await closed()
  check(JSON.parse(await holdfast('volume', 'show', 'orders', '-o', 'json')).size === 16 << 20, 'a volume is made, kept and enlarged')

  await more('Move')
  await dialog.getByText('Nothing is lost.').waitFor()
  await dialog.getByText(/^From .* to /).waitFor()
  await axed(page, 'the dialog of a move', faults)
  await page.screenshot({ path: join(out, 'move-wide.png') })
  await dialog.getByRole('button', { name: 'Move' }).click()
  await closed()

  await page.getByRole('button', { name: 'Set back' }).click()
  await dialog.getByText(/Since then .* have changed|Nothing has changed since then/).waitFor()
  await same('holdfast volume revert orders monday')
  await dialog.getByLabel('To go on, type orders').fill('orders')
  await dialog.getByRole('button', { name: 'Set back' }).click()
  await closed()

  await page.getByRole('button', { name: 'Clone' }).click() // of the snapshot
  await dialog.getByLabel('Name').fill('orders-copy')
  await same('holdfast volume clone orders@monday orders-copy')
  await dialog.getByRole('button', { name: 'Clone' }).click()
  await page.getByRole('heading', { name: 'orders-copy' }).waitFor()
  await more('Delete')
  await dialog.getByText('and everything on it: lost').waitFor()
  await dialog.getByLabel('To go on, type orders-copy').fill('orders-copy')
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await page.waitForURL(base + '/storage')
  check(!(await holdfast('volume', 'list', '-o', 'name')).includes('orders-copy'), 'it is set back, cloned, and the clone deleted')

  await page.goto(base + '/vms/web1')
  await more('Change')
  await dialog.getByLabel('CPUs').fill('2')
  await same('holdfast vm set web1 --cpus 2')
  await dialog.getByRole('button', { name: 'Change' }).click()
  await closed()
  await page.getByRole('heading', { name: 'At its next start' }).waitFor()
  await more('Add a disk')
  await dialog.getByLabel('Size of a new one').fill('4 MiB')
  await same('holdfast vm disk add web1 --size 4MiB')
  await dialog.getByRole('button', { name: 'Add' }).click()
  await closed()
  await page.getByRole('link', { name: 'web1-2' }).waitFor()
  check((await holdfast('vm', 'show', 'web1', '-o', 'json')).includes('"web1-2"'), 'a VM is changed and given a disk')

  await page.goto(base + '/hosts/c1')
  await page.locator('summary').first().click()
  await page.getByRole('button', { name: 'Take it back' }).click()
  await dialog.getByText('Nothing is lost.').waitFor()
  await same(`holdfast disk remove c1:${join(dir, 'c1', 'disk')}`)
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.getByRole('button', { name: 'Drain' }).click()
  await same('holdfast host drain c1')
  await dialog.getByRole('button', { name: 'Cancel' }).click()

  await page.goto(base + '/hosts')
  await page.getByRole('button', { name: 'Make a join code' }).click()
  await page.getByRole('img', { name: 'The code as a picture' }).waitFor()
  check(true, 'a join code is a picture for cameras, too')
  await axed(page, 'the join code', faults)

  await page.goto(base + '/activity')
  await page.getByRole('cell', { name: 'volume-create' }).first().waitFor()
  check((await page.getByRole('row', { name: /user ann.*volume-revert.*orders/ }).count()) === 1, 'the audit log says who did what')
}

/** Somebody of a project sees how that is, and nothing of the rest. */
async function project(browser, base, faults) {
  const file = join(work, 'password')
  writeFileSync(file, password)
  await holdfast('project', 'create', 'red', '--vms', '2', '--memory', '64MiB')
  await holdfast('user', 'add', 'tess', '--role', 'tenant-admin', '--project', 'red', '--password-file', file)
  const ctx = await context(browser, { storageState: undefined })
  const page = await opened(ctx, base + '/', faults)
  await page.getByLabel('User').fill('tess')
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('status').getByText('No VM should be running').waitFor()
  await page.getByRole('heading', { name: 'Project red' }).waitFor()
  await page.getByText('0 of 2', { exact: true }).waitFor()
  await page.getByRole('link', { name: 'New VM' }).click()
  await page.getByLabel('Name').fill('tess1')
  await page.getByLabel('Image', { exact: true }).selectOption('probe')
  await page.getByLabel('Memory').fill('32 MiB')
  await page.getByRole('button', { name: 'Make and start it' }).click()
  await page.getByRole('heading', { name: 'tess1' }).waitFor({ timeout: 30_000 })
  await page.goto(base + '/')
  await page.getByRole('status').getByText('The 1 VM is running').waitFor({ timeout: 60_000 })
  await page.getByText('1 of 2', { exact: true }).waitFor()
  const text = await page.locator('body').innerText()
  check(!/web1|orders|Rack|Hosts/.test(text), 'somebody of a project sees how that is, and nothing of others')
  const own = { storageState: await ctx.storageState() }
  await look(browser, base, 'project', '/', faults, own)
  await look(browser, base, 'project-vm', '/vms/tess1', faults, own)
  await ctx.close()
  await holdfast('vm', 'delete', 'tess1', '--force')
}

/** Has an answer of the API hold markup wherever it holds text, and looks what becomes of it. */
async function markup(browser, base, faults) {
  const evil = '<img src=x onerror=alert(1)><script>alert(2)</script>"\'`${alert(3)}'
  const ctx = await context(browser)
  const page = await ctx.newPage()
  page.on('dialog', (d) => (faults.push(`markup has run: ${d.message()}`), d.dismiss()))
  await page.route('**/v1/watch*', async (route) => {
    const now = new Date().toISOString()
    const events = [
      { kind: 'all' },
      { kind: 'host', id: 'h', host: { id: 'h', name: evil, rack: evil, site: '', state: 'alive', addr: evil, api_addr: evil, voter: true, leader: true, drained: false, vms: [evil], bytes_total: 9, bytes_free: 1 } },
      { kind: 'vm', id: 'v', vm: { id: 'v', name: evil, state: evil, power: 'on', reason: evil, host: evil, rack: evil, cpus: 1, memory_mib: 1, volume: evil, disks: [{ volume: evil, size: 1, slot: 0, state: evil, path: evil }], priority: evil, isolation: evil, publish: [], firmware: 'bios', boot: [], mac: evil, created: now, snapshots: 0, assigned: 1, pending: [evil] } },
      { kind: 'volume', id: 'd', volume: { id: 'd', name: evil, size: 1, state: evil, copies: 2, min: 1, durability: 'flush', reads: 'leased', pool: evil, encrypted: false, compress: 'off', flush: evil, weight: 1, image: false, epoch: 1, cache_generation: 1, replicas: [{ id: 'r', host: evil, rack: evil, disk: evil, in_sync: true, alive: true }], snapshots: 0, created: now } },
      { kind: 'export', id: 'x', export: { id: 'x', name: evil, target: evil, state: evil, host: evil, units: [{ lun: 0, volume: evil, size: 1, read_only: true, removable: false, block_size: 4096 }], initiators: [{ name: evil, chap: 'mutual', user: evil, mutual_user: evil }], portals: [{ addr: evil, group: 1, host: evil, rack: evil, state: 'optimized' }], created: now } },
      { kind: 'incident', id: 'i', incident: { id: 'i', racks: [evil], hosts: [evil], opened: now, steps: [{ at: now, what: evil, text: evil }] } },
      { kind: 'status', status: { sentence: `${evil}. All.`, level: 'error', host: { id: 'h', name: evil, rack: evil, version: evil, in_cluster: true }, cluster: { id: 'c', name: evil, voters: 1, format: 1 }, counts: { racks: 1, hosts: 1, hosts_alive: 1, disks: 1, vms: 1, vms_on: 1, vms_running: 0, volumes: 1, volumes_degraded: 0, bytes_total: 9, bytes_free: 1 }, can_lose: { racks: [], hosts: [], not_racks: { [evil]: evil } }, conditions: [{ id: evil, severity: 'error', text: evil, effects: [{ id: 'e', severity: 'error', text: evil }] }], work: [] } },
      { kind: 'ready', at: '1' },
    ]
    await route.fulfill({ contentType: 'text/event-stream', body: events.map((e) => `data: ${JSON.stringify(e)}\n\n`).join('') })
  })
  const of = encodeURIComponent(evil)
  for (const path of ['/', '/vms', `/vms/${of}`, '/storage', `/storage/${of}`, '/exports', '/hosts', `/hosts/${of}`, '/incidents', '/incidents/i', `/runbooks/${of}`]) {
    await page.goto(base + path)
    await page.getByRole('main').getByText('<img src=x', { exact: false }).first().waitFor()
    const made = await page.evaluate(() => document.querySelectorAll('main img, main script').length)
    if (made) faults.push(`${path}: markup has become ${made} elements`)
  }
  await ctx.close()
  check(true, 'markup in names, states, conditions and paths is shown as text')
}

const keep = 'c' // the rack of the host that the browser talks to
rmSync(work, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
mkdirSync(work, { recursive: true })
let browser
const faults = []
try {
  say((await holdfast('lab', 'up', '--racks', '3', '--disk-gib', '1', '--dir', dir)).trim().split('\n').at(-1) || 'the lab is up')
  await run('go', ['run', './images', '--probe', '-o', join(work, 'probe.raw')], { cwd: root })
  await holdfast('image', 'import', join(work, 'probe.raw'), '--name', 'probe')
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: process.getuid() === 0 ? ['--no-sandbox'] : [] })
  const { hosts } = JSON.parse(readFileSync(join(dir, 'lab.json'), 'utf8'))
  await story(browser, `https://${hosts.find((h) => h.rack === keep).addr}:7440/ui`)
} catch (err) {
  faults.push(err.stack)
  const open = browser?.contexts().flatMap((c) => c.pages()) ?? []
  for (const [i, p] of open.entries()) await p.screenshot({ path: join(out, `fault-${i}.png`) }).catch(() => {})
} finally {
  await browser?.close()
  await holdfast('lab', 'down', '--wipe', '--dir', dir).catch((err) => faults.push(`the lab: ${err.message}`))
}
for (const f of faults) console.log('FAIL ', f)
console.log(faults.length ? `${faults.length} faults; pictures are in build/ui` : 'The web interface does what it should; pictures are in build/ui.')
process.exit(faults.length ? 1 : 0)
