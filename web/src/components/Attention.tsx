import { useEffect, useId, useMemo, useRef, useState } from 'react'
import { classes } from '../classes'
import { type Concern, concerns } from '../model/attention'
import { secondOfDay } from '../model/format'
import { useNow, useSnapshot } from '../store/useStore'
import shared from '../styles/shared.module.css'
import { showPulls, showView } from '../url/useUrl'
import styles from './Attention.module.css'
import { Icon } from './Icon'
import { Quiet } from './Quiet'

const NO_NODES = { nodes: [], unobserved: [] } as const

/** One line with the worst problem and the number of problems. Clicking this line opens the full list on top of the
 * page. */
export function Attention() {
  const { pulls, shape, nodes, context, counts, asOf } = useSnapshot()
  const present = useNow()
  const now = asOf ?? present
  const [isOpen, setIsOpen] = useState(false)
  const strip = useRef<HTMLElement>(null)
  const listId = useId()
  // The map of pulls is modified in place, so its identity does not change. `shape` is incremented whenever a pull's
  // state or pods change. Values derived from byte counts are updated once a second, whenever `now` is.
  const found = useMemo(
    () => concerns(pulls.values(), nodes ?? NO_NODES, context, now),
    [pulls, shape, nodes, context, now],
  )
  const [worst] = found
  const isShown = isOpen && worst !== undefined

  useEffect(() => {
    if (!isShown) return
    const onPointer = (event: PointerEvent) => {
      if (event.target instanceof Node && strip.current?.contains(event.target) !== true) setIsOpen(false)
    }
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return
      event.preventDefault()
      setIsOpen(false)
      strip.current?.querySelector('button')?.focus()
    }
    document.addEventListener('pointerdown', onPointer)
    document.addEventListener('keydown', onKey)
    return () => {
      document.removeEventListener('pointerdown', onPointer)
      document.removeEventListener('keydown', onKey)
    }
  }, [isShown])

  if (worst === undefined || counts === undefined) return <Quiet />
  return (
    <section ref={strip} className={styles.strip} aria-label="Needs attention">
      <button
        type="button"
        className={classes(styles.line, styles[worst.kind])}
        aria-expanded={isOpen}
        aria-controls={listId}
        onClick={() => setIsOpen(!isOpen)}
      >
        <Icon name={worst.kind} size={18} />
        <span className={styles.text}>
          <Sentence concern={worst} before={asOf === undefined ? '' : `As of ${secondOfDay(asOf)}: `} />
        </span>
        <span className={styles.count}>
          {found.length} <span>{found.length === 1 ? 'problem' : 'problems'}</span>
          <Icon name="chevron" size={12} />
        </span>
      </button>
      <ul id={listId} className={styles.list} hidden={!isOpen}>
        {isOpen &&
          found.map(concern => <Item key={concern.key} concern={concern} onShow={() => setIsOpen(false)} />)}
      </ul>
    </section>
  )
}

interface SentenceProps {
  readonly concern: Concern
  readonly before?: string
}

function Sentence({ concern: { subject, what, advice, retry }, before = '' }: SentenceProps) {
  // A long reference may wrap between its parts, but not within a name.
  const parts = subject.split(/(?<=[/:@])/).flatMap((part, at) => [part, <wbr key={at} />])
  return (
    <>
      <span className={styles.what}>
        <span className={shared.dim}>{before}</span>
        <bdi className={styles.subject}>{parts}</bdi>
        {what.startsWith(':') ? '' : ' '}
        {what}
      </span>{' '}
      {retry && <span className={styles.retry}>{retry}</span>} <span className={styles.advice}>{advice}</span>
    </>
  )
}

interface ItemProps {
  readonly concern: Concern
  readonly onShow: () => void
}

function Item({ concern, onShow }: ItemProps) {
  const { kind, subject, query, rowKey } = concern
  const show = () => {
    onShow()
    if (kind === 'lost') showView('nodes', query)
    else showPulls(query, rowKey)
  }
  return (
    <li className={classes(styles.item, styles[kind])}>
      <Icon name={kind} size={18} />
      <p className={styles.words}>
        <Sentence concern={concern} />
      </p>
      <button type="button" className={shared.link} onClick={show}>
        Show<span className="visually-hidden"> {subject}</span>
      </button>
    </li>
  )
}
