// Who is logged in. A cookie that scripts cannot read carries the session.
import { get, post, Problem, type Schemas, type Session } from './api'
import { login } from './passkey'

class Who {
  session = $state.raw<Session>()
  /** It is known who is logged in, if anybody is. */
  asked = $state(false)
  /** Who is logged in may not see the cluster as a whole: there is a project, and what it has. */
  limited = $derived(!!this.session?.project)

  /** Asks who is logged in. Where connections vouch for their users, as a host's socket does, nobody has to. */
  async ask(): Promise<void> {
    try {
      this.session = await get('/v1/session')
    } catch (err) {
      if (!(err instanceof Problem)) throw err
      this.session = undefined
    } finally {
      this.asked = true
    }
  }

  async login(user: string, password: string): Promise<void> {
    this.session = await post('/v1/login', {}, { user, password })
  }

  async setup(token: string, user: string, password: string): Promise<void> {
    this.session = await post('/v1/setup', {}, { token, user, password })
  }

  async passkey(): Promise<void> {
    this.session = await login()
  }

  /** Besides the password. */
  async ways(): Promise<Schemas['LoginWays']> {
    return get('/v1/login')
  }

  /** Leaves for the issuer, which sends the browser back to /ui/oidc. */
  async leave(): Promise<void> {
    location.assign((await post('/v1/oidc/begin')).url)
  }

  /** Logs in with what the issuer has put into the address, which goes from there at once: it holds a code. */
  async comeBack(q: URLSearchParams): Promise<void> {
    const said = (name: string) => q.get(name) ?? undefined
    this.session = await post('/v1/oidc/finish', {}, { state: q.get('state') ?? '', code: said('code'), iss: said('iss'), error: said('error'), error_description: said('error_description') })
  }

  async logout(): Promise<void> {
    await post('/v1/logout')
    this.session = undefined
  }
}

export const who = new Who()
