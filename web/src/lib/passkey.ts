// Passkeys: between the JSON of the API and what browsers take and give, which not all
// of them turn into each other themselves (Web Authentication Level 3, §5.1.8 to §5.1.10).
import { post, type Schemas } from './api'
import { t } from '../strings'

type Options = Record<string, unknown>

/** Whether the browser has passkeys here: only at a name, with a certificate that it trusts. */
export const able = (): boolean => typeof PublicKeyCredential !== 'undefined' && !!navigator.credentials

export function toBytes(text: string): Uint8Array<ArrayBuffer> {
  const b64 = text.replace(/-/g, '+').replace(/_/g, '/')
  return Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))
}

export function toText(bytes: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)))
    .replace(/\+/g, '-')
    .replace(/\//g, '_')
    .replace(/=+$/, '')
}

const listed = (l: unknown) => (Array.isArray(l) ? l : []).map((c: { id: string }) => ({ ...c, id: toBytes(c.id) }))

export function creation(o: Options): PublicKeyCredentialCreationOptions {
  const user = o.user as { id: string }
  return { ...o, challenge: toBytes(o.challenge as string), user: { ...user, id: toBytes(user.id) }, excludeCredentials: listed(o.excludeCredentials) } as unknown as PublicKeyCredentialCreationOptions
}

export function request(o: Options): PublicKeyCredentialRequestOptions {
  return { ...o, challenge: toBytes(o.challenge as string), allowCredentials: listed(o.allowCredentials) } as unknown as PublicKeyCredentialRequestOptions
}

/** What a device has answered, for the API. */
export function answer(c: PublicKeyCredential): Options {
  const r = c.response as AuthenticatorAttestationResponse & AuthenticatorAssertionResponse
  const response: Options = { clientDataJSON: toText(r.clientDataJSON) }
  if (r.attestationObject) {
    response.attestationObject = toText(r.attestationObject)
    response.transports = r.getTransports?.() ?? []
  } else {
    response.authenticatorData = toText(r.authenticatorData)
    response.signature = toText(r.signature)
    if (r.userHandle) response.userHandle = toText(r.userHandle)
  }
  return { id: c.id, rawId: toText(c.rawId), type: c.type, response, clientExtensionResults: {} }
}

/** Asks a device, and says in words why it gave none. */
async function ask(f: () => Promise<Credential | null>): Promise<Options> {
  let c: Credential | null
  try {
    c = await f()
  } catch (err) {
    const name = err instanceof Error ? err.name : ''
    throw new Error(name === 'NotAllowedError' ? t.passkeys.notAllowed : name === 'InvalidStateError' ? t.passkeys.known : name === 'SecurityError' ? t.passkeys.security : t.passkeys.failed(String(err)), { cause: err })
  }
  if (!c) throw new Error(t.passkeys.notAllowed)
  return answer(c as PublicKeyCredential)
}

export async function login(): Promise<Schemas['Session']> {
  const b = await post('/v1/login/passkey/begin')
  const got = await ask(() => navigator.credentials.get({ publicKey: request(b.options as Options) }))
  return post('/v1/login/passkey', {}, { id: b.id, answer: got })
}

export async function make(user: string, password: string, name: string): Promise<Schemas['Passkey']> {
  const b = await post('/v1/users/{user}/passkeys/begin', { user }, { password })
  const got = await ask(() => navigator.credentials.create({ publicKey: creation(b.options as Options) }))
  return post('/v1/users/{user}/passkeys', { user }, { id: b.id, name, answer: got })
}
