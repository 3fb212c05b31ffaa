/** Stores the view, search, order and open rows in the page's query string, so that a link shows a colleague the same
 * view. */

export const VIEWS = ['pulls', 'pods', 'images', 'nodes'] as const
export type View = (typeof VIEWS)[number]
/** The views whose rows combine many pulls. They show only the present. */
export const SUMMARIES: readonly View[] = ['images', 'nodes']

export interface Sort {
  readonly column: string
  readonly descending: boolean
}

export interface UrlState {
  readonly view: View
  readonly query: string
  /** The selected sort order; undefined for the view's default order. */
  readonly sort: Sort | undefined
  /** The ids of the open rows, with the most recently opened row last. */
  readonly open: readonly string[]
}

/** Maximum number of open rows. This limit bounds the length of the stream's URL and the number of rows to measure. */
export const MOST_OPEN = 20

export function readUrl(search: string): UrlState {
  const params = new URLSearchParams(search)
  return {
    view: VIEWS.find(view => view === params.get('view')) ?? 'pulls',
    query: params.get('q') ?? '',
    sort: sortOf(params.get('sort') ?? ''),
    open: (params.get('open') ?? '').split(',').filter(Boolean).slice(-MOST_OPEN),
  }
}

/** Returns the query string including its `?`, or an empty string. Parameters with default values are omitted. */
export function writeUrl(state: UrlState): string {
  const params: string[] = []
  const add = (key: string, value: string) => {
    // Colons, commas and slashes are legal in a query string and keep links readable.
    if (value !== '')
      params.push(`${key}=${encodeURIComponent(value).replace(/%(3A|2C|2F)/g, decodeURIComponent)}`)
  }
  add('view', state.view === 'pulls' ? '' : state.view)
  add('q', state.query)
  add('sort', sortText(state.sort))
  add('open', state.open.join(','))
  return params.length === 0 ? '' : `?${params.join('&')}`
}

/** `-size`; empty for the view's default order. */
export function sortText(sort: Sort | undefined): string {
  return sort === undefined ? '' : `${sort.descending ? '-' : ''}${sort.column}`
}

export function sortOf(text: string): Sort | undefined {
  return text === '' ? undefined : { column: text.replace(/^-/, ''), descending: text.startsWith('-') }
}

export function toggleOpen(open: readonly string[], id: string): readonly string[] {
  return open.includes(id) ? open.filter(other => other !== id) : [...open, id].slice(-MOST_OPEN)
}
