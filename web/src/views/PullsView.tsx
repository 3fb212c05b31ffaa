import { useMemo, useRef } from 'react'
import { DataTable } from '../components/DataTable'
import { MissingRows } from '../components/MissingRows'
import { isGroupKey } from '../model/failureGroups'
import { count } from '../model/format'
import { isRestless, type PullRow, pullRows } from '../model/pullRows'
import { pullState, STATE_WORD } from '../model/pullState'
import { parseQuery } from '../model/query'
import { useNow, useSnapshot } from '../store/useStore'
import { toggleOpen } from '../url/urlState'
import { changeUrl, useUrl } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import { EmptyPulls } from './EmptyPulls'
import { GroupDetail } from './GroupDetail'
import { PullDetail } from './PullDetail'
import styles from './PullsView.module.css'
import { imageCount, PULL_COLUMNS, type ShownRow } from './pullColumns'

export function PullsView() {
  const { pulls, shape, context, counts } = useSnapshot()
  const { query, sort, open } = useUrl()
  const now = useNow()
  // Rows that are sorted by changing figures are sorted again once a second, so that they do not move with every byte.
  const beat = isRestless(sort) ? now : 0
  const rows = useMemo(
    () => pullRows(pulls.values(), { query: parseQuery(query), sort, open }, context),
    [pulls, shape, beat, context, query, sort, open],
  )
  const shown = useShownRows(rows, pulls)
  const missing = counts === undefined ? [] : open.filter(key => !isGroupKey(key) && !pulls.has(key))
  return (
    <>
      <MissingRows keys={missing} what="pull" why="Ended pulls are kept for a limited time." />
      {shown.length === 0 ? (
        <EmptyPulls query={query} total={pulls.size} />
      ) : (
        <DataTable
          caption="Image pulls"
          columns={PULL_COLUMNS}
          className={styles.table}
          rows={shown}
          rowKey={({ key }) => key}
          rowLabel={label}
          rowClass={({ standing }) => (standing === 'past' ? styles.past : undefined)}
          sort={sort}
          onSort={next => changeUrl({ sort: next })}
          open={open}
          onToggle={id => changeUrl({ open: toggleOpen(open, id) })}
          detail={row => (row.ids.length > 1 ? <GroupDetail row={row} /> : <PullDetail row={row} />)}
        />
      )}
    </>
  )
}

/** The rows with the pulls of this frame; an unchanged row remains the same object. */
function useShownRows(rows: readonly PullRow[], pulls: ReadonlyMap<string, Pull>): readonly ShownRow[] {
  const last = useRef(new WeakMap<PullRow, ShownRow>())
  return rows.flatMap(row => {
    const before = last.current.get(row)
    if (before !== undefined && row.ids.every((id, at) => pulls.get(id) === before.pulls[at])) return before
    const found = row.ids.flatMap(id => pulls.get(id) ?? [])
    const [pull] = found
    if (pull === undefined) return []
    const shown = { ...row, pull, pulls: found }
    last.current.set(row, shown)
    return shown
  })
}

function label({ pull, pulls }: ShownRow): string {
  const state = STATE_WORD[pullState(pull)]
  if (pulls.length === 1) return `${pull.imageRef} on ${pull.nodeName}, ${state}: layers and pods`
  const images = imageCount(pulls)
  return `${images === 1 ? pull.imageRef : count(images, 'image')}, ${state}: ${count(pulls.length, 'pull')}`
}
