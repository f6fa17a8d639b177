// Log-in by OpenID Connect in a browser: part of make ui-test.
import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { join } from 'node:path'

const client = 'holdfast'
const secret = 'a secret/with+everything:%'

/** An issuer whose one person, eve of the group ops, is logged in there already. */
async function issuer(work) {
  const [key, cert] = [join(work, 'issuer.key'), join(work, 'issuer.pem')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=issuer', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const signer = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const asked = new Map() // by code
  const b64 = (v) => Buffer.from(v).toString('base64url')
  let url = ''
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (req, res) => {
    const at = new URL(req.url, url)
    const json = (v) => (res.setHeader('Content-Type', 'application/json'), res.end(JSON.stringify(v)))
    if (at.pathname === '/.well-known/openid-configuration') {
      return json({ issuer: url, authorization_endpoint: url + '/auth', token_endpoint: url + '/token', jwks_uri: url + '/keys', response_types_supported: ['code'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'] })
    }
    if (at.pathname === '/keys') return json({ keys: [{ ...signer.publicKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: '1' }] })
    if (at.pathname === '/auth') {
      const code = randomUUID()
      asked.set(code, at.searchParams)
      res.writeHead(302, { Location: `${at.searchParams.get('redirect_uri')}?${new URLSearchParams({ code, state: at.searchParams.get('state') })}` })
      return res.end()
    }
    let body = ''
    req.on('data', (b) => (body += b))
    req.on('end', () => {
      const form = new URLSearchParams(body)
      const q = asked.get(form.get('code'))
      const who = Buffer.from((req.headers.authorization ?? '').replace('Basic ', ''), 'base64').toString().split(':').map((s) => decodeURIComponent(s.replaceAll('+', ' ')))
      if (!q || who[0] !== client || who[1] !== secret || createHash('sha256').update(form.get('code_verifier')).digest('base64url') !== q.get('code_challenge')) return (res.statusCode = 400), json({ error: 'invalid_grant' })
      const now = Math.floor(Date.now() / 1000)
      const text = b64(JSON.stringify({ alg: 'ES256', kid: '1' })) + '.' + b64(JSON.stringify({ iss: url, aud: client, sub: '77', nonce: q.get('nonce'), iat: now, exp: now + 60, preferred_username: 'eve', groups: ['ops'] }))
      json({ access_token: 'x', token_type: 'Bearer', id_token: text + '.' + sign('sha256', text, { key: signer.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url') })
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `https://127.0.0.1:${server.address().port}`
  return { url, ca: readFileSync(cert, 'utf8'), close: () => (server.closeAllConnections(), server.close()) }
}

/** An issuer is set up by the form; somebody comes by it, and is told where their password is. */
export async function oidc(page, base, work, { check, axed, look, visitor, faults }) {
  const i = await issuer(work)
  try {
    await page.goto(base + '/settings')
    const section = page.locator('section', { has: page.getByRole('heading', { name: 'OpenID Connect' }) })
    await section.getByText('Off. People can log in').waitFor()
    await section.getByLabel('Issuer, as it calls itself').fill(i.url)
    await section.getByLabel('Client ID').fill(client)
    await section.getByLabel('Client secret').fill(secret)
    await section.getByLabel('Text on the button').fill('the agency')
    await section.getByLabel('CA of the issuer').fill(i.ca)
    await section.getByLabel('Rules, one a line').fill('groups=ops:king')
    await section.getByRole('button', { name: 'Ask the issuer' }).click()
    await section.getByText('"groups=ops:king" is not CLAIM=VALUE:ROLE').waitFor()
    await axed(page, 'the settings with a rule that is none', faults)
    await section.getByLabel('Rules, one a line').fill('groups=ops:operator')
    await section.getByRole('button', { name: 'Ask the issuer' }).click()
    await page.getByText('The issuer answers.').waitFor()

    const { ctx, page: eve } = await visitor()
    await eve.getByRole('button', { name: 'Log in with the agency' }).click()
    await eve.getByRole('heading', { name: /^Rack/ }).first().waitFor()
    await eve.goto(base + '/settings')
    await eve.getByText(`You have none here: you log in at ${new URL(i.url).host}`).waitFor()
    check((await eve.getByLabel('The old one').count()) === 0, 'who came by an issuer is told that there is no password here, and where they log in')
    await look('settings-oidc', '/settings', { storageState: await ctx.storageState() })
    await ctx.close()

    await page.reload()
    await page.getByText(`by ${new URL(i.url).host}`).first().waitFor()
    await look('settings-set-up', '/settings')
    await section.getByRole('button', { name: 'Turn off' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Turn off' }).click()
    await section.getByText('Off. People can log in').waitFor()
    check(true, 'an issuer is set up by a form, and turned off')
  } finally {
    i.close()
  }
}
