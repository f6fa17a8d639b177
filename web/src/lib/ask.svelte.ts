// One question before an act that cannot be undone, and one line about how an act
// has ended.
import { told } from './api'

export interface Question {
  title: string
  text?: string
  /** What would be lost or moved, asked of the API where it has a plan. */
  losses?: () => Promise<string[]>
  /** To be typed before the act; empty: a click is enough. */
  name?: string
  button: string
  danger?: boolean
  act: () => Promise<unknown>
}

class Asker {
  question = $state.raw<Question>()
  notice = $state.raw<{ text: string; bad: boolean }>()
  private timer: ReturnType<typeof setTimeout> | undefined

  ask(q: Question) {
    this.question = q
  }

  say(text: string, bad = false) {
    this.notice = { text, bad }
    clearTimeout(this.timer)
    if (!bad) this.timer = setTimeout(() => (this.notice = undefined), 5000)
  }

  /** Does something small, and says if it fails. */
  async attempt(act: () => Promise<unknown>, done = '') {
    try {
      await act()
      if (done) this.say(done)
    } catch (err) {
      this.say(told(err), true)
    }
  }
}

export const asker = new Asker()
