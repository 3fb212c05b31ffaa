/** The icons defined in index.html, and the logo. */
export type IconName =
  | 'failed'
  | 'stalled'
  | 'downloading'
  | 'resolving'
  | 'extracting'
  | 'cancelled'
  | 'unobserved'
  | 'help'
  | 'link'
  | 'queued'
  | 'done'
  | 'waiting'
  | 'lost'
  | 'search'
  | 'close'
  | 'chevron'
  | 'copy'
  | 'info'
  | 'theme'

/** Every icon accompanies a word or is in a labelled button, so icons are hidden from screen readers. */
export function Icon({ name, size = 16 }: { readonly name: IconName; readonly size?: number }) {
  return <Drawing id={`icon-${name}`} size={size} />
}

/** The logo: a ring around layers. */
export function Mark() {
  return <Drawing id="mark" size={30} />
}

function Drawing({ id, size }: { readonly id: string; readonly size: number }) {
  return (
    <svg className="icon" aria-hidden="true" width={size} height={size}>
      <use href={`#${id}`} />
    </svg>
  )
}
