import { listed } from '../model/format'
import shared from '../styles/shared.module.css'
import { changeUrl, useUrl } from '../url/useUrl'
import { Note } from './Note'

interface Props {
  /** The open rows that exist but are not shown, each described in a few words. */
  readonly names: readonly string[]
}

const MOST_NAMES = 3

/** A note that an open row is not shown because it does not match the search, for example because its pull has just
 * completed. */
export function HiddenRows({ names }: Props) {
  const { query } = useUrl()
  if (names.length === 0 || query === '') return null
  return (
    <Note>
      Open, but hidden by the search: {listed(names, MOST_NAMES)}.
      <button type="button" className={shared.button} onClick={() => changeUrl({ query: '' })}>
        Clear the search
      </button>
    </Note>
  )
}
