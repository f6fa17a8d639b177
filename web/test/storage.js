// The pages below Storage, and that of upgrades, in a browser: parts of make ui-test.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'

const closed = (page) => page.getByRole('dialog').waitFor({ state: 'detached', timeout: 60_000 })
const section = (page, name) => page.locator('section', { has: page.getByRole('heading', { name, exact: true }) })

/** What a dialog shows as its command. */
async function same(page, check, command) {
  const is = await page.getByRole('dialog').locator('pre').textContent()
  check(is === command, `the same on the command line: ${command}${is === command ? '' : `, not ${is}`}`)
}

/** A pool is made, is not deleted while a disk is in it, and is deleted. */
export async function pools(page, base, { check, narrow, look, faults, holdfast, dir }) {
  const dialog = page.getByRole('dialog')
  await page.goto(base + '/storage')
  await page.getByRole('link', { name: 'Pools' }).click()
  await page.getByRole('heading', { name: 'default' }).waitFor()
  await page.getByRole('button', { name: 'New pool' }).click()
  await dialog.getByLabel('Name').fill('default')
  await dialog.getByText('exists; choose another name').waitFor() // tried while it is written
  check(await dialog.getByRole('button', { name: 'Make it' }).isDisabled(), 'what would be refused is said before it is done')
  await dialog.getByLabel('Name').fill('fast')
  await dialog.getByLabel('What its disks are').selectOption('ram')
  await same(page, check, 'holdfast pool create fast --tier ram')
  await narrow(page, 'new-pool', faults)
  await dialog.getByRole('button', { name: 'Make it' }).click()
  await closed(page)
  const fast = section(page, 'fast')
  await fast.getByText('holdfast disk add --ram 2GiB --pool fast').waitFor()
  const [disk] = JSON.parse(await holdfast('disk', 'add', '--ram', '64MiB', '--pool', 'fast', '-o', 'json', '--socket', join(dir, 'c1', 'api.sock')).then((t) => (t.trim().startsWith('[') ? t : `[${t}]`)))
  await fast.getByRole('link', { name: /^c1:/ }).waitFor()
  await look('pools', '/pools')
  await fast.getByRole('button', { name: 'Delete fast' }).click()
  await dialog.getByRole('alert').getByText(/disk/).waitFor()
  await dialog.getByLabel('To go on, type fast').fill('fast')
  check(await dialog.getByRole('button', { name: 'Delete' }).isDisabled(), 'a pool that a disk is in is not deleted')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await holdfast('disk', 'remove', disk.id)
  await fast.getByText('None yet.').waitFor()
  await fast.getByRole('button', { name: 'Delete fast' }).click()
  await dialog.getByLabel('To go on, type fast').fill('fast')
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await closed(page)
  await fast.waitFor({ state: 'detached' })
  check(!(await holdfast('pool', 'list', '-o', 'name')).includes('fast'), 'a pool is made and deleted')
}

/** A volume is exported; an initiator that is let in finds it at the address that is shown. */
export async function exports(page, base, { check, narrow, look, faults, holdfast, run, dir }) {
  const dialog = page.getByRole('dialog')
  const initiator = 'iqn.1993-08.org.debian:01:ui'
  await holdfast('volume', 'create', 'ledger', '--size', '8MiB')
  await page.goto(base + '/exports')
  await page.getByRole('heading', { name: 'No volume is exported' }).waitFor()
  await look('exports-none', '/exports')
  await page.getByRole('button', { name: 'New export' }).click()
  await dialog.getByLabel('Name').fill('books')
  await dialog.getByRole('checkbox', { name: /^ledger / }).check()
  await same(page, check, 'holdfast export create books --volume ledger')
  await narrow(page, 'new-export', faults)
  await dialog.getByRole('button', { name: 'Make it' }).click()
  await closed(page)
  const books = section(page, 'books')
  await books.getByText('Nobody yet.').waitFor()
  await books.getByRole('button', { name: /^Let in/ }).click()
  await dialog.getByLabel('Name of the initiator').fill(initiator)
  await same(page, check, `holdfast export allow books ${initiator}`)
  await narrow(page, 'new-initiator', faults)
  await dialog.getByRole('button', { name: 'Let in' }).click()
  await closed(page)
  const code = books.locator('pre')
  const at = (await code.nth(1).textContent()).trim()
  const found = (await run('iscsi-inq', ['-i', initiator, at])).stdout
  check(/holdfast/i.test(found), `an initiator that was let in finds the disk at ${at}`)
  await run('iscsi-inq', ['-i', 'iqn.1993-08.org.debian:01:other', at]).then(() => check(false, 'another initiator is not let in'), () => check(true, 'and another one is not let in'))

  await books.getByRole('button', { name: /^Let in/ }).first().click()
  await dialog.getByLabel('Name of the initiator').fill(initiator)
  await dialog.getByLabel('Its secret (CHAP)').fill('twelve characters')
  await dialog.getByRole('button', { name: 'Let in' }).click()
  await closed(page)
  await books.getByText('with a secret (CHAP)').waitFor()
  check((await code.first().textContent()).includes(`node.session.auth.username -v ${initiator}`), 'who has a secret is told how to give it')
  await look('exports', '/exports')

  const [info, client] = (await section(page, 'On a host itself, by NBD').locator('pre').textContent()).split('\n')
  const uri = /'(.*)'/.exec(info)[1].replace('/var/lib/holdfast', join(dir, 'c1', 'data'))
  check((await run('nbdinfo', ['--size', uri])).stdout.trim() !== '' && client.includes('nbd-client -unix '), 'a volume is a disk by NBD, by the address that is shown')

  await books.getByRole('button', { name: `Let in no more ${initiator}` }).click()
  await dialog.getByText('The volumes and what is on them stay.').waitFor()
  await dialog.getByRole('button', { name: 'Let in no more' }).click()
  await closed(page)
  await books.getByText('Nobody yet.').waitFor()
  await books.getByRole('button', { name: 'End books' }).click()
  await dialog.getByText('with its persistent reservations: gone').waitFor()
  await same(page, check, 'holdfast export delete books')
  await dialog.getByLabel('To go on, type books').fill('books')
  await dialog.getByRole('button', { name: 'End' }).click()
  await closed(page)
  await page.getByRole('heading', { name: 'No volume is exported' }).waitFor()
  check((await holdfast('volume', 'list', '-o', 'name')).includes('ledger'), 'an export is made and ended, and its volume stays')
}

/** A schedule is made, run at once, and deleted. */
export async function backups(page, base, { check, narrow, look, faults, holdfast, work }) {
  const dialog = page.getByRole('dialog')
  const to = join(work, 'backups')
  mkdirSync(to, { recursive: true })
  await holdfast('volume', 'create', 'papers', '--size', '8MiB')
  await page.goto(base + '/backups')
  await page.getByRole('heading', { name: 'No backup is made by itself' }).waitFor()
  await look('backups-none', '/backups')
  await page.getByRole('button', { name: 'New schedule' }).click()
  await dialog.getByLabel('Name').fill('nightly')
  await dialog.getByRole('checkbox', { name: 'papers' }).check()
  await dialog.getByLabel('Host that does it').selectOption('a1')
  await dialog.getByLabel('Directory on it').fill(to)
  await same(page, check, `holdfast backup schedule create nightly --volumes papers --on a1 --to ${to} --every 1d --keep last=7,weekly=8`)
  await narrow(page, 'new-schedule', faults)
  await dialog.getByRole('button', { name: 'Make it' }).click()
  await closed(page)
  const nightly = section(page, 'nightly')
  await nightly.waitFor()
  const good = async () => JSON.parse(await holdfast('backup', 'schedule', 'show', 'nightly', '-o', 'json')).good
  while (!(await good())) await page.waitForTimeout(200) // the first one is due at once
  const before = await good()
  await nightly.getByRole('button', { name: /^Run now/ }).click()
  for (let i = 0; (await good()) === before; i++) await page.waitForTimeout(200)
  check(true, 'a schedule is made, and run when it is wanted')
  await look('backups', '/backups')

  await nightly.getByRole('button', { name: 'Change nightly' }).click()
  await dialog.getByLabel('What is kept').fill('last=3')
  await same(page, check, 'holdfast backup schedule set nightly --keep last=3')
  await dialog.getByRole('button', { name: 'Change' }).click()
  await closed(page)
  await nightly.getByText('last=3').waitFor()
  await nightly.getByRole('button', { name: 'Delete nightly' }).click()
  await dialog.getByText(`Those that were made stay, on a1 in ${to}.`).waitFor()
  await dialog.getByLabel('To go on, type nightly').fill('nightly')
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await closed(page)
  await page.getByRole('heading', { name: 'No backup is made by itself' }).waitFor()
  check((await holdfast('backup', 'list', to)).includes('papers'), 'and deleted; its backups stay')
}

/** A disk of another host is replaced by a new one. */
export async function disks(page, base, { check, narrow, faults, holdfast, dir }) {
  const dialog = page.getByRole('dialog')
  const [old, fresh] = [join(dir, 'b1', 'disk'), join(dir, 'b1', 'disk2')]
  await page.goto(base + '/storage')
  await page.locator('summary', { hasText: `b1:${old}` }).click()
  await page.locator('details[open]').getByRole('button', { name: 'Replace' }).click()
  await dialog.getByLabel('Path of the new one').fill(fresh)
  await dialog.getByLabel('Make a file of this size').fill('1 GiB')
  await dialog.getByText(/would move to it/).waitFor()
  await dialog.getByText('Nothing is lost.').waitFor()
  await same(page, check, `holdfast disk replace b1:${old} ${fresh} --size 1GiB`)
  await narrow(page, 'replace-disk', faults)
  await dialog.getByRole('button', { name: 'Replace' }).click()
  await closed(page)
  await page.getByText(fresh, { exact: true }).waitFor({ timeout: 60_000 })
  await page.getByText(old, { exact: true }).waitFor({ state: 'detached', timeout: 120_000 })
  check((await holdfast('disk', 'list', '-o', 'json')).includes(fresh), 'a disk is replaced by another one of its host')
}

/** What every host runs and has is told, and how it gets another version. */
export async function upgrade(page, base, { check, look, holdfast }) {
  await page.goto(base + '/hosts')
  await page.getByRole('link', { name: 'Versions and upgrade' }).click()
  const version = JSON.parse(await holdfast('status', '-o', 'json')).host.version
  await page.getByText(`All hosts run ${version}.`).waitFor()
  await page.getByRole('row', { name: /up to date/ }).nth(2).waitFor()
  check(true, 'every host is listed with the version that it runs and the one on its disk')
  await look('upgrade', '/upgrade')
}
