// The pages for a bad night, fetched once: the host has them in itself.
import { request } from './api'

export interface Page {
  name: string
  title: string
  text: string
}

let asked: Promise<Page[]> | undefined

export function runbooks(): Promise<Page[]> {
  asked ??= request('GET', '/ui/runbooks.json').then((r) => r.json() as Promise<Page[]>)
  asked.catch(() => (asked = undefined))
  return asked
}
