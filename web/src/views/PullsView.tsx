import { useMemo, useRef } from 'react'
import { DataTable } from '../components/DataTable'
import { HiddenRows } from '../components/HiddenRows'
import { MissingRows } from '../components/MissingRows'
import { imageCount, isGroupKey } from '../model/failureGroups'
import { count } from '../model/format'
import { shortName } from '../model/limit'
import { attemptsAt } from '../model/moment'
import { isRestless, type PullRow, pullRows } from '../model/pullRows'
import { hasEnded, stateWord } from '../model/pullState'
import { parseQuery } from '../model/query'
import { useNow, useSnapshot } from '../store/useStore'
import { useUrl } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import { EmptyPulls } from './EmptyPulls'
import { GroupDetail } from './GroupDetail'
import { PullDetail } from './PullDetail'
import styles from './PullsView.module.css'
import { PULL_COLUMNS, type ShownRow } from './pullColumns'

export function PullsView() {
  const { pulls: all, first, shape, version, context, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  // In the default order, the first pulls can be shown before the whole list has arrived. The other rows are added below
  // them.
  const present = first !== undefined && sort === undefined && open.length === 0 ? first : all
  const parsed = useMemo(() => parseQuery(query, context.now), [query, context])
  const [moment] = parsed.moments
  // The map of pulls is modified in place. `version` is incremented whenever its contents change.
  const past = useMemo(
    () => moment && new Map(attemptsAt(present.values(), moment).map(pull => [pull.id, pull])),
    [present, version, moment],
  )
  const pulls = past || present
  const now = useNow()
  // If the rows are sorted by a value that changes constantly, they are re-sorted only once a second. Otherwise, the
  // rows would move whenever bytes arrive.
  const beat = isRestless(sort) ? now : 0
  const rows = useMemo(
    () => pullRows(pulls.values(), { query: parsed, sort, open }, context),
    [pulls, shape, beat, context, parsed, sort, open],
  )
  const shown = useShownRows(rows, pulls, moment)
  const shownIds = new Set(rows.flatMap(({ ids }) => ids))
  const hidden = open.flatMap(key => (shownIds.has(key) ? [] : (present.get(key) ?? [])))
  const missing = counts === undefined ? [] : open.filter(key => !isGroupKey(key) && !present.has(key))
  return (
    <>
      <MissingRows keys={missing} what="pull" why="Finished pulls are kept for a limited time." />
      <HiddenRows
        names={hidden.map(
          pull => `${shortName(pull)} on ${pull.nodeName} (${stateWord(pull).toLowerCase()})`,
        )}
      />
      {shown.length === 0 ? (
        <EmptyPulls query={query} total={all.size} />
      ) : (
        <DataTable
          caption="Image pulls"
          columns={PULL_COLUMNS}
          className={styles.table}
          rows={shown}
          rowKey={({ key }) => key}
          rowLabel={label}
          rowClass={({ standing }) => (standing === 'past' ? styles.past : undefined)}
          detail={row => (row.ids.length > 1 ? <GroupDetail row={row} /> : <PullDetail row={row} />)}
        />
      )}
    </>
  )
}

/** Returns each row with the state of its pulls as of this frame. If a row has not changed, its object is reused. */
function useShownRows(
  rows: readonly PullRow[],
  pulls: ReadonlyMap<string, Pull>,
  moment: number | undefined,
): readonly ShownRow[] {
  const last = useRef(new WeakMap<PullRow, ShownRow>())
  return rows.flatMap(row => {
    const before = last.current.get(row)
    if (before !== undefined && row.ids.every((id, at) => pulls.get(id) === before.pulls[at])) return before
    const found = row.ids.flatMap(id => pulls.get(id) ?? [])
    const pull = found.find(hasEnded) ?? found[0]
    if (pull === undefined) return []
    const shown = { ...row, pull, pulls: found, moment }
    last.current.set(row, shown)
    return shown
  })
}

function label({ pull, pulls }: ShownRow): string {
  const state = stateWord(pull)
  if (pulls.length === 1) return `${pull.imageRef} on ${pull.nodeName}, ${state}: layers and pods`
  const images = imageCount(pulls)
  return `${images === 1 ? pull.imageRef : count(images, 'image')}, ${state}: ${count(pulls.length, 'pull')}`
}
