/** The logo: a ring around layers. */
export function Mark({ size = 30 }: { readonly size?: number }) {
  return (
    <svg aria-hidden="true" width={size} height={size} viewBox="0 0 32 32" fill="none">
      <circle cx="16" cy="16" r="13.5" stroke="var(--line-strong)" strokeWidth="2" />
      <path
        d="M16 2.5a13.5 13.5 0 0 1 13.5 13.5"
        stroke="var(--fill-blue)"
        strokeWidth="2.4"
        strokeLinecap="round"
      />
      <g strokeWidth="1.8" strokeLinejoin="round">
        <path d="m16 9 7 3.6-7 3.6-7-3.6Z" stroke="var(--fill-blue)" />
        <path d="m9 16.2 7 3.6 7-3.6" stroke="var(--fill-violet)" strokeLinecap="round" />
        <path d="m9 19.8 7 3.6 7-3.6" stroke="var(--fill-green)" strokeLinecap="round" />
      </g>
    </svg>
  )
}
