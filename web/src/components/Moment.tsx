import { useMemo } from 'react'
import { momentWords } from '../model/moment'
import { parseQuery } from '../model/query'
import { useSamples, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { SUMMARIES } from '../url/urlState'
import { useUrl } from '../url/useUrl'

/** The moment given by `at:` in the search; undefined if there is none. */
export function useMoment(): number | undefined {
  const { context } = useSnapshot()
  return parseQuery(useUrl().query, context.now).moments[0]
}

/** If the search specifies a moment, this line above the list describes what was happening then. */
export function Moment() {
  const { pulls, shape, counts } = useSnapshot()
  const samples = useSamples()
  const at = useMoment()
  const { view } = useUrl()
  // The map of pulls is modified in place, so its identity does not change. `shape` is incremented whenever a pull's
  // state or pods change.
  const words = useMemo(
    () => at && momentWords(at, [...pulls.values()], samples),
    [at, pulls, shape, samples],
  )
  if (!words || !counts) return null
  return (
    <p className={shared.remark}>
      {words}
      {SUMMARIES.includes(view) && ' The table shows the present.'}
    </p>
  )
}
