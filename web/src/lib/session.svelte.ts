// Who is logged in. A cookie that scripts cannot read carries the session.
import { get, post, Problem, type Session } from './api'

class Who {
  session = $state.raw<Session>()

  /** Asks who is logged in. Where connections vouch for their users, as a host's socket does, nobody has to. */
  async ask(): Promise<void> {
    try {
      this.session = await get('/v1/session')
    } catch (err) {
      if (!(err instanceof Problem)) throw err
      this.session = undefined
    }
  }

  async login(user: string, password: string): Promise<void> {
    this.session = await post('/v1/login', {}, { user, password })
  }

  async setup(token: string, user: string, password: string): Promise<void> {
    this.session = await post('/v1/setup', {}, { token, user, password })
  }

  async logout(): Promise<void> {
    await post('/v1/logout')
    this.session = undefined
  }
}

export const who = new Who()
