import { useMemo } from 'react'
import { momentWords } from '../model/moment'
import { parseQuery } from '../model/query'
import { useSamples, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { useUrl } from '../url/useUrl'

/** The moment that the search names with `at:`, if any. */
export function useMoment(): number | undefined {
  const { context } = useSnapshot()
  return parseQuery(useUrl().query, context.now).moments[0]
}

/** If the search names a moment, says above the list what was going on then. */
export function Moment() {
  const { pulls, shape, counts } = useSnapshot()
  const samples = useSamples()
  const at = useMoment()
  // The map of pulls is changed in place. `shape` is incremented whenever the state or the pods of a pull change.
  const words = useMemo(
    () => at && momentWords(at, [...pulls.values()], samples),
    [at, pulls, shape, samples],
  )
  return words && counts ? <p className={shared.remark}>{words}</p> : null
}
