// One question before an act: what it needs to know, what it would lead to, and the
// command that does the same; and one line about how an act has ended.
import { told } from './api'

/** Something that is to be filled in. A size is in bytes where it is read. */
export interface Field {
  name: string
  label: string
  /** Of many, those that were chosen are read with a comma between them. */
  kind: 'text' | 'secret' | 'size' | 'number' | 'check' | 'choice' | 'many'
  value?: string | number | boolean
  options?: { value: string; text: string }[]
  hint?: string
  /** It may be left empty; a size is 0 then. */
  optional?: boolean
}
export type Values = Record<string, string | number | boolean>

export interface Question {
  title: string
  text?: string
  fields?: Field[]
  /** What would be lost or moved, asked of the API where it has a plan. */
  losses?: (v: Values) => Promise<string[]>
  /** The act with dryRun: what it would be refused for is said before it is done. */
  tried?: (v: Values) => Promise<unknown>
  /** To be typed before the act; empty: a click is enough. */
  name?: string
  button: string
  danger?: boolean
  /** The command that does the same. */
  cli?: (v: Values) => string
  act: (v: Values) => Promise<unknown>
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
    this.notice = undefined // of the attempt before
    try {
      await act()
      if (done) this.say(done)
    } catch (err) {
      this.say(told(err), true)
    }
  }
}

export const asker = new Asker()
