// Who is logged in. A cookie that scripts cannot read carries the session.
import { request, Problem } from './api'

export interface Session {
  user: string
  role: string
  project?: string
  expires?: string
}

class Who {
  session = $state.raw<Session>()

  /** Asks who is logged in. Where connections vouch for their users, as a host's socket does, nobody has to. */
  async ask(): Promise<void> {
    try {
      this.session = (await (await request('GET', '/v1/session')).json()) as Session
    } catch (err) {
      if (!(err instanceof Problem)) throw err
      this.session = undefined
    }
  }

  async login(user: string, password: string): Promise<void> {
    this.session = (await (await request('POST', '/v1/login', { user, password })).json()) as Session
  }

  async setup(token: string, user: string, password: string): Promise<void> {
    await request('POST', '/v1/setup', { token, user, password })
    await this.login(user, password)
  }

  async logout(): Promise<void> {
    await request('POST', '/v1/logout', {})
    this.session = undefined
  }
}

export const who = new Who()
