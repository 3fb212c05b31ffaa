/** A sortable table of any length. Only the visible rows are rendered, and the page itself scrolls rather than the
 * table. */
import {
  type KeyboardEvent,
  memo,
  type ReactNode,
  useCallback,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
} from 'react'
import { classes } from '../classes'
import { useSnapshot } from '../store/useStore'
import { pendingReveal } from '../url/reveal'
import { type Sort, sortOf, sortText } from '../url/urlState'
import { changeUrl, toggleRow, useUrl } from '../url/useUrl'
import styles from './DataTable.module.css'
import { Icon } from './Icon'
import { isShortcut } from './isShortcut'
import { useWindowRows } from './useWindowRows'

export interface Column<T> {
  readonly key: string
  readonly title: string
  /** Set for columns that contain numbers. The first click on their header sorts in descending order. */
  readonly align?: 'start' | 'end'
  readonly isSortable: boolean
  readonly cell: (row: T) => ReactNode
}

/** Returns a function that creates a view's columns. A column is sortable if `order` contains a comparison for it. */
export function columnsFor<T>(order: Readonly<Record<string, unknown>>) {
  return (key: string, title: string, cell: (row: T) => ReactNode, align?: Column<T>['align']): Column<T> => {
    return { key, title, cell, isSortable: Object.hasOwn(order, key), ...(align !== undefined && { align }) }
  }
}

/** Whether the click target is inside a control; clicking a control must not open the row. */
function isControl(target: EventTarget): boolean {
  return target instanceof Element && target.closest('button, a, input, select') !== null
}

interface Props<T> {
  readonly caption: string
  readonly columns: readonly Column<T>[]
  /** A CSS class that sets `--columns`. On narrow screens, it also positions the cells by their `data-column`. */
  readonly className: string | undefined
  readonly rows: readonly T[]
  readonly rowKey: (row: T) => string
  readonly rowLabel: (row: T) => string
  readonly rowClass?: (row: T) => string | undefined
  /** The heading of the row's group, which is shown above the first row of the group. */
  readonly heading?: (row: T) => string | undefined
  readonly detail: (row: T) => ReactNode
}

interface Item<T> {
  readonly row: T
  readonly key: string
  readonly isDetail: boolean
  readonly heading?: string
}

const ROW_HEIGHT = 44
const DETAIL_HEIGHT = 320
const PAGE_ROWS = 12
/** If a row is further down the window than this fraction of the window's height, its details would open out of
 * view. */
const VISIBLE_SHARE = 0.6
const HEAD_HEIGHT = 60

export function DataTable<T>(props: Props<T>) {
  const { columns, rows, rowKey } = props
  const { sort, open } = useUrl()
  const { connection, counts } = useSnapshot()
  const body = useRef<HTMLTableSectionElement>(null)
  const [top, setTop] = useState(0)
  const [active, setActive] = useState<string>()
  const focusNext = useRef(false)

  const items: Item<T>[] = []
  let activeIndex = -1
  let last: string | undefined
  for (const row of rows) {
    const key = rowKey(row)
    const heading = props.heading?.(row)
    if (heading !== undefined && heading !== last) items.push({ row, key: heading, isDetail: false, heading })
    last = heading
    if (key === active) activeIndex = items.length
    items.push({ row, key, isDetail: false })
    if (open.includes(key)) items.push({ row, key, isDetail: true })
  }

  const shown = useWindowRows({
    keys: items.map(itemKey),
    estimate: index => (items[index]?.isDetail === true ? DETAIL_HEIGHT : ROW_HEIGHT),
    kind: index => (items[index]?.isDetail === true ? 'detail' : 'row'),
    top,
    // The focused row stays rendered even when it is scrolled out of view, because it would otherwise lose the focus.
    keep: activeIndex,
  })

  // When anything above the table grows, the whole page grows, so it is enough to observe the size of the page.
  // Measuring on every render would force a layout four times a second.
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
    const { toggle } = event.target.dataset
    const key = toggle ?? event.target.closest<HTMLElement>('[data-detail]')?.dataset.detail
    const at = rows.findIndex(row => rowKey(row) === toggle)
    const to = at < 0 ? undefined : target(event.key, at, rows.length)
    if (to !== undefined) move(to)
    else if (event.key === 'Escape' && key !== undefined && open.includes(key)) onRow(key)
    else return
    event.preventDefault()
  }

  // The callback is always the same function, so unchanged rows are not rendered again. The row's button gets the
  // focus, so the keys also work after a click on another part of the row.
  const onRow = useCallback((key: string) => {
    focusNext.current = true
    setActive(key)
    toggleRow(key)
  }, [])

  // If the focus is elsewhere, Esc closes the row that was opened last. Other parts of the page handle the key before
  // it reaches the window.
  useEffect(() => {
    const onEscape = (event: globalThis.KeyboardEvent) => {
      const key = open.at(-1)
      if (key === undefined || event.defaultPrevented || !isShortcut(event, 'Escape')) return
      if (document.querySelector('dialog[open]') === null) onRow(key)
    }
    window.addEventListener('keydown', onEscape)
    return () => window.removeEventListener('keydown', onEscape)
  }, [open, onRow])

  // Scrolls to the row that a link or a "Show" button points to, as soon as the row exists.
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
      <SortChooser columns={columns} sort={sort} />
      <table
        className={styles.table}
        role="table"
        aria-label={props.caption}
        aria-rowcount={counts === undefined ? -1 : items.length + 1}
      >
        <thead role="rowgroup" className={styles.head}>
          <tr role="row" aria-rowindex={1} className={styles.row}>
            {columns.map(column => (
              <Header key={column.key} column={column} sort={sort} />
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
            const isWide = item.isDetail || item.heading !== undefined
            return isWide ? (
              <tr
                role="row"
                key={key}
                {...place}
                className={item.isDetail ? styles.detail : styles.heading}
                data-detail={item.isDetail ? item.key : undefined}
                // A click on the details leaves the focus in the row, so Esc closes the row.
                tabIndex={item.isDetail ? -1 : undefined}
              >
                <td role="cell" aria-colspan={columns.length + 1} colSpan={columns.length + 1}>
                  {item.heading ?? props.detail(item.row)}
                </td>
              </tr>
            ) : (
              // The button at the end of the row does the same for keyboard and screen reader users.
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

/** The index of the row to which a key moves the focus. */
function target(key: string, at: number, length: number): number | undefined {
  const targets: Readonly<Record<string, number>> = {
    ArrowDown: at + 1,
    ArrowUp: at - 1,
    PageDown: at + PAGE_ROWS,
    PageUp: at - PAGE_ROWS,
    Home: 0,
    End: length - 1,
  }
  return targets[key]
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

// The cast is necessary because `memo` loses the type parameter of a generic component.
const Cells: typeof CellsOf = memo(CellsOf) as unknown as typeof CellsOf

interface SortProps<T> {
  readonly columns: readonly Column<T>[]
  readonly sort: Sort | undefined
}

function Header<T>({ column, sort }: { readonly column: Column<T> } & Omit<SortProps<T>, 'columns'>) {
  const { key, title, align, isSortable } = column
  const sorted = sort?.column === key ? (sort.descending ? 'descending' : 'ascending') : undefined
  const next = nextSort(key, align !== undefined, sorted)
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
        <button type="button" className={styles.sort} onClick={() => changeUrl({ sort: next })}>
          <span className={styles.title}>
            {title}
            <span aria-hidden="true" className={styles.arrow}>
              {sorted === undefined ? '↕' : sorted === 'descending' ? '↓' : '↑'}
            </span>
          </span>
        </button>
      )}
    </th>
  )
}

/** Returns the sort order after another click on the column's header: one direction, then the other, then the view's
 * own order. On numeric columns, the first click sorts in descending order. */
function nextSort(
  column: string,
  figures: boolean,
  sorted: 'ascending' | 'descending' | undefined,
): Sort | undefined {
  if (sorted === undefined) return { column, descending: figures }
  return (sorted === 'descending') === figures ? { column, descending: !figures } : undefined
}

/** On narrow screens, the rows are cards and there is no header to click, so this menu sets the order. */
function SortChooser<T>({ columns, sort }: SortProps<T>) {
  return (
    <label className={styles.chooser}>
      Sort by
      <select
        value={sortText(sort)}
        onChange={event => {
          const chosen = event.target.value
          changeUrl({ sort: sortOf(chosen) })
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
