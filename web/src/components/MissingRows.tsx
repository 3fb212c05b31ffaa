import { count } from '../model/format'
import shared from '../styles/shared.module.css'
import { changeUrl, useUrl } from '../url/useUrl'
import { Note } from './Note'

interface Props {
  /** The keys of rows that the URL lists as open but that do not exist. */
  readonly keys: readonly string[]
  readonly what: string
  readonly why: string
}

/** A note that some of the linked rows no longer exist. */
export function MissingRows({ keys, what, why }: Props) {
  const { open } = useUrl()
  if (keys.length === 0) return null
  return (
    <Note>
      {keys.length === 1
        ? `The ${what} in this link no longer exists`
        : `${count(keys.length, what)} in this link no longer exist`}
      . {why}
      <button
        type="button"
        className={shared.button}
        onClick={() => changeUrl({ open: open.filter(key => !keys.includes(key)) })}
      >
        Dismiss
      </button>
    </Note>
  )
}
