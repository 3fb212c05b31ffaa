import { Fragment, type ReactNode, useLayoutEffect, useRef, useState } from 'react'
import { classes } from '../classes'
import { type PullState, STATE_MEANING, STATE_WORD } from '../model/pullState'
import { KEYS as SEARCH_KEYS, STATUS_WORDS } from '../model/query'
import { bandColour, series } from '../model/throughput'
import { useSamples } from '../store/useStore'
import shared from '../styles/shared.module.css'
import rollout from '../views/Rollout.module.css'
import styles from './Help.module.css'
import { Icon } from './Icon'
import { GUESSED } from './ImageLabel'
import bars from './ProgressBar.module.css'
import { useShortcut } from './useShortcut'
import { LEGEND } from './Waterfall'
import phases from './Waterfall.module.css'

const STATES = Object.keys(STATE_WORD) as PullState[]

const MARKS: Entries = [
  [
    <span key="" className={shared.stalled}>
      2.9× usual 0:20
    </span>,
    <Fragment key="">
      slower than usual: the pull has taken 2.9 times as long as the median of pulls like this one (at least
      twice as long and 10 s longer); <code>status:slow</code> finds them
    </Fragment>,
  ],
  [
    <Fragment key="">
      <span className={shared.failed}>▲</span> <span className={shared.cancelled}>▲</span>
    </Fragment>,
    'in the chart: a pull failed, or was cancelled',
  ],
  [
    <span key="" className={shared.code}>
      nginx:1.29?
    </span>,
    GUESSED,
  ],
]

const KEYS: Entries = (
  [
    ['/', 'go to the search'],
    ['↑ ↓', 'move between rows, as do Page Up and Down, Home and End'],
    ['← → Enter', 'in the chart: choose a moment, list its pulls'],
    ['Enter, Space', 'open or close a row'],
    ['Esc', 'close the row, the list of problems, or this help'],
    ['?', 'show this help'],
  ] as const
).map(([key, does]) => [<kbd key="">{key}</kbd>, does])

type Legend = readonly (readonly [string | undefined, string])[]

const BARS: Legend = [
  [bars.fill, 'downloaded'],
  [bars.extracted, 'unpacked'],
  [bars.unknown, 'size not known yet'],
  [bars.stalled, 'stalled: no bytes are arriving'],
  [bars.done, 'done'],
  [bars.cancelled, 'cancelled'],
]

const ROLLOUT: Legend = [
  [rollout.done, 'done'],
  [rollout.pulling, 'pulling'],
  [rollout.queued, 'queued on the node'],
  [rollout.waiting, 'waiting: a pod needs the image, which is not queued yet'],
  [rollout.failed, 'failed, and a pod is waiting'],
  [rollout.stopped, 'stopped: cancelled, or failed without a waiting pod'],
]

const LAYERS: Legend = LEGEND.map(([phase, word]) => [phases[phase], word])

/** A legend for all colours and symbols, and the keyboard shortcuts. */
export function Help() {
  const dialog = useRef<HTMLDialogElement>(null)
  const [isOpen, setOpen] = useState(false)
  useShortcut('?', () => {
    if (dialog.current?.open === true) dialog.current.close()
    else setOpen(true)
  })
  // The content is rendered only when the dialog is opened, which makes the page load faster.
  useLayoutEffect(() => {
    if (isOpen) dialog.current?.showModal()
  }, [isOpen])
  const close = () => dialog.current?.close()
  return (
    <>
      <button
        type="button"
        className={shared.round}
        aria-label="Help: colours and keys"
        title="Help (?)"
        onClick={() => setOpen(true)}
      >
        <Icon name="help" size={18} />
      </button>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the browser closes a dialog on Esc */}
      <dialog
        ref={dialog}
        className={styles.dialog}
        aria-label="Help"
        onClick={event => event.target === dialog.current && close()}
        onClose={() => setOpen(false)}
      >
        {isOpen && <Content onClose={close} />}
      </dialog>
    </>
  )
}

function Content({ onClose }: { readonly onClose: () => void }) {
  return (
    <div className={styles.content}>
      <div className={shared.bar}>
        <h2 className={styles.title}>What you see</h2>
        <button type="button" className={shared.button} onClick={onClose}>
          Close
        </button>
      </div>
      <h3 className={shared.heading}>States</h3>
      <Terms
        entries={STATES.map(state => [
          <span key="" className={classes(styles.term, shared[state])}>
            <Icon name={state} /> {STATE_WORD[state]}
          </span>,
          STATE_MEANING[state],
        ])}
      />
      <h3 className={shared.heading}>Bars</h3>
      <p className={shared.dim}>The word below the bar names what limits the pull.</p>
      <Swatches legend={BARS} />
      <p className={shared.dim}>The bar of an image counts nodes:</p>
      <Swatches legend={ROLLOUT} />
      <p className={shared.dim}>An open row shows each layer as a lane, from the start of the pull:</p>
      <Swatches legend={LAYERS} />
      <p className={shared.dim}>The chart has one colour for each registry:</p>
      <Registries />
      <h3 className={shared.heading}>Marks</h3>
      <Terms entries={MARKS} />
      <h3 className={shared.heading}>Search</h3>
      <p className={shared.dim}>
        Words, or <code>{SEARCH_KEYS.map(key => `${key}:`).join(' ')}</code>. A status is one of{' '}
        <code>{STATUS_WORDS.join(' ')}</code>.
      </p>
      <h3 className={shared.heading}>Keys</h3>
      <Terms entries={KEYS} />
    </div>
  )
}

/** The registries in the chart. The samples are read only while the help is open. */
function Registries() {
  const lines = series(useSamples())
  return (
    <Terms
      isNarrow
      entries={lines.map(({ registry }) => [
        <i key="" className={phases.swatch} style={{ background: bandColour(registry) }} />,
        registry,
      ])}
    />
  )
}

function Swatches({ legend }: { readonly legend: Legend }) {
  return (
    <Terms
      isNarrow
      entries={legend.map(([look, meaning]) => [
        <i key="" className={classes(phases.swatch, look)} />,
        meaning,
      ])}
    />
  )
}

type Entries = readonly (readonly [ReactNode, ReactNode])[]

function Terms({ entries, isNarrow = false }: { readonly entries: Entries; readonly isNarrow?: boolean }) {
  return (
    <dl className={classes(styles.list, isNarrow && styles.lanes)}>
      {entries.map(([term, meaning], at) => (
        <div key={at}>
          <dt>{term}</dt>
          <dd>{meaning}</dd>
        </div>
      ))}
    </dl>
  )
}
