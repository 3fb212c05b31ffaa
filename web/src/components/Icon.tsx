/** Line icons on a 16 px grid. Each icon is beside a word or in a labelled button, so screen readers skip it.
 * */
const PATHS = {
  failed: 'M8 2.2 14.6 13.6H1.4ZM8 6.6v3.2M8 11.6v.1',
  stalled: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM6.5 6v4M9.5 6v4',
  downloading: 'M8 2v8M4.8 7.2 8 10.4l3.2-3.2M2.5 13.6h11',
  resolving: 'M7 2.4a4.6 4.6 0 1 1 0 9.2 4.6 4.6 0 0 1 0-9.2ZM10.4 10.4l3.4 3.4',
  extracting: 'M8 1.8 14 5 8 8.2 2 5ZM2 8l6 3.2L14 8M2 11l6 3.2L14 11',
  cancelled: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM3.8 3.8l8.4 8.4',
  unobserved: 'M1.6 8S4 3.6 8 3.6 14.4 8 14.4 8 12 12.4 8 12.4 1.6 8 1.6 8ZM2.6 13.4 13.4 2.6',
  help: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM6.2 6.3a1.9 1.9 0 1 1 2.7 1.7c-.6.3-.9.6-.9 1.2M8 11.3v.1',
  link: 'M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2-2a2.6 2.6 0 0 0-3.7-3.7l-.8.8M9.2 6.8a2.6 2.6 0 0 0-3.7 0l-2 2a2.6 2.6 0 0 0 3.7 3.7l.8-.8',
  queued: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM8 4.6V8l2.4 1.6',
  done: 'M2.8 8.6 6.4 12l6.8-7.6',
  waiting: 'M4 2h8M4 14h8M4.8 2v2.4L8 8l3.2-3.6V2M4.8 14v-2.4L8 8l3.2 3.6V14',
  lost: 'M2.4 2.4l11.2 11.2M4.6 9.4A4.8 4.8 0 0 1 7 8.1M2.4 6.8A8 8 0 0 1 4.6 5.3M7.4 4.5a8 8 0 0 1 6.2 2.3M10.4 8.8a4.8 4.8 0 0 1 1 .6M8 12.4v.1',
  search: 'M7 2.4a4.6 4.6 0 1 1 0 9.2 4.6 4.6 0 0 1 0-9.2ZM10.4 10.4l3.4 3.4',
  close: 'M4 4l8 8M12 4l-8 8',
  chevron: 'M6 3.6 10.4 8 6 12.4',
  copy: 'M5.4 5.4h8.2v8.2H5.4ZM10.6 5.4V2.4H2.4v8.2h3',
  info: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM8 7.4v3.6M8 5.1v.1',
  theme: 'M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8Z',
} as const

export type IconName = keyof typeof PATHS

export function Icon({ name, size = 16 }: { readonly name: IconName; readonly size?: number }) {
  return (
    <svg
      aria-hidden="true"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
      strokeLinecap="round"
      strokeLinejoin="round"
      style={{ flex: 'none' }}
    >
      <path d={PATHS[name]} />
      {name === 'theme' && <path d="M8 1.8v12.4a6.2 6.2 0 0 0 0-12.4Z" fill="currentColor" stroke="none" />}
    </svg>
  )
}
