/** A sortable table of any length. Only the visible rows are rendered, and the page itself scrolls. */
import {
  type KeyboardEvent,
  memo,
  type ReactNode,
  useCallback,
  useLayoutEffect,
  useRef,
  useState,
} from 'react'
import { classes } from '../classes'
import { useSnapshot } from '../store/useStore'
import { pendingReveal } from '../url/reveal'
import type { Sort } from '../url/urlState'
import styles from './DataTable.module.css'
import { Icon } from './Icon'
import { useWindowRows } from './useWindowRows'

export interface Column<T> {
  readonly key: string
  readonly title: string
  readonly align?: 'end'
  readonly isSortable: boolean
  readonly cell: (row: T) => ReactNode
}

/** Makes the columns of a view. A column is sortable if the order has a comparison for it. */
export function columnsFor<T>(order: Readonly<Record<string, unknown>>) {
  return (key: string, title: string, cell: (row: T) => ReactNode, align?: 'end'): Column<T> => {
    return { key, title, cell, isSortable: Object.hasOwn(order, key), ...(align !== undefined && { align }) }
  }
}

/** A click on one of these elements does not open the row. */
function isControl(target: EventTarget): boolean {
  return target instanceof Element && target.closest('button, a, input, select') !== null
}

interface Props<T> {
  readonly caption: string
  readonly columns: readonly Column<T>[]
  /** A CSS class that sets `--columns` and, on narrow screens, the positions of the cells by `data-column`. */
  readonly className: string | undefined
  readonly rows: readonly T[]
  readonly rowKey: (row: T) => string
  readonly rowLabel: (row: T) => string
  readonly rowClass?: (row: T) => string | undefined
  readonly sort: Sort | undefined
  readonly onSort: (sort: Sort | undefined) => void
  readonly open: readonly string[]
  readonly onToggle: (key: string) => void
  readonly detail: (row: T) => ReactNode
}

interface Item<T> {
  readonly row: T
  readonly key: string
  readonly isDetail: boolean
}

const ROW_HEIGHT = 44
const DETAIL_HEIGHT = 320
const PAGE_ROWS = 12
/** The details of a row further down than this share of the window would be outside the window. */
const VISIBLE_SHARE = 0.6
const HEAD_HEIGHT = 60

export function DataTable<T>(props: Props<T>) {
  const { columns, rows, rowKey, open, onToggle, onSort, sort } = props
  const { connection } = useSnapshot()
  const body = useRef<HTMLTableSectionElement>(null)
  const [top, setTop] = useState(0)
  const [active, setActive] = useState<string>()
  const focusNext = useRef(false)

  const items: Item<T>[] = []
  let activeIndex = -1
  for (const row of rows) {
    const key = rowKey(row)
    if (key === active) activeIndex = items.length
    items.push({ row, key, isDetail: false })
    if (open.includes(key)) items.push({ row, key, isDetail: true })
  }

  const shown = useWindowRows({
    keys: items.map(itemKey),
    estimate: index => (items[index]?.isDetail === true ? DETAIL_HEIGHT : ROW_HEIGHT),
    kind: index => (items[index]?.isDetail === true ? 'detail' : 'row'),
    top,
    // The focused row stays rendered when the user scrolls it out of view; otherwise the focus would be lost.
    keep: activeIndex,
  })

  // The parts above the table can grow, and then the whole page grows. (Measuring on each render would force a layout
  // four times a second.)
  useLayoutEffect(() => {
    const measure = () =>
      setTop(Math.round((body.current?.getBoundingClientRect().top ?? 0) + window.scrollY))
    measure()
    const watcher = new ResizeObserver(measure)
    watcher.observe(document.body)
    return () => watcher.disconnect()
  }, [])

  useLayoutEffect(() => {
    if (!focusNext.current || active === undefined) return
    focusNext.current = false
    body.current
      ?.querySelector<HTMLElement>(`[data-toggle="${CSS.escape(active)}"]`)
      ?.focus({ preventScroll: true })
  })

  const move = (to: number) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, to))]
    if (row === undefined) return
    const key = rowKey(row)
    focusNext.current = true
    setActive(key)
    shown.scrollTo(items.findIndex(item => item.key === key))
  }

  const onKeyDown = (event: KeyboardEvent<HTMLElement>) => {
    if (!(event.target instanceof HTMLElement)) return
    const key = event.target.dataset.toggle
    if (key === undefined) {
      if (event.key === 'Escape') leaveDetail(event.target)
      return
    }
    const at = rows.findIndex(row => rowKey(row) === key)
    const to = target(event.key, at, rows.length)
    if (to !== undefined) move(to)
    else if (event.key === 'Escape' && open.includes(key)) onToggle(key)
    else return
    event.preventDefault()
  }

  const leaveDetail = (from: HTMLElement) => {
    const key = from.closest<HTMLElement>('[data-detail]')?.dataset.detail
    if (key === undefined) return
    onToggle(key)
    focusNext.current = true
    setActive(key)
  }

  // The function never changes, so that unchanged rows are not rendered again.
  const toggle = useRef(onToggle)
  toggle.current = onToggle
  const onRow = useCallback((key: string) => {
    setActive(key)
    toggle.current(key)
  }, [])

  // The page scrolls to a row that a link or a "Show" button names as soon as the row exists.
  useLayoutEffect(() => {
    const wanted = pendingReveal.key()
    const at = wanted === undefined ? -1 : items.findIndex(({ key }) => key === wanted)
    if (at < 0) return
    pendingReveal.countTry()
    const start = top + shown.start(at)
    const { scrollY, innerHeight } = window
    const isVisible = start >= scrollY && start <= scrollY + innerHeight * VISIBLE_SHARE
    if (isVisible && shown.indexes.includes(at)) pendingReveal.clear()
    else window.scrollTo({ top: Math.max(0, start - HEAD_HEIGHT) })
  })

  const firstKey = rows[0] === undefined ? undefined : rowKey(rows[0])
  const tabStop = activeIndex >= 0 ? active : firstKey

  return (
    <div className={classes(styles.frame, props.className, connection.kind === 'lost' && styles.stale)}>
      <SortChooser columns={columns} sort={sort} onSort={onSort} />
      <table
        className={styles.table}
        role="table"
        aria-label={props.caption}
        aria-rowcount={items.length + 1}
      >
        <thead role="rowgroup" className={styles.head}>
          <tr role="row" aria-rowindex={1} className={styles.row}>
            {columns.map(column => (
              <Header key={column.key} column={column} sort={sort} onSort={onSort} />
            ))}
            <th role="columnheader" scope="col">
              <span className="visually-hidden">Details</span>
            </th>
          </tr>
        </thead>
        <tbody
          role="rowgroup"
          ref={body}
          className={styles.body}
          style={{ height: shown.height }}
          onKeyDown={onKeyDown}
        >
          {shown.indexes.map(index => {
            const item = items[index]
            if (item === undefined) return null
            const key = itemKey(item)
            const style = { transform: `translateY(${shown.start(index)}px)` }
            const place = {
              'data-index': index,
              'data-row': key,
              'aria-rowindex': index + 2,
              ref: shown.measure,
              style,
            }
            return item.isDetail ? (
              <tr role="row" key={key} {...place} className={styles.detail} data-detail={item.key}>
                <td role="cell" aria-colspan={columns.length + 1} colSpan={columns.length + 1}>
                  {props.detail(item.row)}
                </td>
              </tr>
            ) : (
              // The button at the end of the row does the same for keyboards and screen readers.
              <tr
                role="row"
                key={key}
                {...place}
                data-open={open.includes(item.key) || undefined}
                onClick={event => {
                  if (!isControl(event.target)) onRow(item.key)
                }}
                className={classes(
                  styles.row,
                  styles.item,
                  open.includes(item.key) && styles.open,
                  props.rowClass?.(item.row),
                )}
              >
                <Cells
                  row={item.row}
                  columns={columns}
                  rowId={item.key}
                  label={props.rowLabel(item.row)}
                  isOpen={open.includes(item.key)}
                  isTabStop={item.key === tabStop}
                  onRow={onRow}
                />
              </tr>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}

function itemKey<T>({ key, isDetail }: Item<T>): string {
  return isDetail ? `${key} detail` : key
}

function target(key: string, at: number, length: number): number | undefined {
  switch (key) {
    case 'ArrowDown':
      return at + 1
    case 'ArrowUp':
      return at - 1
    case 'PageDown':
      return at + PAGE_ROWS
    case 'PageUp':
      return at - PAGE_ROWS
    case 'Home':
      return 0
    case 'End':
      return length - 1
    default:
      return undefined
  }
}

interface CellsProps<T> {
  readonly row: T
  readonly columns: readonly Column<T>[]
  readonly rowId: string
  readonly label: string
  readonly isOpen: boolean
  readonly isTabStop: boolean
  readonly onRow: (key: string) => void
}

function CellsOf<T>({ row, columns, rowId, label, isOpen, isTabStop, onRow }: CellsProps<T>) {
  return (
    <>
      {columns.map(({ key, align, cell }) => (
        <td key={key} role="cell" data-column={key} className={align === 'end' ? styles.end : undefined}>
          {cell(row)}
        </td>
      ))}
      <td role="cell" data-column="toggle">
        <button
          type="button"
          className={styles.toggle}
          data-toggle={rowId}
          aria-expanded={isOpen}
          aria-label={label}
          tabIndex={isTabStop ? 0 : -1}
          onClick={() => onRow(rowId)}
        >
          <Icon name="chevron" size={14} />
        </button>
      </td>
    </>
  )
}

// `memo` loses the type parameter.
const Cells: typeof CellsOf = memo(CellsOf) as unknown as typeof CellsOf

interface SortProps<T> {
  readonly columns: readonly Column<T>[]
  readonly sort: Sort | undefined
  readonly onSort: (sort: Sort | undefined) => void
}

function Header<T>({ column, sort, onSort }: { readonly column: Column<T> } & Omit<SortProps<T>, 'columns'>) {
  const { key, title, align, isSortable } = column
  const sorted = sort?.column === key ? (sort.descending ? 'descending' : 'ascending') : undefined
  const next = nextSort(key, align === 'end', sorted)
  return (
    <th
      role="columnheader"
      scope="col"
      data-column={key}
      aria-sort={sorted ?? (isSortable ? 'none' : undefined)}
      className={align === 'end' ? styles.end : undefined}
    >
      {!isSortable ? (
        title
      ) : (
        <button type="button" className={styles.sort} onClick={() => onSort(next)}>
          {title}
          <span aria-hidden="true" className={styles.arrow}>
            {sorted === undefined ? '' : sorted === 'descending' ? '↓' : '↑'}
          </span>
        </button>
      )}
    </th>
  )
}

/** Sorts in one direction, then in the other, then in the view's own order. Numbers are first sorted in descending
 * order. */
function nextSort(
  column: string,
  figures: boolean,
  sorted: 'ascending' | 'descending' | undefined,
): Sort | undefined {
  if (sorted === undefined) return { column, descending: figures }
  const second = figures ? 'ascending' : 'descending'
  return sorted === second ? undefined : { column, descending: !figures }
}

/** On narrow screens, rows are cards without a header to click, so this sets the order. */
function SortChooser<T>({ columns, sort, onSort }: SortProps<T>) {
  return (
    <label className={styles.chooser}>
      Sort by
      <select
        value={sort === undefined ? '' : `${sort.descending ? '-' : ''}${sort.column}`}
        onChange={event => {
          const chosen = event.target.value
          onSort(
            chosen === ''
              ? undefined
              : { column: chosen.replace(/^-/, ''), descending: chosen.startsWith('-') },
          )
        }}
      >
        <option value="">what needs attention</option>
        {columns
          .filter(({ isSortable }) => isSortable)
          .flatMap(({ key, title }) => [
            <option key={key} value={key}>{`${title} ↑`}</option>,
            <option key={`-${key}`} value={`-${key}`}>{`${title} ↓`}</option>,
          ])}
      </select>
    </label>
  )
}
