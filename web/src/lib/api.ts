// Calls of the public API, typed by its OpenAPI description.
import type { components, paths } from './schema'
import { t } from '../strings'

export type Schemas = components['schemas']
export type Status = Schemas['Status']
export type Condition = Schemas['Condition']
export type Host = Schemas['Host']
export type VM = Schemas['VM']
export type Volume = Schemas['Volume']
export type Disk = Schemas['Disk']
export type Pool = Schemas['Pool']
export type Export = Schemas['Export']
export type Incident = Schemas['Incident']
export type Work = Schemas['Work']
export type Task = Schemas['Task']
export type AuditEntry = Schemas['AuditEntry']
export type Removal = Schemas['Removal']
export type Event = Schemas['Event']
export type VMSpec = Schemas['VMSpec']
export type Session = Schemas['Session']
export type VMSnapshot = Schemas['VMSnapshot']

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'
type PathOf<M extends Method> = { [P in keyof paths]: paths[P] extends Record<M, object> ? P : never }[keyof paths]
type Operation<P extends keyof paths, M extends Method> = paths[P] extends Record<M, infer O> ? O : never
type JSONOf<R> = R extends { content: { 'application/json': infer B } } ? B : never
type Answer<O> = O extends { responses: infer R } ? JSONOf<R[keyof R & (200 | 201 | 202)]> : never
type Body<O> = O extends { requestBody: { content: { 'application/json': infer B } } } ? B : undefined

/** Values for the {names} of a path; the others become its query. */
export type Params = Record<string, string | number | boolean | undefined>

/** A refusal of the API: RFC 9457, or that nobody answered (status 0). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly type = '',
  ) {
    super(message)
  }
}

let skew = 0 // of the browser's clock behind the host's, in milliseconds

/** The host's time, in milliseconds: a laptop in the field may be wrong by hours. */
export function now(): number {
  return Date.now() + skew
}

/** Notes by how much the browser's clock differs from the host's. */
export function noteClock(resp: Response) {
  const date = Date.parse(resp.headers.get('Date') ?? '')
  if (date && Math.abs(date - Date.now()) > 2000) skew = date - Date.now()
  else if (date) skew = 0
}

export function fill(path: string, params: Params = {}): string {
  const left = { ...params }
  const url = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const v = left[name]
    delete left[name]
    return encodeURIComponent(String(v))
  })
  const query = new URLSearchParams()
  for (const [k, v] of Object.entries(left)) if (v !== undefined && v !== '') query.set(k, String(v))
  return query.size ? `${url}?${query}` : url
}

/** Asks, and returns the answer if it is a good one. Throws Problem. */
export async function request(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json, text/event-stream' }
  if (method !== 'GET') headers['X-Holdfast-Request'] = '1' // no other site's form can send it
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  let resp: Response
  try {
    resp = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal, cache: 'no-store', credentials: 'same-origin' })
  } catch (err) {
    if (signal?.aborted) throw err
    throw new Problem(0, t.problem.noAnswer)
  }
  noteClock(resp)
  if (resp.ok) return resp
  let said: { detail?: string; title?: string; type?: string; errors?: { where?: string; what?: string }[] } = {}
  try {
    said = await resp.json()
  } catch {
    // not a problem document: something between us and the host has answered
  }
  const details = (said.errors ?? []).map((e) => [e.where, e.what].filter(Boolean).join(': '))
  throw new Problem(resp.status, [said.detail ?? said.title ?? t.problem.status(resp.status), ...details].join('; '), said.type)
}

async function json(resp: Response): Promise<unknown> {
  return resp.status === 204 ? undefined : resp.json()
}

export async function get<P extends PathOf<'get'>>(path: P, params?: Params): Promise<Answer<Operation<P, 'get'>>> {
  return (await json(await request('GET', fill(path, params)))) as Answer<Operation<P, 'get'>>
}

export async function post<P extends PathOf<'post'>>(path: P, params?: Params, body?: Body<Operation<P, 'post'>>): Promise<Answer<Operation<P, 'post'>>> {
  return (await json(await request('POST', fill(path, params), body))) as Answer<Operation<P, 'post'>>
}

export async function put<P extends PathOf<'put'>>(path: P, params: Params, body: Body<Operation<P, 'put'>>): Promise<Answer<Operation<P, 'put'>>> {
  return (await json(await request('PUT', fill(path, params), body))) as Answer<Operation<P, 'put'>>
}

export async function patch<P extends PathOf<'patch'>>(path: P, params: Params, body: Body<Operation<P, 'patch'>>): Promise<Answer<Operation<P, 'patch'>>> {
  return (await json(await request('PATCH', fill(path, params), body))) as Answer<Operation<P, 'patch'>>
}

export async function remove<P extends PathOf<'delete'>>(path: P, params: Params): Promise<void> {
  await request('DELETE', fill(path, params))
}

/** What a person is told of an error. */
export function told(err: unknown): string {
  return err instanceof Error ? err.message : String(err)
}
