/** The view, search, order and open rows as the page's query string, so that a link shows a colleague the same view. */

export const VIEWS = ['pulls', 'pods', 'images', 'nodes'] as const
export type View = (typeof VIEWS)[number]

export interface Sort {
  readonly column: string
  readonly descending: boolean
}

export interface UrlState {
  readonly view: View
  readonly query: string
  /** Undefined for the view's own order. */
  readonly sort: Sort | undefined
  /** Ids of open rows, the most recently opened one last. */
  readonly open: readonly string[]
}

/** At most this many rows are open, because each one lengthens the stream's URL and is measured in the table. */
export const MOST_OPEN = 20

export function readUrl(search: string): UrlState {
  const params = new URLSearchParams(search)
  const sort = params.get('sort') ?? ''
  return {
    view: VIEWS.find(view => view === params.get('view')) ?? 'pulls',
    query: params.get('q') ?? '',
    sort: sort === '' ? undefined : { column: sort.replace(/^-/, ''), descending: sort.startsWith('-') },
    open: (params.get('open') ?? '').split(',').filter(Boolean).slice(-MOST_OPEN),
  }
}

/** Returns the query string with its `?`, or an empty string. Parameters with their default values are left out. */
export function writeUrl(state: UrlState): string {
  const params: string[] = []
  const add = (key: string, value: string) => {
    // Colons, commas and slashes are legal in a query, and keep links readable.
    if (value !== '')
      params.push(
        `${key}=${encodeURIComponent(value).replaceAll('%3A', ':').replaceAll('%2C', ',').replaceAll('%2F', '/')}`,
      )
  }
  add('view', state.view === 'pulls' ? '' : state.view)
  add('q', state.query)
  add('sort', state.sort === undefined ? '' : `${state.sort.descending ? '-' : ''}${state.sort.column}`)
  add('open', state.open.join(','))
  return params.length === 0 ? '' : `?${params.join('&')}`
}

export function toggleOpen(open: readonly string[], id: string): readonly string[] {
  return open.includes(id) ? open.filter(other => other !== id) : [...open, id].slice(-MOST_OPEN)
}
