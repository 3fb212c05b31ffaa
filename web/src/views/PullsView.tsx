import { useMemo } from 'react'
import { DataTable } from '../components/DataTable'
import { isRestless, pullIds } from '../pullRows'
import { hasEnded, pullState, STATE_WORD } from '../pullState'
import { parseQuery } from '../query'
import { useNow, useSnapshot } from '../store/useStore'
import { toggleOpen } from '../urlState'
import { changeUrl, useUrl } from '../useUrl'
import type { Pull } from '../wire'
import { EmptyPulls } from './EmptyPulls'
import { PullDetail } from './PullDetail'
import styles from './PullsView.module.css'
import { PULL_COLUMNS } from './pullColumns'

export function PullsView() {
  const { pulls, shape } = useSnapshot()
  const { query, sort, open } = useUrl()
  const now = useNow()
  // Rows that change places under the eye are of no use: an order by moving figures is renewed once a second.
  const beat = isRestless(sort) ? now : 0
  const ids = useMemo(
    () => pullIds(pulls.values(), parseQuery(query), sort),
    [pulls, shape, beat, query, sort],
  )
  const rows = ids.flatMap(id => pulls.get(id) ?? [])
  if (rows.length === 0) return <EmptyPulls query={query} total={pulls.size} />
  return (
    <DataTable
      caption="Image pulls"
      columns={PULL_COLUMNS}
      className={styles.table}
      rows={rows}
      rowKey={({ id }) => id}
      rowLabel={label}
      rowClass={rowClass}
      sort={sort}
      onSort={next => changeUrl({ sort: next })}
      open={open}
      onToggle={id => changeUrl({ open: toggleOpen(open, id) })}
      detail={pull => <PullDetail pull={pull} />}
    />
  )
}

function label(pull: Pull): string {
  return `${pull.imageRef} on ${pull.nodeName}, ${STATE_WORD[pullState(pull)]}: layers and pods`
}

function rowClass(pull: Pull): string | undefined {
  return hasEnded(pull) && pull.status === 'completed' ? styles.over : undefined
}
